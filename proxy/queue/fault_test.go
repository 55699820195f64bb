package queue

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

var errFull = errors.New("no space left on device")

// failing makes a step fail until told otherwise.
func (r *rig) failing(steps ...string) (works func()) {
	var healed atomic.Bool
	r.fail = func(step string) error {
		if slices.Contains(steps, step) && !healed.Load() {
			return errFull
		}
		return nil
	}
	return func() { healed.Store(true) }
}

// Q6: what can't be recorded is still known. Nobody gets it twice, nothing
// storms, and when the disk has room again it is recorded.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		works := r.failing(stepSave, stepRemove, stepReport)
		r.next.set("example.com", each(func(rcpt string) answer {
			switch rcpt {
			case "gone@example.com":
				return refuse
			case "busy@example.com":
				return deferAll
			}
			return accept
		}))
		r.start(nil)
		synctest.Wait()
		r.send("alice@sender.example", "bob@example.com")                                          // delivered
		r.send("alice@sender.example", "gone@example.com")                                         // refused
		r.send("alice@sender.example", "bob@example.com", "busy@example.com")                      // partly
		r.send("alice@sender.example", "bob@example.com", "gone@example.com", "carol@example.net") // two destinations
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		if n := len(r.left()); n != 4 {
			t.Fatalf("%d messages left, want all 4", n)
		}
		times := make(map[string]int)
		for _, s := range append(r.next.attempts("example.com"), r.next.attempts("example.net")...) {
			for _, rcpt := range s.rcpts {
				times[s.id+" "+rcpt]++
			}
		}
		for key, n := range times {
			if _, rcpt, _ := cut(key); rcpt != "busy@example.com" && n != 1 {
				t.Errorf("%s was tried %d times", key, n)
			} else if n > 10 {
				t.Errorf("%s was tried %d times in five hours", key, n)
			}
		}
		if n := len(r.bounces()); n != 0 {
			t.Errorf("%d bounces while nothing could be recorded", n)
		}
		if n := len(r.log.lines(t, "progress not recorded", "")) + len(r.log.lines(t, "removal not recorded", "")) +
			len(r.log.lines(t, "notification not recorded", "")); n < 4 || n > 60 {
			t.Errorf("%d lines about it", n)
		}
		works()
		r.next.set("example.com", nil)
		time.Sleep(2 * r.cfg.MaxRetry)
		synctest.Wait()
		r.wantEmpty()
		if n := len(r.bounces()); n != 2 {
			t.Errorf("%d bounces, want 2", n)
		}
	})
}

func cut(key string) (id, rcpt string, ok bool) {
	return key[:mail.IDLength], key[mail.IDLength+1:], true
}

// When the process ends while nothing can be recorded, the next one delivers
// again: once, not more.
func TestDiskFullAndCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		works := r.failing(stepSave, stepRemove)
		r.start(nil)
		synctest.Wait()
		r.send("alice@sender.example", "bob@example.com")
		time.Sleep(time.Hour)
		works()
		r.restart()
		time.Sleep(time.Minute)
		synctest.Wait()
		r.wantEmpty()
		if n := len(r.next.attempts("example.com")); n != 2 {
			t.Errorf("%d deliveries, want 2", n)
		}
	})
}

func TestFaultyDeliverer(t *testing.T) {
	tests := []struct {
		name   string
		answer answer
	}{
		{"panics", func(context.Context, seen) []mail.Outcome { panic("bug") }},
		{"too few outcomes", func(context.Context, seen) []mail.Outcome { return nil }},
		{"too many outcomes", func(_ context.Context, s seen) []mail.Outcome {
			return append(all(s, mail.Delivered, 250, "", "", "mx"), mail.Outcome{})
		}},
		{"unknown status", func(_ context.Context, s seen) []mail.Outcome { return all(s, mail.Status(7), 250, "", "", "mx") }},
		{"zero outcome", func(_ context.Context, s seen) []mail.Outcome { return make([]mail.Outcome, len(s.rcpts)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.next.set("example.com", tt.answer)
				r.start(nil)
				synctest.Wait()
				id := r.send("alice@sender.example", "bob@example.com")
				synctest.Wait()
				if m := r.message(id); m.Recipients[0].Status != mail.Deferred || m.Attempts != 1 {
					t.Errorf("progress: %+v", m.Progress)
				}
				r.next.set("example.com", nil)
				time.Sleep(r.cfg.FirstRetry)
				synctest.Wait()
				r.wantEmpty()
			})
		})
	}
}

