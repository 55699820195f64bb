package filters

import "gatepost/internal/mail"

// group is steps that are asked side by side: neighbours that don't modify, or
// one that does. A shadow in it is not waited for.
type group []*step

// ReadOnly is a Checker that may know that it changes nothing in this message,
// although its step may.
type ReadOnly interface {
	ChangesNothing() bool
}

// group returns the first of steps and those that are asked beside it. Before the
// end of the message nobody changes anything: at CONNECT, HELO, MAIL and DATA all
// are asked at once, and told when one of them has ended it. At RCPT those with a
// session come one after the other: a recipient that one of them refuses is not
// offered to the next.
func (h *hearing) group(steps []*step) group {
	n := 1
	for !h.alone(steps[0]) && n < len(steps) && !h.alone(steps[n]) {
		n++
	}
	return group(steps[:n:n])
}

func (h *hearing) alone(s *step) bool {
	switch h.tx.Stage {
	case mail.StageMessage:
		return s.Modifies && !h.changesNothing(s)
	case mail.StageRcpt:
		return s.waitedInSession()
	}
	return false
}

func (h *hearing) changesNothing(s *step) bool {
	if s.Session == nil {
		return false
	}
	c, ok := h.seats.of(s).take().Checker.(ReadOnly)
	return ok && c.ChangesNothing()
}

func (s *step) waitedInSession() bool { return s.Session != nil && !s.Shadow }
