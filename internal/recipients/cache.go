package recipients

import (
	"strings"
	"sync"
	"time"
)

// cache remembers answers, so many at most.
type cache struct {
	max int
	now func() time.Time

	mu sync.Mutex
	m  map[string]kept
}

type kept struct {
	answer
	fresh time.Time // until then it counts
	ends  time.Time // until then it may help where nobody can tell
}

func newCache(max int, now func() time.Time) *cache {
	return &cache{max: max, now: now, m: make(map[string]kept)}
}

// get returns what is remembered. What is not fresh is there for whoever gets
// no other answer.
func (c *cache) get(k string) (a answer, fresh, there bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.m[k]
	now := c.now()
	if !ok || !now.Before(e.ends) {
		return answer{}, false, false
	}
	return e.answer, now.Before(e.fresh), true
}

func (c *cache) put(k string, a answer, fresh, stale time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if _, there := c.m[k]; !there {
		c.makeRoom(now)
	}
	c.m[strings.Clone(k)] = kept{a, now.Add(fresh), now.Add(fresh + stale)}
}

// makeRoom looks at a few entries, wherever the map begins. What has ended goes;
// where there is no room, so does the one that ends first.
func (c *cache) makeRoom(now time.Time) {
	full := len(c.m) >= c.max
	looks, first, ends, gone := 4, "", time.Time{}, false
	if full {
		looks = 16
	}
	for k, e := range c.m {
		if !now.Before(e.ends) {
			delete(c.m, k)
			gone = true
		} else if first == "" || e.ends.Before(ends) {
			first, ends = k, e.ends
		}
		if looks--; looks == 0 {
			break
		}
	}
	if full && !gone {
		delete(c.m, first)
	}
}
