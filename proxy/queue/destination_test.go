package queue

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

// hung takes a connection and says nothing until it is told to stop.
func hung(ctx context.Context, s seen) []mail.Outcome {
	<-ctx.Done()
	return all(s, mail.Deferred, 451, "4.2", "timeout", remote(s.dest))
}

// Hung and dead destinations, with far more mail than workers, don't delay what
// goes elsewhere.
func TestDestinationsAreIsolated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 10 {
			r.next.set(fmt.Sprintf("hung%d.example", i), hung)
			r.next.set(fmt.Sprintf("dead%d.example", i), dead)
		}
		r.start(nil)
		synctest.Wait()
		for n := range 600 {
			r.send("", fmt.Sprintf("bob@hung%d.example", n%10))
			r.send("", fmt.Sprintf("bob@dead%d.example", n%10))
		}
		synctest.Wait()
		for hour := range 5 {
			at := time.Now()
			r.send("", "bob@example.com", "carol@hung1.example")
			synctest.Wait()
			got := r.next.attempts("example.com")
			if len(got) != hour+1 || got[hour].at.Sub(at) > 0 {
				t.Fatalf("hour %d: attempts: %+v", hour, got)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestLimits(t *testing.T) {
	tests := []struct {
		name              string
		total, each, want int
	}{
		{"per destination", 100, 20, 20},
		{"half of what is free", 7, 20, 4},
		{"one at a time", 100, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				running, most := make(chan int, 1), 0
				running <- 0
				r.next.set("example.com", func(ctx context.Context, s seen) []mail.Outcome {
					n := <-running + 1
					most = max(most, n)
					running <- n
					time.Sleep(time.Second)
					running <- <-running - 1
					return accept(ctx, s)
				})
				r.start(func(c *Config) { c.MaxDeliveries, c.MaxPerDestination = tt.total, tt.each })
				synctest.Wait()
				for range 200 {
					r.send("", "bob@example.com")
				}
				time.Sleep(time.Hour)
				r.wantEmpty()
				if most != tt.want {
					t.Errorf("%d deliveries at a time, want %d", most, tt.want)
				}
			})
		})
	}
}

// A destination that is down is probed, not hammered; when it is back,
// everything flows within the longest pause.
func TestUnreachableDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", dead)
		r.start(nil)
		synctest.Wait()
		const messages = 500
		for range messages {
			r.send("alice@sender.example", "bob@example.com")
		}
		time.Sleep(10 * time.Hour)
		n := len(r.next.attempts("example.com"))
		if n < 100 || n > 200 { // a probe every 5 minutes or a little earlier, and the first ones
			t.Errorf("%d attempts in ten hours", n)
		}
		if got := r.tally.get("example.com deferred"); got != n {
			t.Errorf("%d attempts counted, %d made", got, n)
		}
		id := r.send("", "late@example.com")
		synctest.Wait()
		m := r.message(id)
		if got, want := m.Recipients[0].Reply.Text, "delivery suspended, waiting for example.com to return: 451 4.4.1 connection refused"; got != want {
			t.Errorf("reply of one that waits = %q, want %q", got, want)
		}
		r.next.set("example.com", nil)
		time.Sleep(r.cfg.MaxPause)
		synctest.Wait()
		r.wantEmpty()
		if len(r.bounces()) != 0 {
			t.Error("a bounce")
		}
	})
}

// A server that says "going down" to everybody is left alone, too.
func TestRefusingDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", func(_ context.Context, s seen) []mail.Outcome {
			return all(s, mail.Deferred, 421, "3.2", "too busy", remote(s.dest))
		})
		r.start(nil)
		synctest.Wait()
		for range 200 {
			r.send("", "bob@example.com")
		}
		time.Sleep(time.Hour)
		if n := len(r.next.attempts("example.com")); n > 30 {
			t.Errorf("%d attempts in an hour", n)
		}
		r.next.set("example.com", nil)
		time.Sleep(r.cfg.MaxRetry)
		synctest.Wait()
		r.wantEmpty()
	})
}

// A message that makes the server close with 421 does not wait for its
// destination: it would be the probe again and again.
func TestPoisonedMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", func(ctx context.Context, s seen) []mail.Outcome {
			if s.rcpts[0] == "poison@example.com" {
				return all(s, mail.Deferred, 421, "3.0", "going down", remote(s.dest))
			}
			return accept(ctx, s)
		})
		r.start(nil)
		synctest.Wait()
		id := r.send("", "poison@example.com")
		synctest.Wait()
		for range 24 * 60 {
			r.send("", "bob@example.com")
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if got := r.left(); len(got) != 1 || got[0] != id {
			t.Errorf("left: %d messages", len(got))
		}
		if m := r.message(id); m.Attempts > 32 {
			t.Errorf("%d attempts of the poisoned message in a day", m.Attempts)
		}
		var worst time.Duration
		for _, line := range r.log.lines(t, "delivery", "") {
			if line["to"] == "bob@example.com" && line["status"] == "sent" {
				worst = max(worst, time.Duration(line["delay"].(float64)))
			}
		}
		if worst > r.cfg.FirstPause {
			t.Errorf("a good message was delayed for %v", worst)
		}
	})
}

