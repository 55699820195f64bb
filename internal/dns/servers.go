package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	wire "github.com/miekg/dns"
)

// serverAddress reads "192.0.2.1", "192.0.2.1:53", "2001:db8::1" and
// "[2001:db8::1]:53".
func serverAddress(s string) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53).String(), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Port() == 0 {
		return "", fmt.Errorf("%q: want an address and a port, like 127.0.0.1:53", s)
	}
	return ap.String(), nil
}

// servers are the resolvers there are now.
type servers struct {
	cfg   ClientConfig
	first atomic.Int32 // the one that answered last

	mu      sync.Mutex
	looked  time.Time // at resolv.conf
	changed time.Time // resolv.conf, as we know it
	list    []string
	trusted bool
}

// lookEvery is how often resolv.conf is looked at.
const lookEvery = 5 * time.Second

// current returns the resolvers, the one that answered last first, and whether
// their word on DNSSEC counts.
func (s *servers) current() (list []string, trusted bool) {
	if len(s.cfg.Servers) > 0 {
		list, trusted = s.cfg.Servers, s.cfg.TrustedAD
	} else {
		list, trusted = s.system()
	}
	at := int(s.first.Load())
	if at <= 0 || at >= len(list) {
		return list, trusted
	}
	return append(slices.Clone(list[at:]), list[:at]...), trusted
}

// answered notes who did.
func (s *servers) answered(server string) {
	list := s.cfg.Servers
	if len(list) == 0 {
		s.mu.Lock()
		list = s.list
		s.mu.Unlock()
	}
	if at := slices.Index(list, server); at >= 0 {
		s.first.Store(int32(at))
	}
}

// system reads resolv.conf when it has changed. Without one it is the resolver
// on this host, as resolv.conf(5) says.
func (s *servers) system() ([]string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list != nil && time.Since(s.looked) < lookEvery {
		return s.list, s.trusted
	}
	s.looked = time.Now()
	info, err := os.Stat(s.cfg.ResolvConf)
	if err == nil && s.list != nil && info.ModTime().Equal(s.changed) {
		return s.list, s.trusted
	}
	text, err := os.ReadFile(s.cfg.ResolvConf)
	if err != nil {
		text = nil
	} else {
		s.changed = info.ModTime()
	}
	list, trusted := parseResolvConf(string(text))
	s.list, s.trusted = list, trusted || s.cfg.TrustedAD
	return s.list, s.trusted
}

// maxServers of resolv.conf count, as for the C library.
const maxServers = 3

// parseResolvConf takes the servers, and "trust-ad" where they are all on
// loopback.
func parseResolvConf(text string) (list []string, trusted bool) {
	local, trust := true, false
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) < 2:
		case words[0] == "nameserver" && len(list) < maxServers:
			address, err := serverAddress(words[1])
			if err != nil {
				continue
			}
			list = append(list, address)
			local = local && netip.MustParseAddrPort(address).Addr().IsLoopback()
		case words[0] == "options":
			trust = trust || slices.Contains(words[1:], "trust-ad")
		}
	}
	if len(list) == 0 {
		list = []string{"127.0.0.1:53"}
	}
	return list, local && trust
}

// udpSize is what fits every path without fragments (DNS flag day 2020).
const udpSize = 1232

// ask asks one server after the other until one answers.
func (c *Client) ask(ctx context.Context, q question) (reply, error) {
	r, err := c.askAll(ctx, q)
	if c.cfg.Asked != nil {
		c.cfg.Asked(wire.TypeToString[q.kind], resultOf(r, err))
	}
	return r, err
}

// resultOf is the word of ClientConfig.Asked.
func resultOf(r reply, err error) string {
	var slow interface{ Timeout() bool }
	switch {
	case err == nil && (r.none || len(r.records) == 0):
		return "none"
	case err == nil:
		return "ok"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return "timeout"
	}
	return "failed"
}

func (c *Client) askAll(ctx context.Context, q question) (reply, error) {
	var last error
	for range c.cfg.Attempts {
		list, trusted := c.servers.current()
		for _, server := range list {
			m, err := c.exchange(ctx, server, q, trusted)
			if err == nil {
				c.servers.answered(server)
				return understand(q, m, trusted, c.cfg.MaxTTL), nil
			}
			if last = fmt.Errorf("dns: %v: %s: %w", q, server, reason(err)); ctx.Err() != nil {
				return reply{}, last
			}
		}
	}
	return reply{}, last
}

// exchange asks one server: over UDP, over TCP where the answer does not fit,
// and without EDNS where that is not understood (RFC 6891 6.2.2).
func (c *Client) exchange(ctx context.Context, server string, q question, dnssec bool) (*wire.Msg, error) {
	ask := new(wire.Msg)
	ask.SetQuestion(q.name, q.kind)
	ask.AuthenticatedData = dnssec // RFC 6840 5.7
	ask.SetEdns0(udpSize, dnssec)
	m, err := c.once(ctx, "udp", server, ask)
	if err == nil && m.Rcode == wire.RcodeFormatError {
		ask.Extra = nil
		m, err = c.once(ctx, "udp", server, ask)
	}
	if err == nil && m.Truncated {
		m, err = c.once(ctx, "tcp", server, ask)
	}
	switch {
	case err != nil:
		return nil, err
	case m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError:
		return nil, errors.New(wire.RcodeToString[m.Rcode])
	case m.Truncated:
		return nil, errors.New("the answer is cut off")
	}
	return m, nil
}

// once sends a question over a socket of its own: each has a port that nobody
// can guess.
func (c *Client) once(ctx context.Context, network, server string, ask *wire.Msg) (*wire.Msg, error) {
	ask.Id = wire.Id()
	client := wire.Client{Net: network, UDPSize: udpSize, Timeout: c.cfg.Timeout, Dialer: &net.Dialer{Timeout: c.cfg.Timeout}}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	m, _, err := client.ExchangeWithConnContext(ctx, ask, conn)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err() // the connection was closed for it
	}
	if err != nil {
		return nil, err
	}
	if !answers(m, ask) {
		return nil, errors.New("the answer is to another question")
	}
	return m, nil
}

func answers(m, ask *wire.Msg) bool {
	if !m.Response || m.Opcode != wire.OpcodeQuery {
		return false
	}
	if len(m.Question) == 0 { // of an error some leave it out
		return m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError
	}
	got, want := m.Question[0], ask.Question[0]
	return len(m.Question) == 1 && strings.EqualFold(got.Name, want.Name) && got.Qtype == want.Qtype && got.Qclass == want.Qclass
}

func reason(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return errors.New("no answer in time")
	}
	return err
}

// Servers are the addresses of those that are asked, the one that answered last
// first.
func (c *Client) Servers() []string {
	list, _ := c.servers.current()
	return list
}
