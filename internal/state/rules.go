package state

import (
	"math"
	"time"
)

// What follows decides, without a clock and without a place to keep anything.
// Times are microseconds since 1970. The scripts for Redis say the same.

// tally is a counter that forgets: what was counted in the window that began at
// Start, and in the one before.
type tally struct {
	Start, Now, Before int64
}

// add counts n and returns what is within the window up to now. Of the one
// before, the share that is still within it is taken as evenly spread.
func (c *tally) add(now, window, n int64) int64 {
	switch passed := now - c.Start; {
	case passed < 0 || passed >= 2*window:
		*c = tally{Start: now}
	case passed >= window:
		*c = tally{Start: c.Start + window, Before: c.Now}
	}
	c.Now += n
	share := float64(window-(now-c.Start)) / float64(window)
	return c.Now + int64(math.Floor(float64(c.Before)*share))
}

// take asks for n of a rate (GCRA). full is when all of it can be had again;
// the new one is returned, and how long n must wait when they can't be had.
func take(now int64, full float64, r Rate, n int) (newFull, wait float64) {
	period := float64(r.Period.Microseconds())
	full = max(full, float64(now))
	if full > float64(now)+period {
		full = float64(now) + period // another rate was asked for before, or the clock went back
	}
	after := full + float64(n)*(period/float64(r.Limit))
	if wait = after - float64(now) - period; wait > tolerance {
		return full, math.Ceil(wait)
	}
	return after, 0
}

// tolerance is for what is rounded in sums, in microseconds.
const tolerance = 1

// met is what is known of a triple, or of a network.
type met struct {
	First   int64 // when a triple came first
	Passed  bool  // a triple came again in time
	Count   int   // triples of a network that passed
	Expires int64 // as long as this is in the future, the rest counts
}

// judge decides on a delivery by what is known of its triple and its network,
// and notes there what is known now.
func (t Triple) judge(now int64, triple, network *met) Grey {
	if t.Auto > 0 && network.Expires > now && network.Count >= t.Auto {
		network.Expires = now + t.Keep.Microseconds()
		return Grey{Pass: true, Known: true, Auto: true}
	}
	switch {
	case triple.Expires <= now || triple.First > now:
		*triple = met{First: now, Expires: now + t.Window.Microseconds()}
	case triple.Passed:
		triple.Expires = now + t.Keep.Microseconds()
		return Grey{Pass: true, Known: true}
	}
	if wait := triple.First + t.Delay.Microseconds() - now; wait > 0 {
		return Grey{Wait: time.Duration(wait) * time.Microsecond}
	}
	triple.Passed, triple.Expires = true, now+t.Keep.Microseconds()
	if t.Auto > 0 {
		if network.Expires <= now {
			network.Count = 0
		}
		network.Count++
		network.Expires = triple.Expires
	}
	return Grey{Pass: true}
}
