package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// The rule by which UMBC moved mail between sendmail's queues, to the second.
func TestSlowRule(t *testing.T) {
	umbc := DefaultConfig()
	umbc.BounceSlowAfter = 24 * time.Hour
	tests := []struct {
		group string
		age   int // seconds
		dsn   bool
		want  Lane
	}{
		{"remote", 86399, false, Retry},
		{"remote", 86399, true, Retry},
		{"remote", 86400, false, Slow},
		{"remote", 86400, true, Slow},
		{"internal", 90000, false, Slow},
		{"internal", 90000, true, Slow},
		{"internal", 86399, false, Retry},
		{"local", 90000, false, Retry},
		{"local", 90_000_000, false, Retry},
		{"local", 90000, true, Slow},
		{"local", 86399, true, Retry},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %d dsn=%v", tt.group, tt.age, tt.dsn), func(t *testing.T) {
			r := newRig(t)
			r.cfg = umbc
			r.remake()
			e := r.entry("", "bob@"+tt.group+".example")
			if tt.dsn {
				e.Origin = spool.FromDSN
			}
			for _, state := range []spool.State{spool.Queue, spool.Slow} {
				m := &spool.Message{Entry: e, Progress: spool.Progress{State: state, Attempts: 30, Recipients: make([]spool.Recipient, 1)}}
				want := tt.want
				if state == spool.Slow { // stays there, whatever its age
					want = Slow
				}
				for range 2 { // the second time changes nothing
					r.queue.shift(m, wishNone, r.queue.termsOf(m), time.Duration(tt.age)*time.Second)
					if got := LaneOf(m); got != want || m.Attempts != 30 {
						t.Errorf("from %s: in lane %s with %d attempts, want %s with 30", state, got, m.Attempts, want)
					}
				}
			}
		})
	}
}

// A message that nobody takes: a day of retries, then the slow lane with its own
// times, and the end by its age. Neither the attempts nor the age begin anew.
func TestLifeOfSlowMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("remote.example", deferAll)
		r.start(nil)
		id := r.send("alice@sender.example", "bob@remote.example")
		time.Sleep(23*time.Hour + 50*time.Minute)
		synctest.Wait()
		m := r.message(id)
		if LaneOf(m) != Retry {
			t.Fatalf("in lane %s before a day is over", LaneOf(m))
		}
		before := len(r.next.attempts("remote.example"))
		time.Sleep(time.Hour + 10*time.Minute)
		synctest.Wait()
		if m = r.message(id); LaneOf(m) != Slow {
			t.Fatalf("in lane %s after a day", LaneOf(m))
		}
		r.restart() // a lane outlives us
		time.Sleep(4*24*time.Hour - 4*time.Hour)
		synctest.Wait()
		m = r.message(id)
		n := len(r.next.attempts("remote.example"))
		if got := n - before; got < 4*6-2 || got > 4*8+2 || m.Attempts != n {
			t.Errorf("%d attempts in four slow days, %d in all, %d noted", got, n, m.Attempts)
		}
		time.Sleep(8 * time.Hour)
		synctest.Wait()
		if got := r.bounces(); len(got) != 1 {
			t.Fatalf("%d bounces after five days", len(got))
		}
		r.wantEmpty()
		if moved := r.log.lines(t, "moved", id); len(moved) != 1 {
			t.Errorf("moved %d times", len(moved))
		}
	})
}

// However much slow mail there is and however it hangs, it has its share of
// workers and no more, and fresh mail goes in the moment it comes: to another
// destination, and to the same one.
func TestSlowLaneIsInNobodysWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		slow := spool.Progress{State: spool.Slow, Attempts: 30, Age: 30 * time.Hour, Recipients: make([]spool.Recipient, 1)}
		for i := range 400 {
			e := r.entry("", fmt.Sprintf("slow%d@d%d.example", i, i%40))
			if err := r.spool.Save(r.commit(e)[0], slow); err != nil {
				t.Fatal(err)
			}
		}
		counted := make(chan int, 1)
		counted <- 0
		most := 0
		lazy := func(ctx context.Context, s seen) []mail.Outcome {
			if s.rcpts[0][:4] != "slow" {
				return accept(ctx, s)
			}
			n := <-counted + 1
			most = max(most, n)
			counted <- n
			<-ctx.Done()
			counted <- <-counted - 1
			return hung(ctx, s)
		}
		for i := range 40 {
			r.next.set(fmt.Sprintf("d%d.example", i), lazy)
		}
		r.start(func(c *Config) { c.MaxDeliveries, c.SlowMaxDeliveries, c.AttemptTimeout = 20, 4, 10*time.Hour })
		time.Sleep(time.Hour)
		for i := range 40 {
			at := time.Now()
			dest := fmt.Sprintf("d%d.example", i)
			r.send("", "fresh@"+dest)
			synctest.Wait()
			if !slices.ContainsFunc(r.next.attempts(dest), func(s seen) bool { return s.rcpts[0] == "fresh@"+dest && s.at == at }) {
				t.Fatalf("fresh mail to %s waits", dest)
			}
		}
		if most != 4 {
			t.Errorf("%d slow deliveries at a time, want the share of 4", most)
		}
	})
}

