package filters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"gatepost/internal/mail"
)

// Multiplexer is one generation of filters with the policy over them. A new
// configuration makes a new one; handlers keep the one they came from.
type Multiplexer struct {
	cfg    Config
	steps  []*step
	stages map[mail.Stage][]*step // who wants to be asked
	policy Policy
	log    *slog.Logger
	checks running
}

// New checks the configuration. It does no I/O and starts nothing. observer may
// be nil.
func New(cfg Config, steps []Step, policy Policy, observer Observer, log *slog.Logger) (*Multiplexer, error) {
	if cfg.Deadline == 0 {
		cfg.Deadline = DefaultConfig().Deadline
	}
	if observer == nil {
		observer = nobody{}
	}
	m := &Multiplexer{cfg: cfg, stages: make(map[mail.Stage][]*step), policy: policy, log: log}
	errs := []error{cfg.Validate()}
	for _, s := range steps {
		s, err := s.withDefaults()
		if err == nil && slices.ContainsFunc(m.steps, func(other *step) bool { return other.Name == s.Name }) {
			err = fmt.Errorf("%s: there are two of that name", s.Name)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m.steps = append(m.steps, &step{
			Step:     s,
			breaker:  newBreaker(s.Breaker),
			turns:    make(chan struct{}, s.MaxConcurrent),
			checks:   &m.checks,
			observer: observer,
			log:      log.With("filter", s.Name),
		})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("filters: %w", err)
	}
	for _, s := range m.steps {
		for stage := mail.StageConnect; stage <= mail.StageMessage; stage++ {
			if slices.Contains(s.Stages, stage) {
				m.stages[stage] = append(m.stages[stage], s)
			}
		}
	}
	return m, nil
}

// Handler returns a handler for one connection.
func (m *Multiplexer) Handler() mail.Handler { return &handler{m: m, seats: make(seats)} }

// Run asks the filters that are down whether they are back, and lets those run
// that want to, until ctx ends.
func (m *Multiplexer) Run(ctx context.Context) error {
	var probes sync.WaitGroup
	for _, s := range m.steps {
		s.observer.FilterUp(s.Name, s.breaker.up())
		if p, ok := s.pinger(); ok {
			probes.Go(func() { s.probe(ctx, p) })
		}
		if r, ok := s.runner(); ok {
			probes.Go(func() { s.runs(ctx, r) })
		}
	}
	probes.Wait()
	return nil
}

// Busy tells how many checks run now, by filter.
func (m *Multiplexer) Busy() map[string]int {
	busy := make(map[string]int, len(m.steps))
	for _, s := range m.steps {
		busy[s.Name] = len(s.turns)
	}
	return busy
}

// Close waits until all checks have ended. When ctx ends before, the error
// names the filters that still run.
func (m *Multiplexer) Close(ctx context.Context) error {
	if err := m.checks.wait(ctx); err != nil {
		return fmt.Errorf("filters: close: %w", err)
	}
	return nil
}

// refusal is the answer at connect while a filter is down without which the
// operator wants no mail at all.
func (h *handler) refusal(tx *mail.Transaction) (mail.Verdict, bool) {
	view := *tx
	view.Stage = mail.StageConnect
	for _, s := range h.m.steps {
		if s.Shadow || h.m.onError(s, &view) != Refuse || s.breaker.admits() {
			continue
		}
		if s.Session == nil || h.seats.of(s).take().Wants(&view) {
			return refused(s.Name), true
		}
	}
	return mail.Verdict{}, false
}

type nobody struct{}

func (nobody) Filter(string, string, time.Duration) {}
func (nobody) FilterUp(string, bool)                {}
