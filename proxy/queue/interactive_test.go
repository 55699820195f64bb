package queue

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// loose is a message that is not in the spool.
type loose struct{ *strings.Reader }

func (l loose) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, strings.NewReader(body)) }

// try tries a message that is not in the spool.
func (r *rig) try(rcpts ...string) *spool.Message {
	r.t.Helper()
	m := &spool.Message{Entry: r.entry("alice@sender.example", rcpts...)}
	m.Progress.State = spool.Queue
	m.Recipients = make([]spool.Recipient, len(rcpts))
	r.queue.Attempt(r.t.Context(), m, loose{strings.NewReader(body)})
	return m
}

// how is the state of the recipients; "-" for one that was not tried.
func how(m *spool.Message) string {
	var all []string
	for _, r := range m.Recipients {
		if r.Attempts == 0 {
			all = append(all, "-")
		} else {
			all = append(all, r.Status.String())
		}
	}
	return strings.Join(all, " ")
}

// Each recipient is tried at his destination, and what came of it is noted and
// logged; one without a route is refused.
func TestAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("no.example", refuse)
		r.next.set("full.example", deferAll)
		r.next.set("broken.example", func(context.Context, seen) []mail.Outcome { panic("bug") })
		r.next.forbid("nowhere.example", true)
		r.start(nil)
		synctest.Wait() // it runs
		m := r.try("a@yes.example", "b@no.example", "c@full.example", "d@yes.example", "e@nowhere.example", "f@broken.example")
		if got := how(m); got != "sent bounced deferred sent bounced deferred" {
			t.Errorf("got %s", got)
		}
		if n := len(r.next.attempts("yes.example")); n != 1 {
			t.Errorf("%d attempts for two recipients of one destination", n)
		}
		if lines := r.log.lines(t, "delivery", m.ID); len(lines) != 6 {
			t.Errorf("%d lines of delivery, want 6", len(lines))
		}
		if r.tally.get("yes.example sent") != 2 {
			t.Errorf("counted %v", r.tally.counts)
		}
		r.wantEmpty()
	})
}

// A destination has no more deliveries than it may, one that is away is left
// alone, and a queue that does not run tries nothing.
func TestAttemptKeepsToLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		if got := how(r.try("a@yes.example")); got != "-" {
			t.Errorf("%s before Run", got)
		}
		hold := make(chan struct{})
		r.next.set("slow.example", func(ctx context.Context, s seen) []mail.Outcome { <-hold; return accept(ctx, s) })
		r.next.set("dead.example", dead)
		r.start(func(c *Config) { c.MaxPerDestination = 2 })
		synctest.Wait() // it runs
		var under sync.WaitGroup
		for range 2 {
			under.Go(func() { r.try("a@slow.example") })
		}
		synctest.Wait()
		if got := how(r.try("a@slow.example", "b@yes.example")); got != "- sent" {
			t.Errorf("%s beside two that take all places", got)
		}
		close(hold)
		under.Wait()
		if got := how(r.try("a@slow.example")); got != "sent" {
			t.Errorf("%s after they ended", got)
		}
		if got := how(r.try("a@dead.example")); got != "deferred" {
			t.Errorf("%s at one that is away", got)
		}
		if got := how(r.try("a@dead.example")); got != "-" {
			t.Errorf("%s at one that is known to be away", got)
		}
		r.queue.mu.Lock()
		for name, d := range r.queue.dests {
			if d.active != 0 || d.group.active != 0 {
				t.Errorf("%s: %d and %d deliveries left", name, d.active, d.group.active)
			}
		}
		r.queue.mu.Unlock()
		r.stop()
		if got := how(r.try("a@yes.example")); got != "-" {
			t.Errorf("%s after Run", got)
		}
	})
}

// What was tried in vain waits its time, what was not tried goes at once, and
// what failed is told.
func TestTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("full.example", deferAll)
		r.next.set("no.example", refuse)
		r.start(func(c *Config) { c.FirstRetry = 10 * time.Minute })
		synctest.Wait() // it runs
		commit := func(m *spool.Message) {
			r.commit(m.Entry)
			r.queue.Tried(m)
		}
		commit(r.try("a@no.example"))
		full := r.try("a@full.example")
		commit(full)
		untried := &spool.Message{Entry: r.entry("alice@sender.example", "a@yes.example")}
		untried.Progress.State, untried.Recipients = spool.Queue, make([]spool.Recipient, 1)
		commit(untried)
		synctest.Wait()
		if got := r.bounces(); len(got) != 1 || got[0].statuses() != "a@no.example=failed" {
			t.Errorf("notifications %v", got)
		}
		if n := len(r.next.attempts("yes.example")); n != 1 {
			t.Errorf("what was not tried had %d attempts", n)
		}
		if got := r.message(full.ID); got.Attempts != 1 || got.Recipients[0].Reply.Code != 452 || !got.Next.After(r.clock().Add(7*time.Minute)) {
			t.Errorf("in the spool: %+v", got.Progress)
		}
		r.next.set("full.example", nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := len(r.next.attempts("full.example")); n != 2 {
			t.Errorf("%d attempts, want 2", n)
		}
		r.wantEmpty()
	})
}
