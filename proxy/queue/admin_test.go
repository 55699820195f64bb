package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

func TestShow(t *testing.T) {
	r := newRig(t)
	id := r.commit(r.entry("alice@sender.example", "bob@example.com"))[0]
	d, err := r.queue.Show(id)
	if err != nil || d.ID != id || d.Header != "Subject: test\r\nMessage-ID: <1@sender.example>\r\n" || d.Subject != "test" {
		t.Errorf("Show: %+v, %v", d, err)
	}
	var b bytes.Buffer
	if err := r.queue.WriteContent(id, &b); err != nil || b.String() != d.Header+"\r\n"+body || int64(b.Len()) != d.Size {
		t.Errorf("WriteContent: %q, %v", b.String(), err)
	}
	if text, err := json.Marshal(d); err != nil || !bytes.Contains(text, []byte(`"sender":"alice@sender.example"`)) || bytes.Contains(text, []byte(`"next"`)) {
		t.Errorf("JSON: %s, %v", text, err)
	}
	for _, bad := range []string{"", "../../etc/passwd", mail.NewID(time.Now())} {
		if _, err := r.queue.Show(bad); !errors.Is(err, spool.ErrNotFound) {
			t.Errorf("Show(%q): %v", bad, err)
		}
		if err := r.queue.WriteContent(bad, &b); !errors.Is(err, spool.ErrNotFound) {
			t.Errorf("WriteContent(%q): %v", bad, err)
		}
	}
}

// The verbs, with Run and without it, on a message that waits, one that is
// held, and one that is unknown.
func TestVerbs(t *testing.T) {
	type verb func(ctx context.Context, q *Queue, id string) (int, error)
	retry := func(ctx context.Context, q *Queue, id string) (int, error) { return q.Retry(ctx, id) }
	remove := func(ctx context.Context, q *Queue, id string) (int, error) { return q.Delete(ctx, id) }
	hold := func(ctx context.Context, q *Queue, id string) (int, error) { return q.Hold(ctx, "look at\r\nthis", id) }
	release := func(ctx context.Context, q *Queue, id string) (int, error) { return q.Release(ctx, id) }
	tests := []struct {
		name  string
		verb  verb
		state spool.State // before; "" is an unknown ID
		err   error
		after string // "gone", "queue", "hold"
		tried bool   // at once, where Run runs, or at its start
	}{
		{"retry", retry, spool.Queue, nil, "queue", true},
		{"retry of a held one", retry, spool.Hold, ErrHeld, "hold", false},
		{"retry of an unknown one", retry, "", spool.ErrNotFound, "", false},
		{"delete", remove, spool.Queue, nil, "gone", false},
		{"delete of a held one", remove, spool.Hold, nil, "gone", false},
		{"delete of an unknown one", remove, "", spool.ErrNotFound, "", false},
		{"hold", hold, spool.Queue, nil, "hold", false},
		{"hold of a held one", hold, spool.Hold, ErrHeld, "hold", false},
		{"hold of an unknown one", hold, "", spool.ErrNotFound, "", false},
		{"release", release, spool.Queue, ErrNotHeld, "queue", false},
		{"release of a held one", release, spool.Hold, nil, "queue", true},
		{"release of an unknown one", release, "", spool.ErrNotFound, "", false},
	}
	for _, online := range []bool{true, false} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/online=%v", tt.name, online), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					r.next.set("example.com", deferAll)
					e := r.entry("alice@sender.example", "bob@example.com")
					id := e.ID
					if tt.state == spool.Hold {
						e.State, e.Reason = spool.Hold, "virus"
					}
					if tt.state != "" {
						r.commit(e)
					}
					r.run()
					synctest.Wait()
					if !online {
						r.stop()
						r.remake()
					}
					before := len(r.next.attempts("example.com"))
					n, err := tt.verb(t.Context(), r.queue, id)
					if !errors.Is(err, tt.err) || (n == 1) != (tt.err == nil) {
						t.Errorf("%d, %v; want %v", n, err, tt.err)
					}
					if !online {
						r.run()
					}
					synctest.Wait()
					if got := len(r.next.attempts("example.com")) > before; got != tt.tried {
						t.Errorf("tried = %v, want %v", got, tt.tried)
					}
					m, err := r.spool.Get(id)
					switch {
					case tt.after == "gone" || tt.after == "":
						if !errors.Is(err, spool.ErrNotFound) {
							t.Errorf("still there: %v", err)
						}
					case err != nil:
						t.Error(err)
					case string(m.Progress.State) != tt.after:
						t.Errorf("state %s, want %s", m.Progress.State, tt.after)
					}
					if tt.name == "hold" && m.Progress.Reason != "look at  this" {
						t.Errorf("reason %q", m.Progress.Reason)
					}
					r.next.set("example.com", nil)
					time.Sleep(2 * time.Hour) // whatever timers are left must do no harm
					synctest.Wait()
					if got := len(r.left()) == 1; got != (tt.after == "hold") {
						t.Errorf("left after two hours: %v", r.left())
					}
				})
			})
		}
	}
}

