package spool

import "time"

// Kind is what a survey tells messages apart by.
type Kind struct {
	State State
	Tried bool // to deliver it, at least once
}

// Kept is the messages of one kind.
type Kept struct {
	Messages int
	Oldest   time.Time // when the oldest was received
}

// Survey counts what the spool holds. It reads nothing from disk, but looks at
// every message: ask every few seconds, not more often.
func (s *Spool) Survey() map[Kind]Kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	var counts [len(states)][2]int
	var oldest [len(states)][2]int64
	for _, e := range s.index.entries {
		tried := 0
		if e.tried {
			tried = 1
		}
		if n := counts[e.state][tried]; n == 0 || e.received < oldest[e.state][tried] {
			oldest[e.state][tried] = e.received
		}
		counts[e.state][tried]++
	}
	all := make(map[Kind]Kept)
	for state, both := range counts {
		for tried, n := range both {
			if n > 0 {
				all[Kind{states[state], tried == 1}] = Kept{n, time.Unix(0, oldest[state][tried])}
			}
		}
	}
	return all
}
