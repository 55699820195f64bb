package filters

import (
	"context"
	"fmt"
	"runtime/debug"

	"gatepost/internal/mail"
)

// CommandFilter is a SessionFilter whose checkers may want to hear of commands
// that the MTA doesn't know.
type CommandFilter interface {
	// HearsUnknown reports whether they do, as far as that is known.
	HearsUnknown() bool
}

// CommandChecker is a Checker that hears of such commands.
type CommandChecker interface {
	// Unknown does with a command what Check does with a stage.
	Unknown(ctx context.Context, tx *mail.Transaction, command string) (Report, error)
}

// HearsUnknown reports whether some filter wants to hear of commands that the
// MTA doesn't know.
func (m *Multiplexer) HearsUnknown() bool {
	for _, s := range m.steps {
		if s.hearsUnknown() {
			return true
		}
	}
	return false
}

// hearsUnknown leaves out those that are asked about messages only: a command
// could not be told to them in its place.
func (s *step) hearsUnknown() bool {
	f, ok := s.Session.(CommandFilter)
	return ok && !s.Shadow && len(s.Stages) > 1 && f.HearsUnknown()
}

// Unknown tells the filters one after the other, until one refuses in words of
// its own. One that fails is out of this message; the command is refused anyway.
func (h *handler) Unknown(ctx context.Context, tx *mail.Transaction, command string) (v mail.Verdict) {
	defer func() {
		if p := recover(); p != nil {
			h.m.log.ErrorContext(ctx, "judging panicked", "panic", fmt.Sprint(p), "stage", "unknown", "stack", string(debug.Stack()))
			v = mail.Verdict{}
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, h.m.cfg.Deadline, errTimeout)
	defer cancel()
	view := h.m.newHearing(tx.Stage, tx, nil).tx
	for _, s := range h.m.steps {
		if !s.hearsUnknown() {
			continue
		}
		seat := h.seats.of(s)
		sitting := seat.take()
		if seat.failed != nil || !sitting.Wants(view) {
			continue
		}
		o := s.ask(ctx, unknownCommand{sitting, command}, view)
		if o.err != nil {
			seat.failed = o.err
			continue
		}
		if o.report.Vote.Action >= mail.TempFail {
			return o.report.Vote.verdict()
		}
	}
	return mail.Verdict{}
}

// unknownCommand is the question about one command.
type unknownCommand struct {
	*sitting
	command string
}

func (u unknownCommand) Check(ctx context.Context, tx *mail.Transaction) (Report, error) {
	return u.use(ctx, func(c Checker) (Report, error) {
		hears, ok := c.(CommandChecker)
		if !ok {
			return Report{}, nil
		}
		return hears.Unknown(ctx, tx, u.command)
	})
}
