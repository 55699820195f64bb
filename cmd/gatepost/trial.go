package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"gatepost/internal/config"
	"gatepost/internal/console"
	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// trial judges a message with the filters and rules that run, as if it came in
// now. What counts, remembers and notifies is around them, and left out; greylist
// and rates know such a session and leave it alone.
func (g *gateway) trial(ctx context.Context, req console.ScanRequest) (history.Record, error) {
	cfg := g.current.Load()
	flags := scanFlags{ip: req.Client, helo: req.Helo, from: req.Sender, rcpts: req.Recipients}
	if req.Client != "" {
		if _, err := netip.ParseAddr(req.Client); err != nil {
			return history.Record{}, fmt.Errorf("%w: client %q is no address", console.ErrScan, req.Client)
		}
	}
	s := &scanner{limit: limitOf(cfg), stdin: bytes.NewReader(req.Message)}
	if err := s.envelope(cfg, flags); err != nil {
		return history.Record{}, fmt.Errorf("%w: %w", console.ErrScan, err)
	}
	if err := s.client(ctx, cfg, flags); err != nil {
		return history.Record{}, err
	}
	generation, leave := g.judges.pure(&s.newHandler)
	defer leave()
	r, err := s.file(ctx, "-")
	if err != nil {
		return history.Record{}, err
	}
	r.record.Generation = generation
	return r.record, nil
}

// pure gives the handlers of the newest generation without what is around them:
// the recorder, and those who learn from what is decided. leave ends their use.
func (g *generations) pure(handler *func() mail.Handler) (name string, leave func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.current.sessions++
	*handler = g.current.Handler
	if r, ok := g.current.judge.(*ruled); ok {
		*handler = r.pure
	}
	return g.current.name, g.leave(g.current)
}

// pure is Handler without those who do more than to judge.
func (r *ruled) pure() mail.Handler { return r.frame.judging(r.Multiplexer.Handler()) }

// isOurs reports whether a client is of the networks that may relay.
func isOurs(cfg *config.Config, ip netip.Addr) bool {
	return slices.ContainsFunc(cfg.Rules.Relay.Networks, func(n netip.Prefix) bool { return n.Contains(ip) })
}
