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
