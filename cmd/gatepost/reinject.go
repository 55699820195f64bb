package main

import (
	"context"
	"log/slog"
	"strings"

	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/proxy/forward"
	"gatepost/proxy/spool"
)

// hops are all next hops: those of the routes, and for what was held for an MTA
// the one that leads back to it.
type hops struct {
	*forward.Forwarder
	back map[string]*forward.Forwarder // by the name of the milter entry
}

// reinject begins the name of a destination that leads back to an MTA. No route
// can be called so.
const reinject = "reinject:"

func newHops(cfg *config.Config, log *slog.Logger) (h hops, err error) {
	h.back = make(map[string]*forward.Forwarder)
	routes, err := routesOf(cfg)
	if err != nil {
		return hops{}, err
	}
	if h.Forwarder, err = forward.New(routes, log); err != nil {
		return hops{}, err
	}
	for _, m := range cfg.Milters {
		if m.Reinject == "" {
			continue
		}
		one := forward.Config{Hostname: cfg.Hostname, Routes: map[string]forward.Route{".": {To: []string{m.Reinject}}}}
		back, err := forward.New(one, log)
		if err != nil {
			h.Close()
			return hops{}, err
		}
		h.back[m.Name] = back
	}
	return h, nil
}

// Reroute sends what was held for an MTA back to it.
func (h hops) Reroute(e *spool.Entry) (dest string, ok bool) {
	if e.Origin != spool.FromMilter || h.back[e.Listener] == nil {
		return "", false
	}
	return reinject + e.Listener, true
}

// Deliver hands a message to a next hop.
func (h hops) Deliver(ctx context.Context, dest string, facts mail.Facts, env mail.Envelope, content mail.Content) []mail.Outcome {
	if name, ok := strings.CutPrefix(dest, reinject); ok && h.back[name] != nil {
		return h.back[name].Deliver(ctx, ".", facts, env, content)
	}
	return h.Forwarder.Deliver(ctx, dest, facts, env, content)
}

// Close ends the connections that are kept.
func (h hops) Close() {
	for _, back := range h.back {
		back.Close()
	}
	h.Forwarder.Close()
}
