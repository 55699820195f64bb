package greylist

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"
	"gatepost/internal/spf"
	"gatepost/internal/state"
)

const name = "greylist"

// Store knows who came before. state.Store is one. One that may answer for
// another has a method Away() error: while it does, it knows too little to put
// anybody off.
type Store interface {
	Grey(ctx context.Context, t state.Triple) (state.Grey, error)
	Get(ctx context.Context, set state.Set, keys ...string) (state.Entry, bool, error)
}

// Filter greylists.
type Filter struct {
	cfg   Config
	never exceptions
	store Store
	dns   spf.Resolver
}

// Load checks the configuration and reads the lists that it names. ask may be
// nil where Config.SPF is empty.
func Load(cfg Config, store Store, ask spf.Resolver) (*Filter, error) {
	never, err := cfg.exceptions(readLines)
	if err := errors.Join(cfg.check(), err); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Filter{cfg: cfg, never: never, store: store, dns: ask}, nil
}

const maxConcurrent = 200

// Step puts the filter into its place, with the limits of its configuration.
func (f *Filter) Step() filters.Step {
	return filters.Step{
		Name: name, Session: f, Stages: []mail.Stage{mail.StageRcpt},
		Timeout: f.cfg.Timeout, OnError: f.cfg.OnError, MaxConcurrent: maxConcurrent,
	}
}

// Open returns a checker. It is one for a session so that it hears only of
// recipients that are not refused; it keeps nothing.
func (f *Filter) Open() filters.Checker { return checker{f} }

// Ping asks whether the store is there.
func (f *Filter) Ping(ctx context.Context) error {
	_, _, err := f.store.Get(ctx, state.Passed, name)
	return errors.Join(err, f.away())
}

func (f *Filter) away() error {
	if s, ok := f.store.(interface{ Away() error }); ok {
		return s.Away()
	}
	return nil
}

type checker struct{ *Filter }

func (checker) Abort() {}
func (checker) Close() {}

// Wants leaves out who is never greylisted.
func (c checker) Wants(tx *mail.Transaction) bool {
	s := tx.Session
	switch {
	case tx.Stage != mail.StageRcpt, s.IsOurs(), s.IsLocal(), s.Again, s.Via == mail.ViaScan,
		len(tx.Find(mail.FindingAllowed)) > 0,
		c.never.networks.contain(s.Addr()),
		s.Name != "" && hasDomain(c.never.clients, mail.ASCIIDomain(s.Name)),
		hasAddress(c.never.senders, tx.Envelope.Sender.Address),
		hasAddress(c.never.receivers, recipient(tx)):
		return false
	}
	return true
}

// recipient is the one in question.
func recipient(tx *mail.Transaction) mail.Address {
	return tx.Envelope.Recipients[len(tx.Envelope.Recipients)-1].Address
}

// Check asks the store about the delivery to one recipient.
func (c checker) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	rcpt := recipient(tx)
	if from := tx.Envelope.Sender.Address; hasAddress(c.never.spf, from) {
		asking, cancel := context.WithTimeout(ctx, c.cfg.Timeout/2) // the store needs its time
		pass := spf.Passes(asking, c.dns, tx.Session.Addr(), tx.Session.Helo, from)
		cancel()
		if pass {
			return filters.Report{}, nil
		}
	}
	g, err := c.store.Grey(ctx, c.triple(tx, rcpt))
	if err == nil && !g.Pass {
		err = c.away()
	}
	if err != nil {
		return filters.Report{}, fmt.Errorf("%s: %w", name, err)
	}
	f := mail.Finding{Name: mail.FindingReturned, Value: string(c.cfg.Form), Rcpt: rcpt}
	switch {
	case g.Pass && g.Known:
		return filters.Report{}, nil
	case !g.Pass:
		wait := max(g.Wait.Truncate(time.Second)+time.Second, time.Second)
		f = mail.Finding{Name: mail.FindingGreylisted, Value: wait.String(), Text: "not seen before; it may come again in " + wait.String(), Rcpt: rcpt}
	}
	return filters.Report{Findings: []mail.Finding{f}}, nil
}

func (f *Filter) triple(tx *mail.Transaction, rcpt mail.Address) state.Triple {
	network := f.network(tx.Session.Addr())
	t := state.Triple{
		Key: network, Network: network, Delay: f.cfg.Delay, Window: f.cfg.Window, Keep: f.cfg.Keep, Auto: f.cfg.AutoAllow,
	}
	if f.cfg.Form == ByTriple {
		t.Key += " " + sender(tx.Envelope.Sender.Address) + " " + strings.ToLower(rcpt.Local) + "@" + rcpt.ASCIIDomain()
	}
	return t
}

func (f *Filter) network(a netip.Addr) string {
	bits := f.cfg.NetworkV6
	if a.Is4() {
		bits = f.cfg.NetworkV4
	}
	p, _ := a.Prefix(bits) // a is valid: Wants
	return p.String()
}

// sender is a sender as it is known: lists and servers that mark each message
// with a number or a tag would else never be.
func sender(a mail.Address) string {
	if a.IsNull() {
		return "<>"
	}
	local, _, _ := strings.Cut(strings.ToLower(a.Local), "+")
	var b strings.Builder
	digits := false
	for _, r := range local {
		isDigit := r >= '0' && r <= '9'
		if isDigit && !digits {
			b.WriteByte('#')
		} else if !isDigit {
			b.WriteRune(r)
		}
		digits = isDigit
	}
	return b.String() + "@" + a.ASCIIDomain()
}
