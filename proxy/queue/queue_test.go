package queue

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

func TestDeliversAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.run()
		synctest.Wait()
		began := time.Now()
		id := r.send("alice@sender.example", "bob@example.com")
		synctest.Wait()
		got := r.next.attempts("example.com")
		if len(got) != 1 || got[0].at != began || got[0].id != id || got[0].content != "Subject: test\r\nMessage-ID: <1@sender.example>\r\n\r\n"+body {
			t.Fatalf("attempts: %+v", got)
		}
		r.wantEmpty()
		line := r.log.lines(t, "delivery", id)
		if len(line) != 1 {
			t.Fatalf("delivery lines: %v", line)
		}
		for key, want := range map[string]any{
			"to": "bob@example.com", "relay": "mx.example.com[192.0.2.1]:25", "dsn": "2.0.0", "status": "sent", "reply": "250 2.0.0 ok", "tls": "TLSv1.3",
		} {
			if line[0][key] != want {
				t.Errorf("%s = %v, want %v", key, line[0][key], want)
			}
		}
		if len(r.log.lines(t, "removed", id)) != 1 {
			t.Error("no line about the removal")
		}
		if r.tally.get("example.com sent") != 1 {
			t.Errorf("counted: %v", r.tally.counts)
		}
	})
}

// Q1: what was committed before the start, or while nobody told the queue.
func TestReadsSpoolAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		slow, hold := r.entry("", "slow@example.com"), r.entry("", "hold@example.com")
		slow.State = spool.Slow
		hold.State, hold.Reason = spool.Hold, "virus"
		ids := r.commit(r.entry("a@sender.example", "b@example.com"), slow, hold)
		r.queue.Accepted(ids...) // before Run: it will find them itself
		r.run()
		time.Sleep(time.Second)
		synctest.Wait()
		if got := r.left(); len(got) != 1 || got[0] != ids[2] {
			t.Errorf("left %v, want only the held one", got)
		}
		if got := r.next.attempts("example.com"); len(got) != 2 {
			t.Errorf("%d attempts, want 2", len(got))
		}
		r.queue.Accepted(ids[2]) // a held one is never tried, whoever announces it
		time.Sleep(24 * time.Hour)
		if got := r.next.attempts("example.com"); len(got) != 2 {
			t.Errorf("%d attempts, want 2", len(got))
		}
	})
}

func TestRetryTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", deferAll)
		r.start(nil)
		synctest.Wait()
		id := r.send("alice@sender.example", "bob@example.com")
		time.Sleep(10 * time.Hour)
		got := r.next.attempts("example.com")
		for i := 1; i < len(got); i++ {
			wait, want := got[i].at.Sub(got[i-1].at), backoff(r.cfg.FirstRetry, r.cfg.MaxRetry, i)
			if wait < want*3/4 || wait > want {
				t.Errorf("attempt %d came %v after the one before, want %v or up to a quarter less", i+1, wait, want)
			}
		}
		if len(got) < 13 || len(got) > 18 {
			t.Errorf("%d attempts in ten hours", len(got))
		}
		m := r.message(id)
		if m.Attempts != len(got) || m.Recipients[0].Attempts != len(got) || m.Recipients[0].Reply.Text != "mailbox full" || !m.Next.After(time.Now()) {
			t.Errorf("progress: %+v", m.Progress)
		}
		r.next.set("example.com", nil)
		time.Sleep(r.cfg.MaxRetry)
		synctest.Wait()
		r.wantEmpty()
		if len(r.bounces()) != 0 {
			t.Error("a bounce")
		}
	})
}