// What an admin does to lanes and lives, on a queue that runs, one that does
// not, and in the midst of an attempt.
func TestMoveBounceExpire(t *testing.T) {
	type call func(r *rig, id string) (int, error)
	move := func(lane Lane) call {
		return func(r *rig, id string) (int, error) { return r.queue.Move(context.Background(), lane, id) }
	}
	bounce := func(r *rig, id string) (int, error) { return r.queue.Bounce(context.Background(), id) }
	expire := func(r *rig, id string) (int, error) { return r.queue.Expire(context.Background(), id) }
	tests := []struct {
		name   string
		do     call
		lane   Lane // "": the message is gone
		status string
	}{
		{"move to slow", move(Slow), Slow, ""},
		{"move where it is", move(Retry), Retry, ""},
		{"bounce", bounce, "", "5.0.0"},
		{"expire", expire, "", "4.4.7"},
	}
	modes := []struct {
		name    string
		offline bool
		during  bool
	}{{"running", false, false}, {"offline", true, false}, {"during an attempt", false, true}}
	for _, tt := range tests {
		for _, mode := range modes {
			t.Run(tt.name+", "+mode.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					r.next.set("example.com", deferAll)
					r.run()
					id := r.send("alice@sender.example", "bob@example.com", "done@example.net")
					synctest.Wait()
					attempts := 1
					switch {
					case mode.offline:
						r.stop()
						r.remake()
					case mode.during:
						r.next.set("example.com", func(ctx context.Context, s seen) []mail.Outcome {
							time.Sleep(time.Minute)
							return deferAll(ctx, s)
						})
						time.Sleep(r.cfg.FirstRetry)
						attempts++
					}
					if n, err := tt.do(r, id); n != 1 || err != nil {
						t.Fatalf("%d, %v", n, err)
					}
					if mode.during {
						time.Sleep(2 * time.Minute)
					}
					if mode.offline {
						r.run()
					}
					synctest.Wait()
					if tt.lane != "" {
						if m := r.message(id); LaneOf(m) != tt.lane || m.Attempts != attempts {
							t.Errorf("in lane %s after %d attempts, want %s after %d", LaneOf(m), m.Attempts, tt.lane, attempts)
						}
						return
					}
					r.wantEmpty()
					got := r.bounces()
					if len(got) != 1 || got[0].statuses() != "bob@example.com=failed" || got[0].recipients[0].Get("Status") != tt.status {
						t.Errorf("bounces: %+v", got)
					}
				})
			})
		}
	}
}

// A move that was not recorded did not happen, and what stands in line leaves it.
func TestMoveOutOfLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", hung)
		r.start(func(c *Config) { c.MaxPerDestination = 1 })
		synctest.Wait()
		r.send("", "first@example.com")
		id := r.send("", "bob@example.com")
		synctest.Wait()
		works := r.failing(stepMove)
		if n, err := r.queue.Move(t.Context(), Slow, id); n != 0 || err == nil {
			t.Fatalf("%d, %v", n, err)
		}
		works()
		if LaneOf(r.message(id)) != Fresh {
			t.Errorf("in lane %s", LaneOf(r.message(id)))
		}
		if n, err := r.queue.Move(t.Context(), Slow, id, id); n != 2 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		synctest.Wait()
		r.queue.mu.Lock()
		d := r.queue.dests["example.com"]
		n := 0
		for l := &d.line[slowLine]; l.len() > 0; {
			if l.pop().phase != finished { // the others are dropped by whoever meets them
				n++
			}
		}
		r.queue.mu.Unlock()
		if n != 1 {
			t.Errorf("%d messages in the slow line", n)
		}
		if n, err := r.queue.Move(t.Context(), Fresh, id); n != 0 || err == nil {
			t.Errorf("to fresh: %d, %v", n, err)
		}
	})
}

// Held mail: what was quarantined when it came makes no bounce; what an admin
// holds, or a filter is still to judge, can be ended.
func TestEndOfHeld(t *testing.T) {
	tests := []struct {
		name   string
		change func(*spool.Entry)
		want   error
	}{
		{"quarantined", func(e *spool.Entry) { e.State, e.Reason = spool.Hold, "virus" }, ErrQuarantined},
		{"not judged yet", func(e *spool.Entry) { e.State, e.Unscanned = spool.Hold, "clamav" }, nil},
		{"held later", func(*spool.Entry) {}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				e := r.entry("alice@sender.example", "bob@example.com")
				tt.change(&e)
				id := r.commit(e)[0]
				if e.State != spool.Hold {
					if _, err := r.queue.Hold(t.Context(), "a look", id); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := r.queue.Move(t.Context(), Slow, id); !errors.Is(err, ErrHeld) {
					t.Errorf("move: %v", err)
				}
				r.run()
				synctest.Wait() // the spool is read: what it shows of a notification is not put off
				n, err := r.queue.Expire(t.Context(), id)
				if !errors.Is(err, tt.want) || (n == 1) != (tt.want == nil) {
					t.Fatalf("%d, %v, want %v", n, err, tt.want)
				}
				synctest.Wait()
				if n := len(r.bounces()); (n == 1) != (tt.want == nil) {
					t.Errorf("%d bounces", n)
				}
				if tt.want == nil {
					r.wantEmpty()
				}
			})
		})
	}
}
