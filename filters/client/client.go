// Package client looks at what a client says of itself: its HELO name, the name
// of its address, and whether it waits for the greeting. It asks nobody; each
// oddity has a score.
//
// # Findings
//
//   - client: Value: helo-ours (it says that it is us), helo-no-dot,
//     helo-bare-address (an address without brackets), helo-literal (an address
//     in brackets), helo-literal-mismatch (another's), no-ptr (its address has no
//     name), forged-ptr (the name leads elsewhere), pregreet (it talked before the
//     banner; see pregreet = "score" of a listener).
//
// Clients that are no strangers are not looked at: mail programs say anything.
package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"gatepost/filters"
	"gatepost/internal/mail"
)

// Config of the filter: the scores of oddities, 0 to leave one out, and what
// else is ours.
type Config struct {
	HeloOurs            float64 `toml:"helo_ours"`             // default 5
	HeloNoDot           float64 `toml:"helo_no_dot"`           // default 2
	HeloBareAddress     float64 `toml:"helo_bare_address"`     // default 2
	HeloLiteral         float64 `toml:"helo_literal"`          // default 1
	HeloLiteralMismatch float64 `toml:"helo_literal_mismatch"` // default 3
	NoPTR               float64 `toml:"no_ptr"`                // default 2
	ForgedPTR           float64 `toml:"forged_ptr"`            // default 1
	Pregreet            float64 `toml:"pregreet"`              // default 4

	// Names are ours besides the hostname of the gateway: "example.com",
	// ".example.com" for all below it.
	Names []string `toml:"names"`
	// Addresses are ours: who says HELO [192.0.2.25] and comes from elsewhere
	// is helo-ours.
	Addresses []netip.Addr `toml:"addresses"`

	Hostname string `toml:"-"`
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{
		HeloOurs: 5, HeloNoDot: 2, HeloBareAddress: 2, HeloLiteral: 1, HeloLiteralMismatch: 3, NoPTR: 2, ForgedPTR: 1, Pregreet: 4,
	}
}

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	for _, s := range []struct {
		key   string
		value float64
	}{
		{"helo_ours", c.HeloOurs}, {"helo_no_dot", c.HeloNoDot}, {"helo_bare_address", c.HeloBareAddress}, {"helo_literal", c.HeloLiteral},
		{"helo_literal_mismatch", c.HeloLiteralMismatch}, {"no_ptr", c.NoPTR}, {"forged_ptr", c.ForgedPTR}, {"pregreet", c.Pregreet},
	} {
		if math.IsNaN(s.value) || s.value < 0 || s.value > 1000 {
			errs = append(errs, fmt.Errorf("%s: %v; want 0 to 1000", s.key, s.value))
		}
	}
	for i, n := range c.Names {
		if _, err := mail.ParseDomain(strings.TrimPrefix(n, ".")); err != nil {
			errs = append(errs, fmt.Errorf("names[%d]: %q is no domain; write example.com, or .example.com for all below it", i, mail.CleanText(n)))
		}
	}
	return errors.Join(errs...)
}

// Filter looks at clients.
type Filter struct {
	cfg   Config
	names []string
}

// New checks the configuration. It does no I/O.
func New(cfg Config) (*Filter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	f := &Filter{cfg: cfg}
	for _, n := range append(slices.Clone(cfg.Names), cfg.Hostname) {
		if n != "" {
			f.names = append(f.names, strings.ToLower(strings.TrimSuffix(n, ".")))
		}
	}
	return f, nil
}

// Step puts the filter into its place. It is asked at MAIL: before, nobody knows
// who will have logged in.
func (f *Filter) Step() filters.Step {
	return filters.Step{Name: "client", Filter: f, Stages: []mail.Stage{mail.StageMail}, OnError: filters.Continue, MaxConcurrent: 1000}
}

// Check names the oddities.
func (f *Filter) Check(_ context.Context, tx *mail.Transaction) (filters.Report, error) {
	s := tx.Session
	if s.IsOurs() || s.IsLocal() {
		return filters.Report{}, nil
	}
	var r filters.Report
	note := func(odd bool, value string, score float64, text string) {
		if odd && score > 0 {
			r.Findings = append(r.Findings, mail.Finding{Name: mail.FindingClient, Value: value, Score: score, Text: mail.CleanText(text)})
		}
	}
	f.helo(s, note)
	note(s.Resolve == mail.ResolveFail, "no-ptr", f.cfg.NoPTR, s.Addr().String()+" has no name")
	note(s.Resolve == mail.ResolveForged, "forged-ptr", f.cfg.ForgedPTR, fmt.Sprintf("%s claims to be %s", s.Addr(), s.PTR))
	note(s.Pregreet, "pregreet", f.cfg.Pregreet, "it talked before the banner")
	return r, nil
}

// helo notes what is odd about the name, once.
func (f *Filter) helo(s *mail.Session, note func(bool, string, float64, string)) {
	name := strings.ToLower(strings.TrimSuffix(s.Helo, "."))
	text := "HELO " + s.Helo
	if name == "" {
		return // of an MTA that does not say
	}
	addr, literal, isAddr := address(name)
	switch {
	case f.isOurs(name), isAddr && slices.Contains(f.cfg.Addresses, addr):
		note(true, "helo-ours", f.cfg.HeloOurs, text)
	case literal && addr != s.Addr():
		note(true, "helo-literal-mismatch", f.cfg.HeloLiteralMismatch, text)
	case literal:
		note(true, "helo-literal", f.cfg.HeloLiteral, text)
	case isAddr:
		note(true, "helo-bare-address", f.cfg.HeloBareAddress, text)
	case !strings.Contains(name, "."):
		note(true, "helo-no-dot", f.cfg.HeloNoDot, text)
	}
}

// address reads "[192.0.2.1]", "[ipv6:2001:db8::1]" and, not as a literal,
// "192.0.2.1".
func address(name string) (a netip.Addr, literal, ok bool) {
	in := strings.TrimPrefix(name, "[")
	if literal = in != name; literal {
		in = strings.TrimPrefix(strings.TrimSuffix(in, "]"), "ipv6:")
	}
	a, err := netip.ParseAddr(in)
	return a.Unmap().WithZone(""), literal, err == nil
}

func (f *Filter) isOurs(name string) bool {
	return slices.ContainsFunc(f.names, func(n string) bool {
		return n == name || strings.HasPrefix(n, ".") && strings.HasSuffix(name, n)
	})
}
