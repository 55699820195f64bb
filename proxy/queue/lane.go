package queue

import (
	"time"

	"gatepost/proxy/spool"
)

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
func LaneOf(m *spool.Message) Lane { return laneOf(m.Progress.State, m.Attempts > 0) }

func laneOf(state spool.State, tried bool) Lane {
	switch {
	case state == spool.Hold:
		return Hold
	case state == spool.Slow:
		return Slow
	case tried:
		return Retry
	}
	return Fresh
}

// line is the place of a lane among the lines of a destination.
type line int8

const (
	freshLine line = iota
	retryLine
	slowLine
	lines
)

func lineOf(m *spool.Message) line {
	switch LaneOf(m) {
	case Fresh:
		return freshLine
	case Slow:
		return slowLine
	}
	return retryLine
}

// slowNow reports whether a message of that age belongs into the slow lane.
func (t terms) slowNow(age time.Duration) bool { return age >= t.slowAfter }

// wait is the time to the attempt after that many.
func (t terms) wait(state spool.State, attempts int) time.Duration {
	if state == spool.Slow {
		return jitter(t.slow)
	}
	return jitter(backoff(t.first, t.most, attempts))
}

// longest is what wait returns at most.
func (t terms) longest(state spool.State) time.Duration {
	if state == spool.Slow {
		return t.slow
	}
	return t.most
}