// A server that puts off one mailbox is no reason to spare it.
func TestBusyRecipientIsNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", each(func(rcpt string) answer {
			if rcpt == "full@example.com" {
				return deferAll
			}
			return accept
		}))
		r.start(nil)
		synctest.Wait()
		for range 100 {
			r.send("", "full@example.com")
		}
		synctest.Wait()
		at := time.Now()
		r.send("", "bob@example.com")
		synctest.Wait()
		if got := r.next.attempts("example.com"); len(got) != 101 || got[100].at != at {
			t.Errorf("%d attempts, the last one %v late", len(got), got[len(got)-1].at.Sub(at))
		}
	})
}

func TestJudge(t *testing.T) {
	local := mail.Outcome{Reply: mail.Reply{Code: 451, Detail: "3.0"}}
	o := func(s mail.Status, code int, remote string) mail.Outcome {
		return mail.Outcome{Status: s, Reply: mail.Reply{Code: code}, Remote: remote}
	}
	tests := []struct {
		name string
		out  []mail.Outcome
		took time.Duration
		want verdict
	}{
		{"delivered", []mail.Outcome{o(mail.Delivered, 250, "mx")}, 0, useful},
		{"refused", []mail.Outcome{o(mail.Failed, 550, "mx")}, 0, useful},
		{"refused by ourselves", []mail.Outcome{o(mail.Failed, 554, "")}, 0, silent},
		{"put off", []mail.Outcome{o(mail.Deferred, 452, "mx")}, 0, busy},
		{"put off after long", []mail.Outcome{o(mail.Deferred, 451, "mx")}, time.Minute, refusing},
		{"421", []mail.Outcome{o(mail.Deferred, 421, "mx"), o(mail.Deferred, 421, "mx")}, 0, refusing},
		{"421 in the middle", []mail.Outcome{o(mail.Delivered, 250, "mx"), o(mail.Deferred, 421, "mx")}, 0, useful},
		{"some put off, then 421", []mail.Outcome{o(mail.Deferred, 452, "mx"), o(mail.Deferred, 421, "mx")}, 0, busy},
		{"no connection", []mail.Outcome{o(mail.Deferred, 451, ""), o(mail.Deferred, 451, "")}, 0, unreachable},
		{"trouble of our own", []mail.Outcome{local, local}, 0, silent},
		{"zero outcome", make([]mail.Outcome, 1), 0, unreachable},
		{"one refused by ourselves, no connection", []mail.Outcome{o(mail.Failed, 553, ""), o(mail.Deferred, 451, "")}, 0, silent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := judge(tt.out, tt.took); got != tt.want {
				t.Errorf("judge = %d, want %d", got, tt.want)
			}
		})
	}
}

// Memory follows what is queued, whatever there was before.
func TestIdleDestinationsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start(nil)
		synctest.Wait()
		for i := range 2 * fewDestinations {
			r.send("", fmt.Sprintf("bob@d%d.example", i))
		}
		synctest.Wait()
		r.wantEmpty()
		if n := len(r.queue.dests); n > fewDestinations {
			t.Errorf("%d destinations are remembered", n)
		}
	})
}

func TestBacklogIsNotLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", hung)
		r.cfg.Grace = 0
		r.remake()
		const keep = 100
		r.queue.keep = keep
		r.run()
		synctest.Wait()
		for range 1000 {
			r.send("", "bob@example.com")
		}
		synctest.Wait()
		r.queue.mu.Lock()
		loaded := r.queue.loaded
		r.queue.mu.Unlock()
		if loaded > keep+1 {
			t.Errorf("%d messages are in memory", loaded)
		}
		r.next.set("example.com", nil)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		r.wantEmpty()
	})
}

func TestFIFO(t *testing.T) {
	var f fifo[int]
	in, out := 0, 0
	for round := range 50 {
		for range round * 37 % 500 {
			f.push(in)
			in++
		}
		for range min(f.len(), round*41%600) {
			if got := f.pop(); got != out {
				t.Fatalf("pop = %d, want %d", got, out)
			}
			out++
		}
		if f.len() != in-out {
			t.Fatalf("len = %d, want %d", f.len(), in-out)
		}
	}
	for f.len() > 0 {
		f.pop()
	}
	if cap(f.items) > 1024 {
		t.Errorf("an empty fifo holds memory for %d", cap(f.items))
	}
}

