package main

import (
	"context"
	"errors"

	"gatepost/internal/config"
	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/recipients"
	"gatepost/internal/sign"
	"gatepost/proxy/journal"
	"gatepost/rules"
	"gatepost/rules/checkrules"
	"gatepost/rules/rewrite"
)

// frame is what stands around the filters of a generation, and around the
// handlers of listeners, the innermost first.
type frame struct {
	checks     *checkrules.Checker
	recipients *recipients.Checker
	rewriter   *rewrite.Rewriter
	journals   *journal.Set
	routed     func(mail.Address) bool
	rules      *rules.Set
	dns        *dns.Client  // of those who ask now and then
	signer     *sign.Signer // of notifications; nil: none
}

// around returns a handler with all of it around.
func (f *frame) around(h mail.Handler) mail.Handler {
	if f == nil {
		return h
	}
	return f.journals.Handler(f.judging(h))
}

// judging is around without what keeps copies.
func (f *frame) judging(h mail.Handler) mail.Handler {
	if f == nil {
		return h
	}
	return f.rewriter.Handler(f.recipients.Handler(f.checks.Handler(h)), f.routed)
}

// readsBody reports whether one of its parts looks behind the header.
func (f *frame) readsBody() bool { return f != nil && !f.journals.Empty() }

// newFrame makes the frame of a generation, with the directories of journals.
func (g *gateway) newFrame(cfg *config.Config, set *rules.Set) (*frame, error) {
	f := &frame{rules: set, routed: func(a mail.Address) bool { _, ok := g.forward.Route(a); return ok }}
	var err error
	if f.rewriter, err = rewrite.Load(cfg.Rewrite); err != nil {
		return nil, err
	}
	checks, _, err := checkrules.Load(cfg.CheckRules)
	if err != nil {
		return nil, err
	}
	client, err := dns.NewClient(cfg.DNS)
	if err != nil {
		return nil, err
	}
	f.dns = client
	f.checks = checkrules.New(cfg.CheckRules, checks, dns.Zones{Client: client}, g.log)
	f.recipients, err = recipients.Load(cfg.Recipients, recipients.Deps{
		NextHop: g.forward, Store: g.state, Ours: set.Ours, Stats: g.metrics, Log: g.log,
	})
	if err != nil {
		return nil, err
	}
	if f.journals, err = journal.New(cfg.Journals, journal.Deps{Spool: g.spool, Queue: g.queue, Log: g.log}); err != nil {
		return nil, err
	}
	return f, f.journals.Prepare()
}

// Handler puts the frame around the filters, and those who watch around that.
func (r *ruled) Handler() mail.Handler {
	h := r.frame.around(r.Multiplexer.Handler())
	for _, b := range r.blockers {
		h = b.Handler(h)
	}
	return r.work.handler(h)
}

// Run works on the filters, and on what recipients are asked for, until ctx
// ends.
func (r *ruled) Run(ctx context.Context) error {
	if r.frame == nil {
		return r.Multiplexer.Run(ctx)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.frame.recipients.Run(ctx) }()
	err := r.Multiplexer.Run(ctx)
	return errors.Join(err, <-ended)
}

// Close ends what Run has left behind.
func (r *ruled) Close(ctx context.Context) error {
	err := r.Multiplexer.Close(ctx)
	if r.frame != nil {
		r.frame.recipients.Close()
	}
	return err
}
