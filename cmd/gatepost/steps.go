package main

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"gatepost/filters"
	"gatepost/filters/attachments"
	"gatepost/filters/auth"
	"gatepost/filters/blocklist"
	"gatepost/filters/child"
	"gatepost/filters/clamav"
	"gatepost/filters/client"
	"gatepost/filters/dnsbl"
	"gatepost/filters/greylist"
	"gatepost/filters/rates"
	"gatepost/filters/spamassassin"
	"gatepost/internal/config"
	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/sign"
	"gatepost/internal/state"
	"gatepost/rules"
)

// tools are what filters work with, beside their configuration.
type tools struct {
	observer filters.Observer // nil: nothing is counted
	stats    reputationStats  // nil: the same
	store    state.Store
	signer   *sign.Signer   // nil: nothing is signed
	work     *ruleWork      // nil: nothing is done beside
	personal rules.Personal // nil: recipients have no lists of their own
	log      *slog.Logger
}

type reputationStats interface {
	dnsbl.Stats
	blocklist.Stats
	clamav.Stats
	child.Stats
}

func (g *gateway) tools() tools {
	return tools{observer: g.metrics, stats: g.metrics, store: g.state, work: g.ruleWork, personal: g.held.lists, log: g.log}
}

// builder makes the steps of a generation.
type builder struct {
	tools
	cfg       *config.Config
	set       *rules.Set
	blockers  []*blocklist.Filter // who watch what is decided
	daemons   []daemon            // who tell their version
	questions *dns.Client         // of these filters, which have a memory of their own; nil: not made yet
}

func (b *builder) steps() ([]filters.Step, error) {
	var steps []filters.Step
	for _, f := range b.cfg.Filters {
		made, err := b.filter(f)
		if err != nil {
			return nil, err
		}
		s := made.Step()
		s.Name = f.Name
		steps = append(steps, s)
	}
	return steps, nil
}

type stepper interface{ Step() filters.Step }

func (b *builder) filter(f config.Filter) (stepper, error) {
	switch {
	case f.ClamAV != nil:
		return b.clamav(f)
	case f.SpamAssassin != nil:
		return spamassassin.New(*f.SpamAssassin)
	case f.ICAP != nil:
		return b.icap(f)
	case f.Milter != nil:
		cfg := *f.Milter
		cfg.Name, cfg.Version = f.Name, thisBuild().Version
		if b.stats != nil {
			cfg.Stats = b.stats
		}
		return child.New(cfg)
	}
	if f.Attachments != nil {
		return attachments.Load(*f.Attachments)
	}
	return b.reputation(f)
}

// reputation makes a filter that looks at who sends.
func (b *builder) reputation(f config.Filter) (stepper, error) {
	log := b.log.With("filter", f.Name)
	if b.questions == nil {
		var err error
		if b.questions, err = dns.NewClient(b.cfg.DNS); err != nil {
			return nil, err
		}
	}
	switch {
	case f.DNSBL != nil:
		return dnsbl.New(*f.DNSBL, dnsbl.Deps{Resolver: b.questions, Stats: b.stats, Log: log})
	case f.Greylist != nil:
		return greylist.Load(*f.Greylist, b.store, b.questions)
	case f.Rates != nil:
		return rates.New(*f.Rates, b.store, b.set)
	case f.Client != nil:
		return client.New(*f.Client)
	case f.Auth != nil:
		return auth.New(*f.Auth, auth.Deps{Resolver: b.questions})
	case f.Blocklist != nil:
		made, err := blocklist.New(*f.Blocklist, blocklist.Deps{Store: b.store, Vouched: b.set.Vouches, Stats: b.stats, Log: log})
		b.blockers = append(b.blockers, made)
		return made, err
	}
	return nil, fmt.Errorf("filter %s: no kind", f.Name)
}

// refusesAtRcpt reports whether what a filter finds at MAIL may refuse
// recipients.
func refusesAtRcpt(f config.Filter, p rules.Policy) bool {
	return f.DNSBL != nil && f.DNSBL.Rejects() || f.Auth != nil && p.SPFFail == rules.SPFReject
}

// looksInside reports whether a step is asked about messages.
func looksInside(s filters.Step) bool {
	return len(s.Stages) == 0 || slices.Contains(s.Stages, mail.StageMessage)
}

// pause is how long the access map of the present generation has a client wait
// for the greeting.
func (g *gateway) pause(s *mail.Session) (time.Duration, bool) {
	pause, _, ok := g.frame.Load().rules.GreetPause(s)
	return pause, ok
}