// Attempts that fail together are one failure: the first probe comes soon.
func TestFailuresTogetherCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", func(ctx context.Context, s seen) []mail.Outcome {
			time.Sleep(time.Second)
			return dead(ctx, s)
		})
		r.start(nil)
		synctest.Wait()
		for range 50 {
			r.send("", "bob@example.com")
		}
		synctest.Wait()
		if n := len(r.next.attempts("example.com")); n != firstWindow {
			t.Fatalf("%d attempts at first", n)
		}
		time.Sleep(time.Second + r.cfg.FirstPause)
		synctest.Wait()
		if n := len(r.next.attempts("example.com")); n != firstWindow+1 {
			t.Errorf("%d attempts after the first pause, want one probe", n-firstWindow)
		}
	})
}

// A probe that ends without an answer does not end the probing.
func TestProbeWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		works := r.failing(stepAttempt)
		inner := r.fail
		var sick atomic.Bool
		r.fail = func(step string) error {
			if sick.Load() {
				return inner(step)
			}
			return nil
		}
		r.next.set("example.com", dead)
		r.start(nil)
		synctest.Wait()
		for range 10 {
			r.send("", "bob@example.com")
		}
		synctest.Wait()
		sick.Store(true) // the next probe fails on our side
		time.Sleep(r.cfg.FirstPause)
		synctest.Wait()
		works()
		r.next.set("example.com", nil)
		time.Sleep(2 * r.cfg.FirstPause)
		synctest.Wait()
		if n := len(r.left()); n > 1 { // the one that met our failure has its own time
			t.Errorf("%d messages left", n)
		}
		time.Sleep(2 * r.cfg.FirstRetry)
		synctest.Wait()
		r.wantEmpty()
	})
}

// What was decided when the message was grouped is not forgotten when it leaves
// memory before its turn.
func TestNoRouteInBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.forbid("example.com", true)
		r.next.set("example.net", deferAll)
		r.queue.keep = -1
		r.run()
		synctest.Wait()
		id := r.send("alice@sender.example", "bob@example.com", "carol@example.net")
		synctest.Wait()
		m := r.message(id)
		if m.Recipients[0].Status != mail.Failed || m.Recipients[0].Attempts != 1 || m.Recipients[1].Status != mail.Deferred {
			t.Errorf("recipients: %+v", m.Recipients)
		}
	})
}

// A message that we can't deliver, because of what we are, is no reason to pause
// the destination: it would be the probe again and again.
func TestOwnTroubleIsNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", func(ctx context.Context, s seen) []mail.Outcome {
			if s.rcpts[0] == "poison@example.com" {
				return all(s, mail.Deferred, 451, "3.0", "internal error", "")
			}
			return accept(ctx, s)
		})
		r.start(nil)
		synctest.Wait()
		r.send("", "poison@example.com")
		synctest.Wait()
		r.send("", "bob@example.com")
		synctest.Wait()
		if n := len(r.left()); n != 1 {
			t.Errorf("%d messages left", n)
		}
	})
}

// The one that was to probe is deleted on its way: another one is called.
func TestProbeIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", dead)
		r.start(nil)
		synctest.Wait()
		for range 30 {
			r.send("", "bob@example.com")
		}
		synctest.Wait()
		r.next.set("example.com", nil)
		q := r.queue
		q.mu.Lock()
		d := q.dests["example.com"]
		q.unset(&d.timer)
		q.probe(d) // as its timer would
		chosen := q.due.pop()
		chosen.phase = finished
		delete(q.items, chosen.id)
		q.mu.Unlock()
		if err := r.spool.Remove(chosen.id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(r.cfg.FirstPause)
		synctest.Wait()
		if n := len(r.left()); n != 0 {
			t.Errorf("%d messages left", n)
		}
	})
}

// The pause ends while the only one who would wait for that is being put off: it
// becomes the probe itself.
func TestPauseEndsUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", func(_ context.Context, s seen) []mail.Outcome {
			return all(s, mail.Deferred, 421, "3.0", "going down", remote(s.dest))
		})
		var saves atomic.Int32
		r.fail = func(step string) error {
			if step == stepSaved && saves.Add(1) == 2 {
				time.Sleep(r.cfg.FirstPause + time.Second)
			}
			return nil
		}
		r.start(nil)
		synctest.Wait()
		r.send("", "bob@example.com")
		synctest.Wait()
		r.next.set("example.com", nil)
		id := r.send("", "carol@example.com")
		time.Sleep(2*r.cfg.FirstPause + 2*time.Second)
		synctest.Wait()
		if _, err := r.spool.Get(id); err == nil {
			t.Error("still waiting for a destination that nobody probes")
		}
	})
}
