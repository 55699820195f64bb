package main

import (
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/queue"
)

// heldFor is how long a count of what is held is good: to count means to read it.
const heldFor = time.Minute

// heldCount remembers how many messages are held, and why.
type heldCount struct {
	mu    sync.Mutex
	taken time.Time
	kinds map[string]int
}

// heldByKind counts the quarantine. All kinds are there, so that a series begins
// with the first message of a kind and not after it.
func (g *gateway) heldByKind() map[string]int {
	c := &g.heldCount
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds != nil && time.Since(c.taken) < heldFor {
		return c.kinds
	}
	kinds := make(map[string]int)
	for _, k := range mail.HeldKinds() {
		kinds[string(k)] = 0
	}
	for m := range g.queue.List(queue.Filter{Lanes: []queue.Lane{queue.Hold}}) {
		kinds[string(m.Kind)]++
	}
	c.kinds, c.taken = kinds, time.Now()
	return kinds
}
