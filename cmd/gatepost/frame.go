package main

import (
	"gatepost/internal/config"
	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/proxy/journal"
	"gatepost/rules/checkrules"
	"gatepost/rules/rewrite"
)

// frame is what stands around the filters of a generation, and around the
// handlers of listeners, the innermost first.
type frame struct {
	checks   *checkrules.Checker
	rewriter *rewrite.Rewriter
	journals *journal.Set
	routed   func(mail.Address) bool
}

// around returns a handler with all of it around.
func (f *frame) around(h mail.Handler) mail.Handler {
	if f == nil {
		return h
	}
	return f.journals.Handler(f.rewriter.Handler(f.checks.Handler(h), f.routed))
}

// readsBody reports whether one of its parts looks behind the header.
func (f *frame) readsBody() bool { return f != nil && !f.journals.Empty() }

// newFrame makes the frame of a generation, with the directories of journals.
func (g *gateway) newFrame(cfg *config.Config) (*frame, error) {
	f := &frame{routed: func(a mail.Address) bool { _, ok := g.forward.Route(a); return ok }}
	var err error
	if f.rewriter, err = rewrite.Load(cfg.Rewrite); err != nil {
		return nil, err
	}
	rules, _, err := checkrules.Load(cfg.CheckRules)
	if err != nil {
		return nil, err
	}
	client, err := dns.NewClient(cfg.DNS)
	if err != nil {
		return nil, err
	}
	f.checks = checkrules.New(cfg.CheckRules, rules, dns.Zones{Client: client}, g.log)
	if f.journals, err = journal.New(cfg.Journals, journal.Deps{Spool: g.spool, Queue: g.queue, Log: g.log}); err != nil {
		return nil, err
	}
	return f, f.journals.Prepare()
}

// Handler puts the frame around the filters.
func (r *ruled) Handler() mail.Handler { return r.frame.around(r.Multiplexer.Handler()) }
