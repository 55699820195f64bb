package queue

import (
	"math/rand/v2"
	"time"
)

// backoff is the time to wait after n attempts, doubled from first up to limit.
func backoff(first, limit time.Duration, n int) time.Duration {
	d := first
	for ; n > 1 && d < limit; n-- {
		d *= 2 // no overflow: limit is at most longestWait
	}
	return min(d, limit)
}

// jitter shortens d by up to a quarter, so that what failed together does not
// come back together.
func jitter(d time.Duration) time.Duration {
	if d < 4 {
		return d
	}
	return d - rand.N(d/4)
}

// attemptsBefore is how many attempts must have been made before a message may
// expire: those that the schedule makes in half of maxAge, at least two.
//
// Age alone, the difference of two readings of the wall clock, would return a
// whole queue when the clock jumps or when the host was down for long, and a
// message that is released from hold after a week without a single attempt.
func attemptsBefore(cfg Config, maxAge time.Duration) int {
	if maxAge == 0 {
		return 1
	}
	n, sum := 1, time.Duration(0)
	for sum < maxAge/2 || n < 2 {
		wait := backoff(cfg.FirstRetry, cfg.MaxRetry, n)
		if wait == cfg.MaxRetry { // from here on all are the same
			left := max(maxAge/2-sum, 0)
			return max(n+int((left+wait-1)/wait), 2)
		}
		sum += wait
		n++
	}
	return n
}

// expired reports whether a message of that age and that many attempts is given
// up. Where the message comes from the future, by a clock that was set back,
// only its attempts count.
func expired(cfg Config, maxAge, age time.Duration, attempts int) bool {
	need := attemptsBefore(cfg, maxAge)
	if age < 0 {
		return attempts >= 4*need
	}
	return age >= maxAge && attempts >= need
}
