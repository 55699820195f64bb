package filters

import (
	"sync"
	"time"
)

// missedProbes is how many probes must be missing before an open breaker lets
// one message try: a filter without Ping has no other way back.
const missedProbes = 2

// breaker stops a dead daemon from costing its timeout for every message.
type breaker struct {
	Breaker
	mu       sync.Mutex
	failures int           // in a row
	tripped  chan struct{} // closed while open
	tried    time.Time     // the last probe or trial, while open
}

func newBreaker(b Breaker) *breaker {
	return &breaker{Breaker: b, tripped: make(chan struct{})}
}

// up reports whether the breaker is closed.
func (b *breaker) up() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.open()
}

func (b *breaker) open() bool { return b.failures >= b.Failures }

// due reports whether an open breaker would let one message try.
func (b *breaker) due() bool { return time.Since(b.tried) >= pingTimeout+missedProbes*b.Probe }

// admits reports whether enter would let a message through now.
func (b *breaker) admits() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.open() || b.due()
}

// enter reports whether the filter may be asked. The channel is closed when the
// filter goes down meanwhile.
func (b *breaker) enter() (tripped <-chan struct{}, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open() {
		return b.tripped, true
	}
	if !b.due() {
		return nil, false
	}
	b.tried = time.Now()
	return nil, true
}

// leave records how a check ended and reports whether that closed or tripped
// the breaker.
func (b *breaker) leave(ok bool) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.open()
	if ok {
		b.set(0)
	} else {
		b.set(b.failures + 1)
	}
	return was != b.open()
}

// probed records a probe of an open breaker. One that answers is on probation:
// it answers pings, so far, and the next failure trips it again.
func (b *breaker) probed(ok bool) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tried = time.Now()
	if !ok || !b.open() {
		return false
	}
	b.set(b.Failures - 1)
	return true
}

func (b *breaker) set(failures int) {
	was := b.open()
	b.failures = min(failures, b.Failures)
	switch {
	case b.open() && !was:
		b.tried = time.Now()
		close(b.tripped)
	case was && !b.open():
		b.tripped = make(chan struct{})
	}
}
