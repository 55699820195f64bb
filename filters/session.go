package filters

import (
	"context"
	"fmt"
	"runtime/debug"

	"gatepost/internal/mail"
)

// SessionFilter is a filter with state per SMTP session. The Multiplexer opens a
// Checker for each session in which it may be needed.
type SessionFilter interface {
	// Open does no I/O.
	Open() Checker
}

// Checker is a filter for one SMTP session. Its methods are called one at a
// time. After an error it is closed, and another is opened for the next
// message: it must be able to begin at any stage.
type Checker interface {
	Filter
	// Wants reports whether it has to be asked at the stage of tx. It does no
	// I/O. Who isn't asked can't fail.
	Wants(tx *mail.Transaction) bool
	// Abort tells that the message is over, if there is one that Check has not
	// seen the end of.
	Abort()
	// Close ends the session.
	Close()
}

// seats are the places of a session's checkers.
type seats map[*step]*seat

func (all seats) of(s *step) *seat {
	if all[s] == nil {
		all[s] = &seat{step: s}
	}
	return all[s]
}

// over ends the message for all of them.
func (all seats) over() {
	for _, seat := range all {
		seat.failed = nil
		if sitting := seat.sitting; sitting != nil {
			if !sitting.do(seat.step, Checker.Abort) {
				seat.leave()
			}
		}
	}
}

func (all seats) close() {
	for _, seat := range all {
		seat.leave()
	}
}

// seat holds a step's checker for as long as it is good.
type seat struct {
	step    *step
	sitting *sitting // nil: none
	failed  error    // why it is out of this message
}

// take returns a checker that nobody uses.
func (s *seat) take() *sitting {
	if s.sitting != nil && !s.sitting.do(s.step, func(Checker) {}) {
		s.leave()
	}
	if s.sitting == nil {
		s.sitting = &sitting{Checker: s.step.Session.Open(), free: make(chan struct{}, 1)}
		s.sitting.free <- struct{}{}
	}
	return s.sitting
}

// leave closes the checker, at once or when its last check has ended.
func (s *seat) leave() {
	old := s.sitting
	if old == nil {
		return
	}
	s.sitting = nil
	select {
	case <-old.free:
		old.guard(s.step, Checker.Close)
	default:
		s.step.checks.start(s.step.Name, func() {
			<-old.free
			old.guard(s.step, Checker.Close)
		})
	}
}

// sitting is a checker that is used by one goroutine at a time. A check that
// was left behind keeps it.
type sitting struct {
	Checker
	free   chan struct{} // holds one item while nobody uses it
	failed bool          // belongs to who has the item
}

func (s *sitting) Check(ctx context.Context, tx *mail.Transaction) (Report, error) {
	return s.use(ctx, func(c Checker) (Report, error) { return c.Check(ctx, tx) })
}

// use may come late: when its time is over before it began.
func (s *sitting) use(ctx context.Context, ask func(Checker) (Report, error)) (r Report, err error) {
	select {
	case <-s.free:
	case <-ctx.Done():
		return Report{}, context.Cause(ctx)
	}
	failed := true // by a panic, too
	defer func() {
		s.failed = s.failed || failed
		s.free <- struct{}{}
	}()
	if err := context.Cause(ctx); err != nil {
		failed = false
		return Report{}, err
	}
	r, err = ask(s.Checker)
	failed = err != nil
	return r, err
}

// do calls f, unless a check is under way or has failed.
func (s *sitting) do(step *step, f func(Checker)) bool {
	select {
	case <-s.free:
	default:
		return false
	}
	if !s.failed {
		s.failed = !s.guard(step, f)
	}
	good := !s.failed
	s.free <- struct{}{}
	return good
}

// guard reports whether f ended without a panic.
func (s *sitting) guard(step *step, f func(Checker)) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			step.log.Error("filter panicked", "error", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	f(s.Checker)
	return true
}
