package forward

import (
	"iter"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"
)

// health is how an address of a host has been of late. One that failed is asked
// after all others until its time is up; then one delivery tries it in its
// place, and the others still pass it by until that one has told.
type health struct {
	failures int // in a row
	until    time.Time
	probe    time.Time // when one set out, zero: none
}

const (
	firstPenalty = 15 * time.Second // doubles with each failure
	maxPenalty   = 10 * time.Minute
	// A probe that has not come back by then is given up.
	maxProbe = 15 * time.Minute
	// So many addresses of one host are remembered.
	maxAddrs = 64
)

// inTurn yields the hops in the order in which they are to be tried: first
// those that are well or due for a probe, then the others, better than none.
func inTurn(hops []hop) iter.Seq[hop] {
	return func(yield func(hop) bool) {
		var ill []hop
		for _, h := range hops {
			if len(hops) > 1 && !h.admit(h.addr) {
				ill = append(ill, h)
			} else if !yield(h) {
				return
			}
		}
		for _, h := range ill {
			if !yield(h) {
				return
			}
		}
	}
}

// admit reports whether an address may be tried in its place. With true for one
// that failed, this delivery is its probe.
func (h *host) admit(addr netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.health[addr]
	now := time.Now()
	switch {
	case s == nil:
		return true
	case now.Before(s.until), !s.probe.IsZero() && now.Sub(s.probe) < maxProbe:
		return false
	}
	s.probe = now
	return true
}

// judge notes how a delivery to an address went.
func (h *host) judge(addr netip.Addr, failed *failure) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.health[addr]
	switch {
	case failed == nil:
		delete(h.health, addr)
	case failed.ours || strings.HasPrefix(failed.reply.Detail, "7."): // what we demand is no fault of its health
		if s != nil {
			s.probe = time.Time{}
		}
	default:
		if s == nil {
			s = h.newHealth(addr)
		}
		s.probe = time.Time{}
		s.failures++
		s.until = time.Now().Add(penalty(s.failures))
	}
}

func (h *host) newHealth(addr netip.Addr) *health {
	if h.health == nil || len(h.health) >= maxAddrs {
		h.health = make(map[netip.Addr]*health)
	}
	s := &health{}
	h.health[addr] = s
	return s
}

// penalty is how long after so many failures; a little spread keeps hosts that
// fell together from being probed together.
func penalty(failures int) time.Duration {
	d := min(firstPenalty<<min(failures-1, 10), maxPenalty)
	return d - d/10 + rand.N(d/5)
}
