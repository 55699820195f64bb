package queue

import (
	"cmp"
	"slices"
)

// Hop is how one destination is that mail waits for, or that failed.
type Hop struct {
	Name     string
	State    string // "open", "paused", "probing"
	Waiting  int    // messages in its lines
	Active   int    // deliveries on their way
	Failures int    // to reach it, in a row
	Reply    string // the last failure
}

// Hops lists at most so many destinations of those that have work or trouble: the
// ones in trouble first, then those with most before them.
func (q *Queue) Hops(most int) []Hop {
	q.mu.Lock()
	all := make([]Hop, 0, len(q.dests))
	for _, d := range q.dests {
		h := Hop{Name: d.name, State: d.mode.String(), Waiting: d.line[freshLine].len() + d.line[retryLine].len() + d.line[slowLine].len() + len(d.waits), Active: d.active, Failures: d.failures}
		if d.failures > 0 || d.mode != open {
			h.Reply = d.reply.String()
		}
		all = append(all, h)
	}
	q.mu.Unlock()
	slices.SortFunc(all, func(a, b Hop) int {
		return cmp.Or(cmp.Compare(b.Failures, a.Failures), cmp.Compare(b.Waiting+b.Active, a.Waiting+a.Active), cmp.Compare(a.Name, b.Name))
	})
	return all[:min(most, len(all))]
}

// String is what people call it.
func (m mode) String() string {
	switch m {
	case paused:
		return "paused"
	case probing, probed:
		return "probing"
	}
	return "open"
}
