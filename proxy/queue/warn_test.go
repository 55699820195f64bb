package queue

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/proxy/spool"
)

// Who is told that a message is late: our own users, and those who asked.
func TestDelayWarning(t *testing.T) {
	tests := []struct {
		name   string
		rcpt   string
		change func(*spool.Entry)
		warned bool
	}{
		{"a stranger", "bob@example.com", func(*spool.Entry) {}, false},
		{"a stranger who asks", "bob@example.com NOTIFY=FAILURE,DELAY", func(*spool.Entry) {}, true},
		{"an authenticated user", "bob@example.com", func(e *spool.Entry) { e.User = "alice" }, true},
		{"a trusted client", "bob@example.com", func(e *spool.Entry) { e.Trusted = true }, true},
		{"a user who wants failures only", "bob@example.com NOTIFY=FAILURE", func(e *spool.Entry) { e.User = "alice" }, false},
		{"a user who wants nothing", "bob@example.com NOTIFY=NEVER", func(e *spool.Entry) { e.User = "alice" }, false},
		{"a forged sender who asks", "bob@example.com NOTIFY=DELAY", func(e *spool.Entry) { e.Silent = "sender authentication failed" }, false},
		{"a notification", "bob@example.com NOTIFY=DELAY", func(e *spool.Entry) { e.Origin = spool.FromDSN }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.next.set("example.com", deferAll)
				r.start(nil)
				e := r.entry("alice@sender.example", tt.rcpt)
				tt.change(&e)
				r.queue.Accepted(r.commit(e)...)
				time.Sleep(3*time.Hour + 50*time.Minute)
				synctest.Wait()
				if n := len(r.bounces()); n != 0 {
					t.Errorf("%d notifications before the time", n)
				}
				time.Sleep(8 * time.Hour)
				synctest.Wait()
				b := r.bounces()
				if !tt.warned {
					if len(b) != 0 {
						t.Errorf("warned: %v", b[0].statuses())
					}
					return
				}
				if len(b) != 1 || b[0].statuses() != "bob@example.com=delayed" {
					t.Fatalf("%d notifications: %+v", len(b), b)
				}
				if n := r.tally.get("delay sent"); n != 1 {
					t.Errorf("counted %d", n)
				}
			})
		})
	}
}

// A warning is not the last word, and a restart does not repeat it.
func TestFailureAfterWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", deferAll)
		r.start(nil)
		e := r.entry("alice@sender.example", "bob@example.com")
		e.User = "alice"
		r.queue.Accepted(r.commit(e)...)
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		r.restart()
		time.Sleep(6 * 24 * time.Hour)
		synctest.Wait()
		r.wantEmpty()
		var got []string
		for _, b := range r.bounces() {
			got = append(got, b.statuses())
		}
		if want := "bob@example.com=delayed bob@example.com=failed"; strings.Join(got, " ") != want {
			t.Errorf("notifications %q, want %s", got, want)
		}
	})
}

// The postmaster's copy is the same report under another name; it says no more
// of the sender's business than the sender gets.
func TestPostmasterCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", refuse)
		r.start(func(c *Config) { c.DSNCopyTo = "postmaster@ours.example" })
		r.send("alice@sender.example", "bob@example.com")
		r.send("", "bob@example.com")
		synctest.Wait()
		r.wantEmpty()
		if n := len(r.bounces()); n != 1 {
			t.Errorf("%d notifications", n)
		}
		copies := r.next.attempts("ours.example")
		if len(copies) != 1 || copies[0].sender != "" || copies[0].rcpts[0] != "postmaster@ours.example" {
			t.Fatalf("copies: %+v", copies)
		}
		p := parse(t, []byte(copies[0].content))
		if p.statuses() != "bob@example.com=failed" || !strings.Contains(copies[0].content, "Subject: Postmaster copy: Your mail to bob@example.com") {
			t.Errorf("copy:\n%s", copies[0].content)
		}
		if n := r.tally.get("failure null_sender"); n != 1 {
			t.Errorf("counted %d silent failures", n)
		}
	})
}

// A journal's copy that nobody takes is kept, for as long as it needs.
func TestRefusedJournalCopyIsHeld(t *testing.T) {
	for name, answer := range map[string]answer{"refused": refuse, "too old": dead} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.next.set("archive.example", answer)
				r.start(nil)
				e := r.entry("", "journal@archive.example")
				e.Origin = spool.FromJournal
				r.queue.Accepted(r.commit(e)...)
				time.Sleep(8 * 24 * time.Hour)
				synctest.Wait()
				if m := r.message(e.ID); m.Progress.State != spool.Hold || m.Progress.Reason != copyReason {
					t.Fatalf("%s, %q", m.Progress.State, m.Progress.Reason)
				}
				r.next.set("archive.example", nil)
				if n, err := r.queue.Release(t.Context(), e.ID); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				r.wantEmpty()
			})
		})
	}
}

// Of several failures the first ones are told at once, the rest with the last
// word; a restart between the two repeats neither.
func TestEarlyFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("gone.example", refuse)
		r.next.set("slow.example", deferAll)
		r.start(nil)
		r.send("alice@sender.example", "a@gone.example", "b@slow.example", "c@slow.example", "d@example.com")
		time.Sleep(time.Minute)
		synctest.Wait()
		if b := r.bounces(); len(b) != 1 || b[0].statuses() != "a@gone.example=failed" {
			t.Fatalf("at first: %+v", b)
		}
		if text := r.next.attempts("sender.example")[0].content; !strings.Contains(text, "For the other recipients we go on trying.") {
			t.Errorf("text:\n%s", text)
		}
		r.restart()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		r.next.set("slow.example", each(func(rcpt string) answer {
			if rcpt == "b@slow.example" {
				return refuse
			}
			return deferAll
		}))
		time.Sleep(6 * 24 * time.Hour)
		synctest.Wait()
		r.wantEmpty()
		var got []string
		for _, b := range r.bounces() {
			got = append(got, b.statuses())
		}
		if want := "a@gone.example=failed / b@slow.example=failed c@slow.example=failed"; strings.Join(got, " / ") != want {
			t.Errorf("notifications\n%s, want\n%s", strings.Join(got, " / "), want)
		}
	})
}

// A sender whose domain denies the client hears nothing; one of ours is not
// asked about.
func TestForgedSenderHearsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", refuse)
		r.forged = func(context.Context, *spool.Entry) string { return "sender authentication failed" }
		r.start(nil)
		r.send("alice@sender.example", "bob@example.com")
		e := r.entry("alice@sender.example", "carol@example.com")
		e.User = "alice"
		r.queue.Accepted(r.commit(e)...)
		synctest.Wait()
		r.wantEmpty()
		if b := r.bounces(); len(b) != 1 || b[0].statuses() != "carol@example.com=failed" {
			t.Errorf("bounces: %+v", b)
		}
		if n := r.tally.get("failure authentication"); n != 1 {
			t.Errorf("counted %d", n)
		}
	})
}

// Mail that is only put off asks nobody about its sender: that may take long, and
// holds a worker.
func TestSenderIsNotAskedAboutTooEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", deferAll)
		asked := 0
		r.forged = func(context.Context, *spool.Entry) string { asked++; return "" }
		r.start(nil)
		r.send("alice@sender.example", "bob@example.com")
		time.Sleep(time.Hour)
		synctest.Wait()
		if asked != 0 {
			t.Errorf("asked %d times", asked)
		}
	})
}
