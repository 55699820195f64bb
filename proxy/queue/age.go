package queue

import (
	"time"

	"gatepost/proxy/spool"
)

// The age by which a message gets slow and expires is the time for which it was
// tried, by a clock that never jumps. It is saved with the progress. What the
// wall clock says decides nothing while we run, and at the start no more than
// one wait: so long may the last record be old, and a gateway that was down for
// a week, or wakes up in another year, returns nobody's mail.

// age is for how long a message was tried.
func (q *Queue) age(it *item) time.Duration { return it.age + q.elapsed() - it.since }

// ageAtStart is the age of a message that was in the spool before us. longest is
// the time between two records of it.
func ageAtStart(m *spool.Message, now time.Time, longest time.Duration) time.Duration {
	last := m.Received
	for _, r := range m.Recipients {
		if r.Last.After(last) {
			last = r.Last
		}
	}
	age := m.Age
	if age == 0 && m.Attempts > 0 { // saved by a version that didn't note it
		age = last.Sub(m.Received)
	}
	return age + min(max(now.Sub(last), 0), longest)
}

// leastAttempts must have been made before a message expires: time alone is no
// reason to give up what stood in a long line.
const leastAttempts = 3

// expired reports whether a message of that age and that many attempts is given
// up.
func expired(maxAge, age time.Duration, attempts int) bool {
	return age >= maxAge && (attempts >= leastAttempts || maxAge == 0)
}
