package blocklist

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"
	"gatepost/internal/state"
)

const name = "blocklist"

// Store counts, and keeps who is blocked. state.Store is one.
type Store interface {
	Get(ctx context.Context, set state.Set, keys ...string) (state.Entry, bool, error)
	Put(ctx context.Context, set state.Set, key, value string, ttl time.Duration) error
	Count(ctx context.Context, key string, n int, window time.Duration) (int, error)
}

// Stats counts.
type Stats interface {
	// Blocked counts a client that is blocked from now on, by what for: "virus",
	// "spam", "unknown-user".
	Blocked(what string)
}

// Deps is what the filter works with.
type Deps struct {
	Store Store
	// Vouched reports whether the access map has a word for a client; nil: never.
	Vouched func(*mail.Session) bool
	Stats   Stats // nil: nothing is counted
	Log     *slog.Logger
}

// Filter puts off who is blocked, and blocks.
type Filter struct {
	cfg  Config
	deps Deps
	acts chan act
}

// maxActs wait to be counted; in a flood of more, some are not.
const maxActs = 4096

// New checks the configuration. It does no I/O.
func New(cfg Config, deps Deps) (*Filter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if deps.Vouched == nil {
		deps.Vouched = func(*mail.Session) bool { return false }
	}
	if deps.Stats == nil {
		deps.Stats = nobody{}
	}
	return &Filter{cfg: cfg, deps: deps, acts: make(chan act, maxActs)}, nil
}

const maxConcurrent = 200

// Step puts the filter into its place, with the limits of its configuration.
func (f *Filter) Step() filters.Step {
	return filters.Step{
		Name: name, Filter: f, Stages: []mail.Stage{mail.StageConnect},
		Timeout: f.cfg.Timeout, OnError: f.cfg.OnError, MaxConcurrent: maxConcurrent,
	}
}

// Ping asks whether the store is there.
func (f *Filter) Ping(ctx context.Context) error {
	_, _, err := f.deps.Store.Get(ctx, state.Blocked, name)
	return err
}

// Check asks whether the client is blocked.
func (f *Filter) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	s := tx.Session
	if f.never(s) || s.Role == "submission" || s.Role == "submissions" {
		return filters.Report{}, nil
	}
	// Whoever wrote the entry by hand may have named the network.
	e, ok, err := f.deps.Store.Get(ctx, state.Blocked, s.Addr().String(), network(s.Addr()))
	switch {
	case err != nil:
		return filters.Report{}, fmt.Errorf("%s: %w", name, err)
	case !ok:
		return filters.Report{}, nil
	}
	text := fmt.Sprintf("%s is blocked until %s", e.Key, e.Expires.Format(time.RFC3339))
	return filters.Report{Findings: []mail.Finding{{Name: mail.FindingBlocked, Value: mail.CleanText(e.Value), Text: text}}}, nil
}

// never reports whether a client is not blocked, whatever it does.
func (f *Filter) never(s *mail.Session) bool {
	return s.IsOurs() || s.IsLocal() || s.Again || s.Via == mail.ViaScan ||
		slices.ContainsFunc(f.cfg.Never, func(p netip.Prefix) bool { return p.Contains(s.Addr()) }) || f.deps.Vouched(s)
}

// network is the /24 or /64 of an address.
func network(a netip.Addr) string {
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits) // a is valid: never
	return p.String()
}

// key is who is blocked: one IPv4 address, or all that one customer has.
func key(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	return network(a)
}

type nobody struct{}

func (nobody) Blocked(string) {}