// A failure of ours before the next hop is asked does not pause it.
func TestLocalErrorIsNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		works := r.failing(stepAttempt)
		r.start(nil)
		synctest.Wait()
		r.send("", "bob@example.com")
		synctest.Wait()
		works()
		r.send("", "carol@example.com")
		synctest.Wait()
		if n := len(r.next.attempts("example.com")); n != 1 {
			t.Errorf("%d attempts, want that of the second message", n)
		}
		time.Sleep(r.cfg.FirstRetry)
		r.wantEmpty()
	})
}

// A disk that can't be read for a week loses nothing.
func TestUnreadableMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var healed atomic.Bool
		sp, err := spool.Open(spool.Options{Dir: t.TempDir(), Failpoint: func(step string) error {
			if step == "spool.read" && !healed.Load() {
				return errors.New("input/output error")
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.spool.Close(); err != nil {
			t.Fatal(err)
		}
		r.spool = sp
		r.start(nil)
		synctest.Wait()
		r.send("alice@sender.example", "bob@example.com")
		time.Sleep(7 * 24 * time.Hour)
		healed.Store(true)
		time.Sleep(r.cfg.MaxRetry)
		synctest.Wait()
		r.wantEmpty()
		if n := len(r.next.attempts("example.com")); n != 1 {
			t.Errorf("%d deliveries, want 1", n)
		}
	})
}

// A message whose content is gone can't be delivered: its sender hears of it.
func TestContentLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start(nil)
		synctest.Wait()
		id := r.commitLarge("alice@sender.example", "bob@example.com")
		files, err := filepath.Glob(filepath.Join(r.dir, "large", "*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("large files: %v, %v", files, err)
		}
		if err := os.Remove(files[0]); err != nil {
			t.Fatal(err)
		}
		r.queue.Accepted(id)
		time.Sleep(r.cfg.MaxAge + time.Minute)
		synctest.Wait()
		r.wantEmpty()
		if b := r.bounces(); len(b) != 1 || b[0].statuses() != "bob@example.com=failed" || b[0].original != "" {
			t.Errorf("bounces: %+v", b)
		}
		if n := len(r.next.attempts("example.com")); n != 0 {
			t.Errorf("%d attempts without content", n)
		}
	})
}

// commitLarge commits a message that goes to a file of its own.
func (r *rig) commitLarge(sender string, rcpts ...string) string {
	r.t.Helper()
	e := r.entry(sender, rcpts...)
	d := r.spool.Draft(e.ID)
	for range 5000 {
		if _, err := io.WriteString(d, "A line of a large message, which goes to a file of its own.\r\n"); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := r.spool.Commit(r.t.Context(), d, e); err != nil {
		r.t.Fatal(err)
	}
	return e.ID
}

// Q11: at shutdown what runs may end, nothing new starts, and what came of it
// is recorded.
func TestGracefulStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("slow.example", func(ctx context.Context, s seen) []mail.Outcome {
			time.Sleep(20 * time.Second)
			return accept(ctx, s)
		})
		r.next.set("hung.example", hung)
		r.start(func(c *Config) { c.MaxPerDestination = 3 })
		synctest.Wait()
		for range 5 {
			r.send("", "bob@slow.example")
			r.send("", "bob@hung.example")
		}
		both := r.send("", "bob@slow.example", "bob@hung.example")
		synctest.Wait()
		began := time.Now()
		r.stop()
		if took := time.Since(began); took != r.cfg.Grace {
			t.Errorf("stopping took %v, want the grace of %v", took, r.cfg.Grace)
		}
		ran, done := r.next.attempts("slow.example"), 0
		if len(ran) != 3 {
			t.Errorf("%d deliveries to the slow one, want the 3 that ran", len(ran))
		}
		for _, s := range ran {
			if s.id != both { // which waits for the other destination still
				done++
			}
		}
		if n := len(r.left()); n != 11-done {
			t.Errorf("%d messages left, want %d", n, 11-done)
		}
		r.next.set("slow.example", nil)
		r.next.set("hung.example", nil)
		r.restart()
		time.Sleep(time.Second) // interrupted ones don't wait for their time
		synctest.Wait()
		r.wantEmpty()
		n := 0
		for _, s := range r.next.attempts("slow.example") {
			if s.id == both {
				n++
			}
		}
		if n != 1 {
			t.Errorf("the message for both reached the slow one %d times", n)
		}
	})
}

func TestAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", hung)
		r.start(nil)
		synctest.Wait()
		id := r.send("", "bob@example.com")
		time.Sleep(r.cfg.AttemptTimeout + time.Second)
		synctest.Wait()
		if m := r.message(id); m.Attempts != 1 {
			t.Errorf("%d attempts have ended", m.Attempts)
		}
	})
}

// A notification that was committed before a crash, with the message still
// there, is not made again.
func TestNotifiedOnceAcrossCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", refuse)
		r.next.set("sender.example", deferAll)
		works := r.failing(stepRemove)
		r.start(nil)
		synctest.Wait()
		r.send("alice@sender.example", "bob@example.com")
		synctest.Wait()
		if n := len(r.left()); n != 2 {
			t.Fatalf("%d messages, want the original and its notification", n)
		}
		works()
		r.restart()
		r.next.set("sender.example", nil)
		time.Sleep(time.Hour)
		synctest.Wait()
		r.wantEmpty()
		ids := make(map[string]bool)
		for _, s := range r.next.attempts("sender.example") {
			ids[s.id] = true
		}
		if len(ids) != 1 {
			t.Errorf("%d notifications", len(ids))
		}
		if n := len(r.next.attempts("example.com")); n != 1 {
			t.Errorf("%d attempts of the original, want 1", n)
		}
	})
}

// Nor is it made again when only the removal of the message has to be tried
// again.
func TestNotifiedOnceAcrossFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", refuse)
		works := r.failing(stepRemove)
		r.start(nil)
		synctest.Wait()
		r.send("alice@sender.example", "bob@example.com")
		time.Sleep(time.Hour)
		synctest.Wait()
		works()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		r.wantEmpty()
		ids := make(map[string]bool)
		for _, s := range r.next.attempts("sender.example") {
			ids[s.id] = true
		}
		if len(ids) != 1 {
			t.Errorf("%d notifications", len(ids))
		}
	})
}

// The sender of a large message gets its header, and nothing of it goes through
// memory.
func TestLargeMessageBounces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", refuse)
		r.start(nil)
		synctest.Wait()
		r.queue.Accepted(r.commitLarge("alice@sender.example", "bob@example.com"))
		synctest.Wait()
		r.wantEmpty()
		if b := r.bounces(); len(b) != 1 || b[0].kind != "text/rfc822-headers" {
			t.Errorf("bounces: %+v", b)
		}
	})
}

// A bug in what writes a notification is an error of that message alone.
func TestSafely(t *testing.T) {
	err := safely(io.Discard, func(io.Writer) error { panic("bug") })
	if err == nil || !strings.Contains(err.Error(), "bug") {
		t.Errorf("err = %v", err)
	}
}

// What one destination took is recorded while another one still thinks.
func TestPartIsRecordedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("hung.example", hung)
		r.start(nil)
		synctest.Wait()
		id := r.send("", "bob@example.com", "bob@hung.example")
		synctest.Wait()
		if m := r.message(id); m.Recipients[0].Status != mail.Delivered {
			t.Errorf("recipients: %+v", m.Recipients)
		}
	})
}
