// Package auth finds out who a message is from: the client's name (iprev), the
// envelope sender (SPF, RFC 7208), the signatures (DKIM, RFC 6376), the author
// (DMARC, RFC 9989), and what those say who passed it on (ARC, RFC 8617).
//
// # Findings
//
//   - iprev and spf at MAIL; dkim (one for each signature), arc and dmarc at the
//     message. Value is the result in the words of RFC 8601, Text its properties.
//   - from: the From fields are not what they should be. Value: missing,
//     duplicate, several, group, malformed, spaced, folded, encoded, or display
//     where the name that is shown has the domain of somebody else. Such a
//     message, display apart, never has dmarc=pass.
//
// What the servers of a domain don't answer is temperror, never more: what
// becomes of it is for the policy to say.
//
// # What it costs
//
// Nothing is asked, and no sum done, before the limits hold: ten signatures, 200
// names in one h=, keys of 4096 bits. For one mail SPF asks 40 questions at
// most, DKIM one for each signature, ARC two for each of its sealers, DMARC eight
// for the author and six for each signature of his organization.
package auth

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/internal/dmarc"
	"gatepost/internal/mail"
	"gatepost/internal/spf"
)

const name = "auth"

// Resolver answers what is asked. *dns.Client is one.
type Resolver interface{ spf.Resolver }

// Deps is what the filter works with.
type Deps struct {
	Resolver Resolver
	Now      func() time.Time // nil: time.Now
}

// Filter authenticates senders.
type Filter struct {
	cfg  Config
	deps Deps
}

// New checks the configuration. It does no I/O.
func New(cfg Config, deps Deps) (*Filter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Filter{cfg: cfg, deps: deps}, nil
}

// grace is what the filter has beyond its own timeout, to say what it knows.
const grace = 10 * time.Second

// Step puts the filter into its place, with the limits of its configuration.
func (f *Filter) Step() filters.Step {
	return filters.Step{
		Name: name, Filter: f, Timeout: f.cfg.Timeout + grace, OnError: f.cfg.OnError, MaxConcurrent: f.cfg.MaxConcurrent,
		Stages: []mail.Stage{mail.StageMail, mail.StageMessage},
	}
}

// Check authenticates the envelope at MAIL, and the rest at the message.
func (f *Filter) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	var r filters.Report
	if !f.cfg.CheckOurs && tx.Session.Via != mail.ViaScan && (tx.Session.IsOurs() || tx.Session.IsLocal()) {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	if tx.Stage == mail.StageMail || len(tx.Find(mail.FindingSPF)) == 0 {
		r.Findings = append(r.Findings, f.envelope(ctx, tx)...)
	}
	if tx.Stage != mail.StageMessage {
		return r, nil
	}
	found, err := f.message(ctx, tx, append(tx.Find(mail.FindingSPF), r.Findings...))
	if err != nil {
		return filters.Report{}, fmt.Errorf("%s: %w", name, err)
	}
	r.Findings = append(r.Findings, found...)
	return r, nil
}

// envelope finds out who the client and the sender are.
func (f *Filter) envelope(ctx context.Context, tx *mail.Transaction) (found []mail.Finding) {
	s := tx.Session
	if v := iprev(s.Resolve); v != "" && s.Addr().IsValid() {
		found = append(found, mail.Finding{Name: mail.FindingIPRev, Value: v, Text: properties("policy.iprev", s.Addr().String())})
	}
	res := spf.Check(ctx, f.deps.Resolver, s.Addr(), s.Helo, tx.Envelope.Sender.Address)
	if res.Domain == "" && !s.Addr().IsValid() {
		return found
	}
	kind := "smtp.mailfrom"
	if res.Helo {
		kind = "smtp.helo"
	}
	return append(found, mail.Finding{Name: mail.FindingSPF, Value: res.Value, Text: properties(kind, res.Domain), Score: f.cfg.Score.spf(res.Value)})
}

// iprev is the result of a look-up that was already done (RFC 8601 3).
func iprev(r mail.Resolve) string {
	switch r {
	case mail.ResolveOK:
		return mail.AuthPass
	case mail.ResolveForged:
		return mail.AuthFail
	case mail.ResolveFail:
		return mail.AuthPermError
	case mail.ResolveTemp:
		return mail.AuthTempError
	}
	return ""
}

func (s Scores) spf(value string) float64 {
	switch value {
	case mail.AuthPass:
		return s.SPFPass
	case mail.AuthFail:
		return s.SPFFail
	case mail.AuthSoftFail:
		return s.SPFSoftFail
	case mail.AuthNone:
		return s.SPFNone
	case mail.AuthPermError:
		return s.SPFPermError
	}
	return 0
}

// isForwarder reports whether a client passes mail on for us.
func (f *Filter) isForwarder(client netip.Addr) bool {
	for _, n := range f.cfg.Forwarders {
		if n.Contains(client) {
			return true
		}
	}
	return false
}

// trusts reports whether a sealer's word is taken.
func (f *Filter) trusts(domain string) bool {
	for _, s := range f.cfg.TrustedSealers {
		s = strings.ToLower(strings.TrimSuffix(s, "."))
		if below, all := strings.CutPrefix(s, "."); all && strings.HasSuffix(domain, "."+dmarc.ASCII(below)) || !all && domain == dmarc.ASCII(s) && domain != "" {
			return true
		}
	}
	return false
}