// What waits for a destination goes when the admin says it is back.
func TestRetryEndsPause(t *testing.T) {
	for _, everything := range []bool{false, true} {
		t.Run(fmt.Sprintf("all=%v", everything), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.next.set("example.com", dead)
				held := r.entry("", "held@example.com")
				held.State = spool.Hold
				r.commit(held)
				r.start(nil)
				synctest.Wait()
				var ids []string
				for range 20 {
					ids = append(ids, r.send("", "bob@example.com"))
				}
				time.Sleep(4 * time.Hour)
				r.next.set("example.com", nil)
				var n int
				var err error
				if everything {
					n, err = r.queue.RetryAll(t.Context())
				} else {
					n, err = r.queue.Retry(t.Context(), ids[7])
				}
				// The first one may wake and finish others before their turn comes.
				if n < 1 || n > 1 && !everything || err != nil {
					t.Errorf("retried %d, %v", n, err)
				}
				synctest.Wait()
				if left := r.left(); len(left) != 1 { // the first success wakes the others
					t.Errorf("%d messages left", len(left))
				}
			})
		})
	}
}

// Verbs on a message that is being delivered right now.
func TestVerbsWhileDelivering(t *testing.T) {
	tests := []struct {
		name    string
		outcome answer
		verb    func(ctx context.Context, q *Queue, id string) (int, error)
		want    string // "gone" or the state
		bounces int
	}{
		{"delete, then put off", deferAll, func(ctx context.Context, q *Queue, id string) (int, error) { return q.Delete(ctx, id) }, "gone", 0},
		{"delete, then delivered", accept, func(ctx context.Context, q *Queue, id string) (int, error) { return q.Delete(ctx, id) }, "gone", 0},
		{"delete, then refused", refuse, func(ctx context.Context, q *Queue, id string) (int, error) { return q.Delete(ctx, id) }, "gone", 0},
		{"hold, then put off", deferAll, func(ctx context.Context, q *Queue, id string) (int, error) { return q.Hold(ctx, "why", id) }, "hold", 0},
		{"hold, then delivered", accept, func(ctx context.Context, q *Queue, id string) (int, error) { return q.Hold(ctx, "why", id) }, "gone", 0},
		{"hold, then refused", refuse, func(ctx context.Context, q *Queue, id string) (int, error) { return q.Hold(ctx, "why", id) }, "gone", 1},
		{"retry, then put off", deferAll, func(ctx context.Context, q *Queue, id string) (int, error) { return q.Retry(ctx, id) }, "queue", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.next.set("example.com", func(ctx context.Context, s seen) []mail.Outcome {
					time.Sleep(time.Minute)
					return tt.outcome(ctx, s)
				})
				r.start(nil)
				synctest.Wait()
				id := r.send("alice@sender.example", "bob@example.com")
				synctest.Wait()
				for info := range r.queue.List(Filter{}) {
					if !info.Active {
						t.Error("not shown as active")
					}
				}
				if n, err := tt.verb(t.Context(), r.queue, id); n != 1 || err != nil {
					t.Errorf("%d, %v", n, err)
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				got := "gone"
				if m, err := r.spool.Get(id); err == nil {
					got = string(m.Progress.State)
				}
				if got != tt.want || len(r.bounces()) != tt.bounces {
					t.Errorf("%s with %d bounces, want %s with %d", got, len(r.bounces()), tt.want, tt.bounces)
				}
				if tt.want == "gone" {
					r.wantEmpty()
				}
			})
		})
	}
}

// One that stands in a long line is gone at once, and its place in the line
// does no harm.
func TestDeleteInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", func(ctx context.Context, s seen) []mail.Outcome {
			time.Sleep(time.Minute)
			return accept(ctx, s)
		})
		r.start(func(c *Config) { c.MaxPerDestination = 1 })
		synctest.Wait()
		first := r.send("", "bob@example.com")
		second := r.send("", "bob@example.com", "carol@example.com")
		third := r.send("", "bob@example.com")
		synctest.Wait()
		if n, err := r.queue.Delete(t.Context(), second); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if n := len(r.left()); n != 2 {
			t.Errorf("%d messages left, want 2", n)
		}
		time.Sleep(time.Hour)
		r.wantEmpty()
		got := r.next.attempts("example.com")
		if len(got) != 2 || got[0].id != first || got[1].id != third {
			t.Errorf("attempts: %+v", got)
		}
	})
}

