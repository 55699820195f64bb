package filters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"gatepost/internal/mail"
)

// pingTimeout is how long a probe may take.
const pingTimeout = 3 * time.Second

// step is a Step at work.
type step struct {
	Step
	breaker  *breaker
	turns    chan struct{} // holds one item for each running check; first come, first served
	checks   *running
	observer Observer
	log      *slog.Logger
}

// ask makes one check with all that guards it: breaker, turn, timeout, panic.
// It always returns soon after ctx ends.
func (s *step) ask(ctx context.Context, f Filter, tx *mail.Transaction) outcome {
	start := time.Now()
	report, err := s.check(ctx, f, tx)
	took := time.Since(start)
	result := resultOf(err)
	if result != ResultPanic && (errors.Is(ctx.Err(), context.Canceled) || errors.Is(err, errLease)) {
		result = ResultCancelled // whatever it says now, it was told to stop
	}
	s.observer.Filter(s.Name, result, took)
	s.record(result, err, s.Session == nil || tx.Stage == mail.StageMessage)
	if err != nil && result != ResultCancelled && result != ResultDown {
		s.logFailure(ctx, err, took)
	}
	return outcome{report, err, mail.Asked{Filter: s.Name, Stage: tx.Stage, Result: result, Start: start, Took: took, Shadow: s.Shadow}}
}

// record tells the breaker. Waiting in vain for a turn is not the filter's
// fault. A check before the end of a message says little for a filter that may
// hang there.
func (s *step) record(result string, err error, whole bool) {
	if result == ResultCancelled || result == ResultDown || errors.Is(err, errNoTurn) {
		return
	}
	if err == nil && !whole {
		if s.breaker.probed(true) {
			s.changed(nil)
		}
		return
	}
	if s.breaker.leave(err == nil) {
		s.changed(err)
	}
}

// changed tells that the breaker closed or tripped.
func (s *step) changed(err error) {
	up := s.breaker.up()
	s.observer.FilterUp(s.Name, up)
	if up {
		s.log.Info("filter is back")
		return
	}
	s.log.Error("filter is down", "failures", s.Breaker.Failures, "on_error", string(s.OnError), "error", err)
}

func (s *step) logFailure(ctx context.Context, err error, took time.Duration) {
	var p *panicError
	if errors.As(err, &p) {
		s.log.ErrorContext(ctx, "filter panicked", "error", err, "stack", string(p.stack))
		return
	}
	s.log.WarnContext(ctx, "filter could not tell", "error", err, "took", took)
}

// outcome is what a check returned.
type outcome struct {
	report Report
	err    error
	asked  mail.Asked
}

// check waits for a turn and runs the filter. One that ignores its context is
// left behind, and keeps its turn until it ends.
func (s *step) check(ctx context.Context, f Filter, tx *mail.Transaction) (Report, error) {
	tripped, ok := s.breaker.enter()
	if !ok {
		return Report{}, errDown
	}
	if err := s.turn(ctx, tripped); err != nil {
		return Report{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout, errTimeout)
	defer cancel()
	if s.Prompt {
		return s.checkHere(ctx, f, tx)
	}
	done := make(chan outcome, 1)
	s.checks.start(s.Name, func() {
		defer func() { <-s.turns }()
		done <- s.run(ctx, f, tx)
	})
	select {
	case o := <-done:
		return o.report, o.err
	case <-ctx.Done():
		return Report{}, context.Cause(ctx)
	}
}

// turn waits for one.
func (s *step) turn(ctx context.Context, tripped <-chan struct{}) error {
	select {
	case s.turns <- struct{}{}:
		return nil
	default:
	}
	if t := TurnOf(ctx); t != nil {
		t.Leave()
	}
	select {
	case s.turns <- struct{}{}:
		return nil
	case <-tripped:
		return errDown
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errNoTurn, ctx.Err())
	}
}

// checkHere runs a filter that keeps to its context in the caller's goroutine.
func (s *step) checkHere(ctx context.Context, f Filter, tx *mail.Transaction) (Report, error) {
	s.checks.begin(s.Name)
	defer s.checks.end(s.Name)
	defer func() { <-s.turns }()
	o := s.run(ctx, f, tx)
	if o.err != nil && ctx.Err() != nil && !errors.Is(o.err, errPanic) {
		return Report{}, context.Cause(ctx)
	}
	return o.report, o.err
}

// run calls the filter and turns a panic into an error.
func (s *step) run(ctx context.Context, f Filter, tx *mail.Transaction) (o outcome) {
	defer func() {
		if p := recover(); p != nil {
			o = outcome{err: &panicError{value: p, stack: debug.Stack()}}
		}
	}()
	report, err := f.Check(ctx, tx)
	switch {
	case err != nil:
		return outcome{err: err}
	case ctx.Err() != nil:
		// It may have answered because it was stopped: that is no answer.
		return outcome{err: context.Cause(ctx)}
	case len(report.Edits) > 0 && !s.Modifies:
		return outcome{err: errNoRights}
	}
	return outcome{report: report}
}

// pinger is the filter, if it can be asked whether it is there.
func (s *step) pinger() (Pinger, bool) {
	if s.Session != nil {
		p, ok := s.Session.(Pinger)
		return p, ok
	}
	p, ok := s.Filter.(Pinger)
	return p, ok
}

// runner is the filter, if it has something to do beside the checks.
func (s *step) runner() (Runner, bool) {
	if s.Session != nil {
		r, ok := s.Session.(Runner)
		return r, ok
	}
	r, ok := s.Filter.(Runner)
	return r, ok
}

// runs lets a filter run. One that ends early has nothing more to do: its checks
// go on.
func (s *step) runs(ctx context.Context, r Runner) {
	defer func() {
		if p := recover(); p != nil {
			s.logFailure(ctx, &panicError{value: p, stack: debug.Stack()}, 0)
		}
	}()
	if err := r.Run(ctx); err != nil && ctx.Err() == nil {
		s.log.ErrorContext(ctx, "filter stopped running", "error", err)
	}
}

// probe asks a filter that is down whether it is back, until ctx ends.
func (s *step) probe(ctx context.Context, p Pinger) {
	tick := time.NewTicker(s.Breaker.Probe)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.breaker.up() {
			continue
		}
		err := s.ping(ctx, p)
		if ctx.Err() == nil && s.breaker.probed(err == nil) {
			s.changed(nil)
		}
	}
}

func (s *step) ping(ctx context.Context, p Pinger) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &panicError{value: r, stack: debug.Stack()}
			s.logFailure(ctx, err, 0)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return p.Ping(ctx)
}

// panicError is a recovered panic.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string        { return fmt.Sprintf("panic: %v", e.value) }
func (e *panicError) Is(target error) bool { return target == errPanic }
