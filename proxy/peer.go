package proxy

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"time"
)

// introTime is how long a peer has for its PROXY header: it has it ready when it
// connects.
const introTime = 10 * time.Second

// introduce reads whom the peer speaks for, where it is one that speaks for
// others. Nobody else is believed, and of those that are nobody may omit it: who
// gets past the balancer to us must not be taken for it.
func (s *session) introduce() bool {
	peer := s.facts.Client.Addr()
	if isTrusted(s.set.ProxyProtocol, peer) {
		deadline := time.Now().Add(min(introTime, s.set.Limits.CommandTimeout))
		origin, err := readProxyHeader(func(n int) ([]byte, error) { return s.exactly(n, deadline) })
		if err != nil {
			s.unintroduced(err)
			return false
		}
		if !s.becomes(origin, peer) {
			return false
		}
	}
	s.vouches = isTrusted(s.set.XClient, s.facts.Client.Addr()) && !s.isNobody()
	return true
}

// unintroduced ends a connection without a word: what is at its other end does
// not speak SMTP yet.
func (s *session) unintroduced(err error) {
	s.closing = true
	if errors.Is(err, io.EOF) || errors.Is(err, errStopping) {
		s.log.Debug("closed", "client", s.client, "cause", "no PROXY header", "error", err)
		return
	}
	s.deps.Stats.Connection(s.set.Name, connRejected)
	s.log.Warn("closed", "client", s.client, "cause", "no PROXY header", "error", err)
}

// becomes makes the session that of another client, for whom peer speaks. An
// address that is not valid means that nobody can tell: it is then the peer's,
// and nobody is trusted for it.
func (s *session) becomes(client netip.AddrPort, peer netip.Addr) bool {
	s.facts.Proxied = peer
	if client.IsValid() {
		s.facts.Client = client
	} else {
		s.facts.Client = netip.AddrPortFrom(peer, 0)
	}
	addr := s.facts.Client.Addr()
	s.facts.Trusted = !s.isNobody() && isTrusted(s.set.Trusted, addr)
	s.facts.Name, s.facts.PTR, s.facts.Resolve = "", "", ""
	s.client = clientName("", addr)
	if result := s.places.move(s.place, addr, s.facts.Trusted || s.isNobody(), s.set.Limits); result != connAccepted {
		s.deps.Stats.Connection(s.set.Name, result)
		s.noteRefused(addr, result)
		if s.closing = true; s.set.Role != Submissions || s.facts.TLS != nil {
			s.hangUp(closing("3.2", "too many connections"))
		}
		return false
	}
	s.place = addr
	return true
}

// isNobody reports whether a peer spoke, but could not say for whom.
func (s *session) isNobody() bool {
	return s.facts.Proxied.IsValid() && s.facts.Proxied == s.facts.Client.Addr()
}

// lookUp finds what is known of the address of the client. known means that
// somebody has told its name.
func (s *session) lookUp(ctx context.Context, known bool) {
	addr := s.facts.Client.Addr()
	if !known {
		s.facts.Name, s.facts.PTR, s.facts.Resolve = s.deps.Resolver.Client(ctx, addr)
	}
	s.client = clientName(s.facts.Name, addr)
	s.facts.Window = s.windowOpen(ctx)
}

// windowTime is how long a client may wait for the look-up of its window.
const windowTime = 2 * time.Second

// windowOpen reports whether the client may relay for now because it read its
// mail. On a submission listener that helps nobody, so it isn't asked.
func (s *session) windowOpen(ctx context.Context) bool {
	if s.deps.Windows == nil || s.facts.Role == "submission" || s.isNobody() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, windowTime)
	defer cancel()
	return s.deps.Windows.Open(ctx, s.facts.Client.Addr())
}

// checkPeers refuses to believe everybody.
func (c Config) checkPeers(bad func(format string, args ...any)) {
	for key, list := range map[string][]netip.Prefix{"proxy_protocol": c.ProxyProtocol, "xclient": c.XClient} {
		for i, p := range list {
			if p.Bits() == 0 {
				bad("%s[%d]: %q is everybody: anybody could say that he is one of yours; name the peers", key, i, p.String())
			}
		}
	}
}