func TestExpiry(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer answer
	}{
		{"put off", deferAll},
		{"unreachable", dead},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.next.set("example.com", tt.answer)
				r.start(nil)
				synctest.Wait()
				id := r.send("alice@sender.example", "bob@example.com")
				time.Sleep(r.cfg.MaxAge - time.Second)
				if len(r.left()) != 1 {
					t.Fatal("gone before its time")
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				r.wantEmpty()
				b := r.bounces()
				if len(b) != 1 || b[0].statuses() != "bob@example.com=failed" || b[0].recipients[0].Get("Status") != "4.4.7" {
					t.Fatalf("bounces: %+v", b)
				}
				if !strings.Contains(b[0].text, "for 5 days") {
					t.Errorf("text: %s", b[0].text)
				}
				if lines := r.log.lines(t, "bounce", id); len(lines) != 1 || lines[0]["dsn_id"] == "" {
					t.Errorf("bounce lines: %v", lines)
				}
			})
		})
	}
}

// One recipient gets it, one is put off twice, one is refused: each has its own
// course, and the sender hears of each once, as soon as it is known.
func TestPartialResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		tries := 0
		r.next.set("example.com", each(func(rcpt string) answer {
			switch rcpt {
			case "gone@example.com":
				return refuse
			case "busy@example.com":
				if tries++; tries < 3 {
					return deferAll
				}
			}
			return accept
		}))
		r.start(nil)
		synctest.Wait()
		id := r.send("alice@sender.example", "bob@example.com", "gone@example.com", "busy@example.com", "carol@example.net")
		synctest.Wait()
		m := r.message(id)
		want := []mail.Status{mail.Delivered, mail.Failed, mail.Deferred, mail.Delivered}
		for i, w := range want {
			if m.Recipients[i].Status != w {
				t.Errorf("recipient %d is %v, want %v", i, m.Recipients[i].Status, w)
			}
		}
		if b := r.bounces(); len(b) != 1 || b[0].statuses() != "gone@example.com=failed" {
			t.Errorf("bounces while another is tried: %+v", b)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		r.wantEmpty()
		got := r.next.attempts("example.com")
		if len(got) != 3 || fmt.Sprint(got[0].rcpts) != "[bob@example.com gone@example.com busy@example.com]" ||
			fmt.Sprint(got[1].rcpts) != "[busy@example.com]" || fmt.Sprint(got[2].rcpts) != "[busy@example.com]" {
			t.Errorf("attempts: %+v", got)
		}
		if other := r.next.attempts("example.net"); len(other) != 1 {
			t.Errorf("other destination: %+v", other)
		}
		if b := r.bounces(); len(b) != 1 || b[0].statuses() != "gone@example.com=failed" {
			t.Errorf("bounces: %+v", b)
		}
	})
}

// A crash between two attempts forgets nothing that was recorded.
func TestPartialResultsSurviveRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", each(func(rcpt string) answer {
			if rcpt == "busy@example.com" {
				return deferAll
			}
			return accept
		}))
		r.start(nil)
		synctest.Wait()
		r.send("alice@sender.example", "bob@example.com NOTIFY=SUCCESS", "busy@example.com")
		synctest.Wait()
		r.restart()
		r.next.set("example.com", refuse)
		time.Sleep(time.Hour)
		synctest.Wait()
		r.wantEmpty()
		got := r.next.attempts("example.com")
		if len(got) != 2 || fmt.Sprint(got[1].rcpts) != "[busy@example.com]" {
			t.Errorf("attempts: %+v", got)
		}
		if b := r.bounces(); len(b) != 1 || b[0].statuses() != "bob@example.com=relayed busy@example.com=failed" {
			t.Errorf("bounces: %+v", b)
		}
	})
}

