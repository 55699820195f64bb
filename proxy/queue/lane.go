package queue

import "gatepost/proxy/spool"

// Lane tells in whose way a message may be: mail in one lane never waits for
// mail in a later one.
type Lane string

// The lanes.
const (
	Fresh Lane = "fresh" // not tried yet
	Retry Lane = "retry" // put off at least once
	Slow  Lane = "slow"  // put off for long; tried rarely, by a few workers
	Hold  Lane = "hold"  // not tried until somebody decides
)

// LaneOf is the lane that a message is in.
func LaneOf(m *spool.Message) Lane {
	switch {
	case m.Progress.State == spool.Hold:
		return Hold
	case m.Progress.State == spool.Slow:
		return Slow
	case m.Attempts > 0:
		return Retry
	}
	return Fresh
}
