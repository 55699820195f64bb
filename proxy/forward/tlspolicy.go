package forward

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
)

// security is how well a connection must be, or is, protected, and whether it
// speaks for a client (XCLIENT). It can be compared: a kept connection serves
// only a hop that wants the very same.
type security struct {
	tls        TLS    // none, opportunistic, required, verify, mta-sts, dane
	names      string // that the certificate may be for, the first is asked for; separated by blanks
	tlsa       string // of dane: the usable records; "": encrypt, whatever the certificate
	tested     bool   // what MTA-STS in testing would say is logged
	introduced bool
}

func (w security) must() bool { return w.tls != TLSNone && w.tls != TLSOpportunistic }

// wanted decides how this hop is to be protected.
func (h hop) wanted(ctx context.Context, t *transaction) (security, *failure) {
	want, failed := h.policy(ctx, t)
	if want.names == "" {
		want.names = h.name
	}
	if want.tls == TLSOpportunistic && h.implicitTLS {
		want.tls = TLSRequired // there is no clear text to fall back to
	}
	want.introduced = h.introduces(t.facts)
	return want, failed
}

func (h hop) policy(ctx context.Context, t *transaction) (security, *failure) {
	if !h.tls.asksDNS() {
		return security{tls: h.tls}, nil
	}
	if _, err := netip.ParseAddr(h.name); err == nil {
		return security{tls: TLSOpportunistic}, nil // an address has no policy
	}
	if h.resolver == nil {
		return security{}, noPolicy("there is no DNS resolver to ask for the policy of %s", h.name)
	}
	if t.tlsOptional() {
		return security{tls: TLSOpportunistic}, nil
	}
	if h.tls != TLSSTS {
		// DANE comes first: MTA-STS must not make up for a failure of it
		// (RFC 8461 2).
		if want, failed := h.dane(ctx); failed != nil || want.tls == TLSDANE {
			return want, failed
		}
	}
	if h.tls != TLSDANE && h.domain != "" {
		return h.mtaSTS(ctx)
	}
	return security{tls: TLSOpportunistic}, nil
}

// asksDNS reports a policy that the recipient's domain makes.
func (t TLS) asksDNS() bool { return t == TLSSTS || t == TLSDANE || t == TLSAuto }

// dane looks for TLSA records, where DNSSEC vouches for the way to the host
// (RFC 7672 2.2).
func (h hop) dane(ctx context.Context) (security, *failure) {
	opportunistic := security{tls: TLSOpportunistic}
	canonical, secure := h.canonical, h.secure
	if h.domain == "" {
		host, authentic, err := h.resolver.LookupHost(ctx, h.name)
		if err != nil && !errors.Is(err, dns.ErrNoName) {
			return security{}, noPolicy("addresses of %s: %v", h.name, err)
		}
		canonical, secure = host.Name, authentic
	}
	if !secure {
		return opportunistic, nil
	}
	names := []string{h.name}
	if canonical != "" && canonical != h.name {
		names = []string{canonical, h.name} // RFC 7672 2.2.3
	}
	base, records, err := tlsaOf(ctx, h.resolver, h.portNumber(), names...)
	switch {
	case err != nil:
		return security{}, noPolicy("TLSA records of _%s._tcp.%s: %v; without an answer nothing may be sent there (RFC 7672)", h.port, h.name, err)
	case base == "":
		return opportunistic, nil
	}
	// RFC 7672 3.2.2: the name of the records and, found by MX, of the domain.
	return security{tls: TLSDANE, tlsa: packTLSA(usableTLSA(records)), names: strings.TrimSuffix(base+" "+h.domain, " ")}, nil
}

// mtaSTS asks the domain's policy.
func (h hop) mtaSTS(ctx context.Context) (security, *failure) {
	p, err := h.sts.policy(ctx, h.stsSource, h.domain)
	switch {
	case err != nil:
		return security{}, interrupted()
	case p.mode == stsEnforce && !p.allows(h.name):
		return security{}, noPolicy("%s is not among the MX hosts of the MTA-STS policy of %s: %s", h.name, h.domain, strings.Join(p.mx, ", "))
	case p.mode == stsEnforce:
		return security{tls: TLSSTS, names: h.name}, nil
	case p.mode == stsTesting && !p.allows(h.name):
		h.sts.log.WarnContext(ctx, "MTA-STS in testing: the MX host is not in the policy", "domain", h.domain, "host", h.name)
	case p.mode == stsTesting:
		return security{tls: TLSOpportunistic, names: h.name, tested: true}, nil
	}
	return security{tls: TLSOpportunistic}, nil
}

// noPolicy is a host that can't be used as the policy of its domain stands.
func noPolicy(format string, args ...any) *failure {
	return &failure{reply: mail.Reply{Code: 451, Detail: "7.5", Text: fmt.Sprintf(format, args...)}}
}

// suits finds targets that a policy makes no sense for.
func (s settings) suits(targets []target) error {
	mx, local, address := false, false, false
	for _, t := range targets {
		mx = mx || t.mx
		local = local || t.network == "unix"
		_, err := netip.ParseAddr(t.name)
		address = address || err == nil
		if t.implicitTLS && s.tls == TLSNone {
			return errors.New(`tls: "none" can't be with smtps; use smtp, or set tls = "required" or "verify"`)
		}
	}
	switch {
	case len(targets) == 0 || !targets[0].refuse.IsZero():
	case (s.tls == TLSSTS || s.tls == TLSAuto) && !mx:
		return fmt.Errorf(`tls: %q asks the policy of a domain for its MX hosts, and this route names its hosts; set to = "mx", or tls = "verify"`, s.tls)
	case s.tls == TLSDANE && address:
		return errors.New(`tls: "dane" needs the host's name, an address has no TLSA records`)
	case (s.tls == TLSVerify || s.tls == TLSDANE) && local:
		return fmt.Errorf(`tls: %q can't be with a unix socket, which has no name`, s.tls)
	}
	return nil
}
