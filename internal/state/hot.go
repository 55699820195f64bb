package state

import (
	"sync"
	"time"
)

// hot is what changes with each session: counters, rates, and who is where. It
// is in memory, and bounded.
type hot struct {
	mu      sync.Mutex
	tallies table[counted]
	rates   table[rated]
	places  table[place]

	// What has changed since it was last written, where somebody writes it.
	dirtyTallies map[string]struct{}
	dirtyRates   map[string]struct{}
}

type counted struct {
	tally
	ends int64
}

type rated struct {
	full float64
	ends int64
}

// place has the ids that are there, with their ends.
type place map[string]int64

// ends is when the last one has left.
func (p place) ends() int64 {
	last := int64(0)
	for _, e := range p {
		last = max(last, e)
	}
	return last
}

func newHot(max int) *hot {
	return &hot{
		tallies: newTable(max, func(c counted) int64 { return c.ends }),
		rates:   newTable(max, func(r rated) int64 { return r.ends }),
		places:  newTable(max, place.ends),
	}
}

// note lets changes be written: until then nobody collects them.
func (h *hot) note() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dirtyTallies, h.dirtyRates = make(map[string]struct{}), make(map[string]struct{})
}

func (h *hot) count(now int64, key string, n int, window time.Duration) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, _ := h.tallies.get(now, key)
	sum := c.add(now, window.Microseconds(), int64(n))
	if n > 0 {
		c.ends = c.Start + 2*window.Microseconds()
		h.tallies.put(now, key, c)
		if h.dirtyTallies != nil {
			h.dirtyTallies[key] = struct{}{}
		}
	}
	return int(sum)
}

func (h *hot) take(now int64, key string, r Rate, n int) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, _ := h.rates.get(now, key)
	full, wait := take(now, old.full, r, n)
	if wait == 0 && n > 0 {
		h.rates.put(now, key, rated{full, int64(full) + 1})
		if h.dirtyRates != nil {
			h.dirtyRates[key] = struct{}{}
		}
	}
	return time.Duration(wait) * time.Microsecond
}

func (h *hot) enter(now int64, key, id string, limit int, ttl time.Duration) (int, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.places.get(now, key)
	if !ok {
		p = make(place)
	}
	for other, ends := range p {
		if ends <= now {
			delete(p, other)
		}
	}
	if _, there := p[id]; !there && len(p) >= limit {
		return len(p), false
	}
	p[id] = now + ttl.Microseconds()
	h.places.put(now, key, p)
	return len(p), true
}

func (h *hot) leave(key, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.places.m[key]
	if delete(p, id); len(p) == 0 {
		delete(h.places.m, key)
	}
}