func TestWhoIsTold(t *testing.T) {
	tests := []struct {
		name   string
		change func(*spool.Entry)
		answer answer
		want   string // statuses, "" for no notification
	}{
		{"refused", func(e *spool.Entry) {}, refuse, "bob@example.com=failed"},
		{"null sender", func(e *spool.Entry) { e.Envelope.Sender = mail.Path{} }, refuse, ""},
		{"a notification of ours", func(e *spool.Entry) { e.Origin = spool.FromDSN }, refuse, ""},
		{"NOTIFY=NEVER", func(e *spool.Entry) { e.Envelope.Recipients[0].Args = []string{"NOTIFY=NEVER"} }, refuse, ""},
		{"spam", func(e *spool.Entry) { e.Score = 5 }, refuse, ""},
		{"not quite spam", func(e *spool.Entry) { e.Score = 4.9 }, refuse, "bob@example.com=failed"},
		{"delivered", func(e *spool.Entry) {}, accept, ""},
		{"delivered, NOTIFY=SUCCESS", func(e *spool.Entry) { e.Envelope.Recipients[0].Args = []string{"NOTIFY=SUCCESS"} }, accept, "bob@example.com=relayed"},
		{"delivered to one that tells, NOTIFY=SUCCESS", func(e *spool.Entry) { e.Envelope.Recipients[0].Args = []string{"NOTIFY=SUCCESS"} },
			func(ctx context.Context, s seen) []mail.Outcome {
				out := accept(ctx, s)
				out[0].DSN = true
				return out
			}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.next.set("example.com", tt.answer)
				r.start(nil)
				synctest.Wait()
				e := r.entry("alice@sender.example", "bob@example.com")
				tt.change(&e)
				r.queue.Accepted(r.commit(e)...)
				synctest.Wait()
				r.wantEmpty()
				got := ""
				for _, b := range r.bounces() {
					got += b.statuses()
				}
				if got != tt.want {
					t.Errorf("told %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// L2: a notification that is refused ends there.
func TestRefusedBounceEndsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", refuse)
		r.next.set("sender.example", refuse)
		r.start(nil)
		synctest.Wait()
		r.send("alice@sender.example", "bob@example.com")
		time.Sleep(10 * 24 * time.Hour)
		r.wantEmpty()
		if len(r.next.seen) != 2 {
			t.Errorf("%d attempts, want the message and one notification", len(r.next.seen))
		}
	})
}

func TestBounceExpiresEarlier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", refuse)
		r.next.set("sender.example", deferAll)
		r.start(nil)
		synctest.Wait()
		r.send("alice@sender.example", "bob@example.com")
		time.Sleep(r.cfg.BounceMaxAge - time.Minute)
		if len(r.left()) != 1 {
			t.Error("gone before its time")
		}
		time.Sleep(time.Hour)
		r.wantEmpty()
	})
}

// L4: a thousand recipients fail, one notification goes.
func TestThousandFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", refuse)
		r.next.set("example.net", refuse)
		r.start(nil)
		synctest.Wait()
		var rcpts []string
		for i := range 500 {
			rcpts = append(rcpts, fmt.Sprintf("user%d@example.com", i), fmt.Sprintf("user%d@example.net", i))
		}
		r.send("alice@sender.example", rcpts...)
		synctest.Wait()
		r.wantEmpty()
		if b := r.bounces(); len(b) != 1 || len(b[0].recipients) != 1000 {
			t.Errorf("%d bounces", len(b))
		}
		if n := len(r.next.attempts("example.com")); n != 1 {
			t.Errorf("%d attempts, want 1", n)
		}
	})
}

func TestNoRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.forbid("example.com", true)
		r.start(nil)
		synctest.Wait()
		r.send("alice@sender.example", "bob@example.com", "carol@example.net")
		synctest.Wait()
		r.wantEmpty()
		b := r.bounces()
		if len(b) != 1 || b[0].statuses() != "bob@example.com=failed" || b[0].recipients[0].Get("Status") != "5.4.4" {
			t.Errorf("bounces: %+v", b)
		}
		if n := len(r.next.attempts("example.net")); n != 1 {
			t.Errorf("%d attempts for the other recipient, want 1", n)
		}
	})
}

