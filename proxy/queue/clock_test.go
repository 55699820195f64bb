package queue

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/proxy/spool"
)

// clockRig has mail of every age up to nearly its end, put off by a host that
// answers, all of it tried as often as its age wants.
func clockRig(t *testing.T, clock *time.Duration) (*rig, int) {
	r := newRig(t)
	r.now = func() time.Time { return time.Now().Add(*clock) }
	r.next.set("example.com", deferAll)
	const messages = 55
	for i := range messages {
		age := time.Duration(2*i) * time.Hour
		e := r.entry("alice@sender.example", fmt.Sprintf("user%d@example.com", i))
		e.Received = r.clock().Add(-age)
		p := spool.Progress{State: spool.Queue, Attempts: 2*i + 3, Age: age, Next: r.clock().Add(time.Minute), Recipients: make([]spool.Recipient, 1)}
		p.Recipients[0].Attempts, p.Recipients[0].Last = 2*i+3, r.clock()
		if age > 24*time.Hour {
			p.State = spool.Slow
		}
		if err := r.spool.Save(r.commit(e)[0], p); err != nil {
			t.Fatal(err)
		}
	}
	return r, messages
}

// Q5: the wall clock jumps while we run, across a restart, and back again.
// Nothing expires for it, nothing comes before its time, nothing waits longer
// than it would, and mail that comes meanwhile goes its way.
func TestClockJumpsOverFullQueue(t *testing.T) {
	const day = 24 * time.Hour
	for _, jump := range []time.Duration{day, -day, 3652 * day, -3652 * day} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v restart=%v", jump, restart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					clock := time.Duration(0)
					r, messages := clockRig(t, &clock)
					r.start(nil)
					time.Sleep(time.Minute)
					synctest.Wait()
					clock = jump
					if restart {
						r.restart()
						synctest.Wait()
					}
					first := len(r.next.attempts("example.com"))
					time.Sleep(time.Hour)
					synctest.Wait()
					if n := len(r.left()); n != messages {
						t.Errorf("%d of %d messages are left an hour after the jump", n, messages)
					}
					// Those of the first day have their hourly retry, and a start
					// tries once what seems to be due.
					if n := len(r.next.attempts("example.com")) - first; n > messages+2*13 {
						t.Errorf("%d attempts in the hour after the jump", n)
					}
					time.Sleep(4 * time.Hour)
					synctest.Wait()
					if n := len(r.next.attempts("example.com")) - first; n < messages*3/4 {
						t.Errorf("%d attempts in five hours", n)
					}
					at := time.Now()
					r.send("", "bob@live.example")
					synctest.Wait()
					if got := r.next.attempts("live.example"); len(got) != 1 || got[0].at != at {
						t.Errorf("mail that comes then: %+v", got)
					}
					clock = 0 // somebody mends it
					r.restart()
					time.Sleep(time.Hour)
					synctest.Wait()
					if n := len(r.left()); n < messages-2 { // the oldest comes to its end by now
						t.Errorf("%d of %d messages are left when the clock is right again", n, messages)
					}
					time.Sleep(6 * day)
					synctest.Wait()
					r.wantEmpty()
					if n := len(r.bounces()); n != messages {
						t.Errorf("%d of %d were told in the end", n, messages)
					}
				})
			})
		}
	}
}

// The age at the start: what was noted, and of the time since then no more than
// one wait.
func TestAgeAtStart(t *testing.T) {
	const hour = time.Hour
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name     string
		received time.Duration // ago
		last     time.Duration // attempt, ago; negative: none
		age      time.Duration
		attempts int
		want     time.Duration
	}{
		{"just come", 0, -1, 0, 0, 0},
		{"minutes ago, never tried", 10 * time.Minute, -1, 0, 0, 10 * time.Minute},
		{"a week ago, never tried", 7 * 24 * hour, -1, 0, 0, hour},
		{"tried", 50 * hour, 20 * time.Minute, 49 * hour, 50, 49*hour + 20*time.Minute},
		{"tried, and we were down for a week", 9 * 24 * hour, 7 * 24 * hour, 47 * hour, 50, 48 * hour},
		{"tried, and the clock went back", -90 * hour, -80 * hour, 10 * hour, 12, 10 * hour},
		{"saved by an older version", 50 * hour, 20 * time.Minute, 0, 50, 50 * hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := &spool.Message{Entry: spool.Entry{Received: now.Add(-tt.received)}}
			m.Age, m.Attempts, m.Recipients = tt.age, tt.attempts, make([]spool.Recipient, 2)
			if tt.last != -1 {
				m.Recipients[1].Last = now.Add(-tt.last)
			}
			if got := ageAtStart(m, now, hour); got != tt.want {
				t.Errorf("ageAtStart = %v, want %v", got, tt.want)
			}
		})
	}
}