// An admin is told when the disk is full, and the message goes on as before.
func TestVerbsOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", deferAll)
		works := r.failing(stepAdmin)
		held := r.entry("", "bob@example.com")
		held.State = spool.Hold
		r.commit(held)
		r.start(nil)
		synctest.Wait()
		id := r.send("", "bob@example.com")
		synctest.Wait()
		if n, err := r.queue.Delete(t.Context(), id, held.ID); n != 0 || !errors.Is(err, errFull) {
			t.Errorf("Delete: %d, %v", n, err)
		}
		if n, err := r.queue.Hold(t.Context(), "why", id); n != 0 || !errors.Is(err, errFull) {
			t.Errorf("Hold: %d, %v", n, err)
		}
		if n, err := r.queue.Release(t.Context(), held.ID); n != 0 || !errors.Is(err, errFull) {
			t.Errorf("Release: %d, %v", n, err)
		}
		works()
		r.next.set("example.com", nil)
		time.Sleep(r.cfg.MaxRetry)
		synctest.Wait()
		if left := r.left(); len(left) != 1 || left[0] != held.ID {
			t.Errorf("left: %v", left)
		}
	})
}

// One who was held for long has his time again.
func TestReleasedIsNotExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", deferAll)
		held := r.entry("alice@sender.example", "bob@example.com")
		held.State = spool.Hold
		r.commit(held)
		r.start(nil)
		time.Sleep(30 * 24 * time.Hour)
		if n, err := r.queue.Release(t.Context(), held.ID); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		time.Sleep(24 * time.Hour)
		if len(r.bounces()) != 0 {
			t.Error("bounced within a day")
		}
		r.next.set("example.com", nil)
		time.Sleep(r.cfg.MaxRetry)
		r.wantEmpty()
	})
}

func TestCounts(t *testing.T) {
	r := newRig(t)
	for lane, c := range r.queue.Counts() {
		if c != (Count{}) {
			t.Errorf("of an empty spool: %s: %v", lane, c)
		}
	}
	base := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for i, lane := range []Lane{Fresh, Hold, Retry, Slow, Fresh, Hold, Hold, Slow} {
		e := r.entry("", "bob@example.com")
		e.Received = base.Add(time.Duration(i) * time.Minute)
		r.commit(e)
		p := spool.Progress{State: spool.Queue, Recipients: make([]spool.Recipient, 1)}
		switch lane {
		case Fresh:
			continue
		case Retry:
			p.Attempts = 1
		case Slow, Hold:
			p.State, p.Attempts = spool.State(lane), i%2 // tried or not
		}
		if err := r.spool.Save(e.ID, p); err != nil {
			t.Fatal(err)
		}
	}
	want := map[Lane]Count{Fresh: {2, base}, Hold: {3, base.Add(time.Minute)}, Retry: {1, base.Add(2 * time.Minute)}, Slow: {2, base.Add(3 * time.Minute)}}
	for range 2 {
		for lane, c := range r.queue.Counts() {
			if c.Messages != want[lane].Messages || !c.Oldest.Equal(want[lane].Oldest) {
				t.Errorf("%s: %v, want %v", lane, c, want[lane])
			}
		}
		if err := r.spool.Close(); err != nil {
			t.Fatal(err)
		}
		r.open() // the same after a restart
	}
}

// Delete that comes while the end of an attempt is being recorded.
func TestDeleteAtTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", deferAll)
		var id atomic.Value
		r.fail = func(step string) error {
			if step == stepSaved {
				if n, err := r.queue.Delete(t.Context(), id.Load().(string)); n != 1 || err != nil {
					t.Errorf("%d, %v", n, err)
				}
			}
			return nil
		}
		r.start(nil)
		synctest.Wait()
		e := r.entry("alice@sender.example", "bob@example.com")
		id.Store(e.ID)
		r.queue.Accepted(r.commit(e)...)
		synctest.Wait()
		r.wantEmpty()
	})
}

// Hold comes before expiry: who wants to look at a message finds it.
func TestHoldBeforeExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.next.set("example.com", func(ctx context.Context, s seen) []mail.Outcome {
			time.Sleep(time.Minute)
			return deferAll(ctx, s)
		})
		r.start(func(c *Config) { c.MaxAge = 0 })
		synctest.Wait()
		id := r.send("alice@sender.example", "bob@example.com")
		synctest.Wait()
		if n, err := r.queue.Hold(t.Context(), "why", id); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if m := r.message(id); m.Progress.State != spool.Hold {
			t.Errorf("state %s", m.Progress.State)
		}
		if _, err := r.queue.Release(t.Context(), id); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		r.wantEmpty()
		if n := len(r.bounces()); n != 1 {
			t.Errorf("%d bounces, want 1", n)
		}
	})
}
