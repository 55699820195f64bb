package queue

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

// Far more destinations than workers hang, each with more mail than its window:
// those that never answered, those that fail, and those that answered well until
// now. One that works gets its mail at once, and one that nobody knew does, too.
func TestHangingDestinationsLeaveWorkers(t *testing.T) {
	tests := []struct {
		name  string
		known bool // they worked before
		many  int
	}{
		{"never seen", false, 30},
		{"never seen, more than there are workers", false, 300},
		{"worked until now", true, 30},
		{"worked until now, more than there are workers", true, 300},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.start(nil)
				synctest.Wait()
				r.send("", "bob@live.example")
				for i := range tt.many {
					if tt.known {
						r.send("", fmt.Sprintf("bob@hung%d.example", i))
					}
					r.next.set(fmt.Sprintf("hung%d.example", i), func(ctx context.Context, s seen) []mail.Outcome {
						ctx, cancel := context.WithTimeout(ctx, 5*time.Minute) // as a next hop's command would
						defer cancel()
						return hung(ctx, s)
					})
				}
				synctest.Wait()
				for n := range 8 * tt.many {
					r.send("", fmt.Sprintf("bob@hung%d.example", n%tt.many))
				}
				time.Sleep(time.Second)
				for i := range 100 {
					at := time.Now()
					r.send("", "bob@live.example")
					synctest.Wait()
					got := r.next.attempts("live.example")
					if len(got) != i+2 || got[i+1].at != at {
						t.Fatalf("after %v a living destination waits", time.Duration(i)*time.Minute)
					}
					r.send("", fmt.Sprintf("bob@new%d.example", i))
					time.Sleep(time.Minute)
				}
				time.Sleep(10 * time.Minute) // of which two times five may be needed to see who hangs
				for i := range 100 {
					if n := len(r.next.attempts(fmt.Sprintf("new%d.example", i))); n != 1 {
						t.Errorf("%d attempts at the stranger of minute %d", n, i)
					}
				}
			})
		})
	}
}

// One destination never gets more than half of what is free, and what is free
// again goes to those who stood aside.
func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start(func(c *Config) { c.MaxDeliveries, c.MaxPerDestination = 16, 16 })
		synctest.Wait()
		var open [3]func()
		for i := range open {
			dest := fmt.Sprintf("d%d.example", i)
			gate, opened := context.WithCancel(context.Background())
			open[i] = opened
			for range 20 { // it is good, and its window wide
				r.send("", "bob@"+dest)
			}
			synctest.Wait()
			r.next.set(dest, func(ctx context.Context, s seen) []mail.Outcome {
				<-gate.Done()
				return accept(ctx, s)
			})
			for range 30 {
				r.send("", "bob@"+dest)
			}
		}
		synctest.Wait()
		active := func() (got [3]int) {
			r.queue.mu.Lock()
			defer r.queue.mu.Unlock()
			for i := range got {
				got[i] = r.queue.dests[fmt.Sprintf("d%d.example", i)].active
			}
			return got
		}
		if got, want := active(), [3]int{8, 4, 2}; got != want {
			t.Errorf("deliveries: %v, want %v", got, want)
		}
		open[0]() // those who stood aside share what the first one held
		synctest.Wait()
		if got := active(); got[0] != 0 || got[1]+got[2] < 10 || got[2] < 4 {
			t.Errorf("deliveries when the first has gone: %v", got)
		}
		open[1]()
		open[2]()
		synctest.Wait()
		r.wantEmpty()
	})
}

// Groups have limits of their own, for all their destinations together and for
// each, and schedules.
func TestGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 10 {
			r.next.set(fmt.Sprintf("d%dremote.example", i), hung)
			r.next.set(fmt.Sprintf("d%dlocal.example", i), deferAll)
		}
		r.start(func(c *Config) {
			c.Groups = map[string]Group{
				"remote": {MaxDeliveries: 7, MaxPerDestination: 2},
				"local":  {FirstRetry: time.Minute, MaxRetry: time.Minute, MaxAge: 2 * time.Hour},
			}
		})
		synctest.Wait()
		for n := range 100 {
			r.send("", fmt.Sprintf("bob@d%dremote.example", n%10))
		}
		synctest.Wait()
		total := 0
		for i := range 10 {
			n := len(r.next.attempts(fmt.Sprintf("d%dremote.example", i)))
			total += n
			if n > 2 {
				t.Errorf("%d deliveries to one remote destination", n)
			}
		}
		if total != 7 {
			t.Errorf("%d remote deliveries, want 7", total)
		}
		local := r.send("", "bob@d0local.example")
		both := r.send("", "bob@d1local.example", "bob@d0internal.example")
		r.next.set("d0internal.example", deferAll)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := r.message(local).Attempts; n < 58 || n > 82 { // each minute, or a quarter earlier
			t.Errorf("%d local attempts in an hour", n)
		}
		if n := r.message(both).Attempts; n < 58 || n > 82 {
			t.Errorf("%d attempts in an hour where one recipient is local", n)
		}
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		if _, err := r.spool.Get(local); err == nil {
			t.Error("a local message older than two hours is still there")
		}
		if _, err := r.spool.Get(both); err != nil {
			t.Errorf("one that has an internal recipient, too: %v", err)
		}
	})
}

// A reload takes effect while deliveries run: more workers, fewer, other windows,
// other times.
func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		gate := make(chan struct{})
		for i := range 40 {
			r.next.set(fmt.Sprintf("d%d.example", i), func(ctx context.Context, s seen) []mail.Outcome {
				<-gate
				return accept(ctx, s)
			})
		}
		r.start(func(c *Config) { c.MaxDeliveries = 8 })
		synctest.Wait()
		active := func() int {
			r.queue.mu.Lock()
			defer r.queue.mu.Unlock()
			n := 0
			for _, d := range r.queue.dests {
				n += d.active
			}
			return n
		}
		for n := range 400 {
			r.send("", fmt.Sprintf("bob@d%d.example", n%40))
		}
		synctest.Wait()
		if n := active(); n != 6 { // two are for those that are known to work
			t.Errorf("%d deliveries to strangers with 8 workers", n)
		}
		set := func(change func(*Config)) {
			t.Helper()
			change(&r.cfg)
			if err := r.queue.Update(r.cfg); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		set(func(c *Config) { c.MaxDeliveries = 40 })
		if n := active(); n != 30 {
			t.Errorf("%d deliveries after an update to 40", n)
		}
		set(func(c *Config) { c.MaxDeliveries = 4 })
		for range 30 {
			gate <- struct{}{}
		}
		synctest.Wait()
		if n := active(); n > 4 {
			t.Errorf("%d deliveries after an update to 4", n)
		}
		bad := r.cfg
		bad.MaxRetry = 0
		if err := r.queue.Update(bad); err == nil {
			t.Error("a bad configuration was taken")
		}
		close(gate)
		synctest.Wait()
		r.wantEmpty()
		r.next.set("d0.example", deferAll)
		set(func(c *Config) { c.FirstRetry, c.MaxRetry = time.Second, time.Second })
		id := r.send("", "bob@d0.example")
		time.Sleep(time.Minute)
		if n := r.message(id).Attempts; n < 50 {
			t.Errorf("%d attempts in a minute with retries each second", n)
		}
	})
}