// A notification that has no way to go is kept where an admin sees it.
func TestBounceWithoutRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", refuse)
		r.next.forbid("sender.example", true)
		r.start(nil)
		synctest.Wait()
		r.send("alice@sender.example", "bob@example.com")
		time.Sleep(30 * 24 * time.Hour)
		ids := r.left()
		if len(ids) != 1 {
			t.Fatalf("left: %v", ids)
		}
		m := r.message(ids[0])
		if m.Progress.State != spool.Hold || !strings.Contains(m.Progress.Reason, `[route."."]`) || m.Origin != spool.FromDSN {
			t.Errorf("message: %+v", m)
		}
		// Released too early, it is held again; then it goes.
		if _, err := r.queue.Release(t.Context(), ids[0]); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if m := r.message(ids[0]); m.Progress.State != spool.Hold || !strings.Contains(m.Progress.Reason, "route") {
			t.Errorf("message: %+v", m.Progress)
		}
		r.next.forbid("sender.example", false)
		if _, err := r.queue.Release(t.Context(), ids[0]); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		r.wantEmpty()
		if len(r.bounces()) != 1 {
			t.Error("the notification did not arrive")
		}
	})
}

// Q5: no clock returns a queue to its senders at once, nor stops it.
func TestClockJumps(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, jump := range []time.Duration{10 * year, 24 * time.Hour, -24 * time.Hour, -10 * year} {
		t.Run(jump.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				var offset atomic.Int64
				r.now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
				r.next.set("example.com", deferAll)
				r.start(nil)
				synctest.Wait()
				for range 20 {
					r.send("alice@sender.example", "bob@example.com")
				}
				time.Sleep(6 * time.Hour)
				before := len(r.next.attempts("example.com"))
				offset.Store(int64(jump))
				time.Sleep(3 * time.Hour)
				if n := len(r.left()); n != 20 {
					t.Fatalf("%d messages are left", n)
				}
				if n := len(r.next.attempts("example.com")) - before; n < 40 || n > 100 {
					t.Errorf("%d attempts in three hours after the jump", n)
				}
				r.restart() // with the clock still wrong
				time.Sleep(3 * time.Hour)
				if n := len(r.left()); n != 20 {
					t.Fatalf("%d messages are left after a restart", n)
				}
				offset.Store(0)
				r.next.set("example.com", nil)
				time.Sleep(2 * time.Hour)
				r.wantEmpty()
			})
		})
	}
}

// A full queue starts spread over time, and what lies far off by the clock of
// the disk comes within MaxRetry.
func TestStartIsNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var entries []spool.Entry
		for range 2000 {
			entries = append(entries, r.entry("", "bob@example.com"))
		}
		ids := r.commit(entries...)
		far := r.message(ids[0])
		far.Next = time.Now().Add(1000 * time.Hour)
		if err := r.spool.Save(far.ID, far.Progress); err != nil {
			t.Fatal(err)
		}
		r.run()
		time.Sleep(time.Second)
		n := len(r.next.attempts("example.com"))
		if n < 500 || n > 1500 {
			t.Errorf("%d attempts in the first second of two", n)
		}
		time.Sleep(time.Second)
		if n := len(r.left()); n != 1 {
			t.Errorf("%d left, want the one that is put off", n)
		}
		time.Sleep(r.cfg.MaxRetry)
		synctest.Wait()
		r.wantEmpty()
	})
}

func TestRunsOnce(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.queue.Run(ctx); err != nil {
		t.Error(err)
	}
	if err := r.queue.Run(ctx); err == nil {
		t.Error("a second Run was taken")
	}
}

func TestNewRefuses(t *testing.T) {
	r := newRig(t)
	good := Deps{Spool: r.spool, Deliverer: r.next, Log: r.queue.log, Hostname: "mx"}
	for name, change := range map[string]func(*Config, *Deps){
		"bad configuration": func(c *Config, _ *Deps) { c.MaxDeliveries = 0 },
		"no spool":          func(_ *Config, d *Deps) { d.Spool = nil },
		"no deliverer":      func(_ *Config, d *Deps) { d.Deliverer = nil },
		"no log":            func(_ *Config, d *Deps) { d.Log = nil },
		"no hostname":       func(_ *Config, d *Deps) { d.Hostname = "" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg, deps := DefaultConfig(), good
			change(&cfg, &deps)
			if _, err := New(cfg, deps); err == nil {
				t.Error("taken")
			}
		})
	}
}
