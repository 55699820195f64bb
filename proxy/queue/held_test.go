package queue

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

func addresses(t *testing.T, texts ...string) (list []mail.Address) {
	t.Helper()
	for _, s := range texts {
		list = append(list, path(t, s).Address)
	}
	return list
}

// What is held for several goes to those who are named, once, and to nobody
// else; what one of them does not want stays for the others.
func TestHeldForSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		held := r.entry("alice@sender.example", "bob@example.com", "carol@example.com", "dave@example.com")
		held.State, held.Reason, held.Kind = spool.Hold, "spam score", mail.HeldSpam
		held.Header = append([]byte("X-Gatepost-ID: "+held.ID+"\r\n"), held.Header...)
		r.commit(held)
		r.start(nil)
		ctx := t.Context()

		for _, tt := range []struct {
			name string
			who  []mail.Address
		}{
			{"W7: somebody else", addresses(t, "eve@example.com")},
			{"W7: one of them and somebody else", addresses(t, "bob@example.com", "eve@example.com")},
			{"nobody", nil},
		} {
			if as, err := r.queue.ReleaseTo(ctx, held.ID, tt.who); err == nil {
				t.Errorf("%s: released as %s", tt.name, as)
			}
			if err := r.queue.Withdraw(ctx, held.ID, tt.who); err == nil {
				t.Errorf("%s: deleted", tt.name)
			}
		}
		as, err := r.queue.ReleaseTo(ctx, held.ID, addresses(t, "BOB@example.com", "bob@example.com"))
		if err != nil || as == held.ID {
			t.Fatalf("ReleaseTo: %q, %v", as, err)
		}
		synctest.Wait()
		got := r.next.attempts("example.com")
		if len(got) != 1 || !slices.Equal(got[0].rcpts, []string{"bob@example.com"}) {
			t.Fatalf("delivered: %+v", got)
		}
		if want := "X-Gatepost-ID: " + as + "\r\nSubject: test\r\nMessage-ID: <1@sender.example>\r\n\r\n" + body; got[0].content != want {
			t.Errorf("content %q, want %q", got[0].content, want)
		}
		if _, err := r.queue.ReleaseTo(ctx, held.ID, addresses(t, "bob@example.com")); !errors.Is(err, ErrNotAsked) {
			t.Errorf("a second time: %v", err)
		}
		if err := r.queue.Withdraw(ctx, held.ID, addresses(t, "carol@example.com")); err != nil {
			t.Fatal(err)
		}
		for info := range r.queue.List(Filter{}) {
			if info.ID != held.ID || info.Kind != mail.HeldSpam || info.Lane != Hold || len(waitingFor(r.message(held.ID))) != 1 {
				t.Errorf("left: %+v", info)
			}
		}
		if as, err = r.queue.ReleaseTo(ctx, held.ID, addresses(t, "dave@example.com")); err != nil || as != held.ID {
			t.Errorf("the last one: %q, %v", as, err)
		}
		time.Sleep(time.Minute)
		got = r.next.attempts("example.com")
		if len(got) != 2 || !slices.Equal(got[1].rcpts, []string{"dave@example.com"}) {
			t.Errorf("delivered: %+v", got)
		}
		r.wantEmpty()
		if n := len(r.bounces()); n != 0 {
			t.Errorf("%d notifications", n)
		}
	})
}

// A message that the last of its recipients does not want is gone.
func TestWithdrawAll(t *testing.T) {
	r := newRig(t)
	held := r.entry("alice@sender.example", "bob@example.com", "carol@example.com")
	held.State = spool.Hold
	r.commit(held)
	for _, who := range []string{"bob@example.com", "carol@example.com"} {
		if err := r.queue.Withdraw(t.Context(), held.ID, addresses(t, who)); err != nil {
			t.Fatal(err)
		}
	}
	r.wantEmpty()
	if err := r.queue.Withdraw(t.Context(), held.ID, addresses(t, "bob@example.com")); !errors.Is(err, spool.ErrNotFound) {
		t.Errorf("gone: %v", err)
	}
}

// A failure at the step leaves the message as it was.
func TestReleaseToFails(t *testing.T) {
	r := newRig(t)
	held := r.entry("alice@sender.example", "bob@example.com", "carol@example.com")
	held.State = spool.Hold
	r.commit(held)
	r.fail = func(step string) error {
		if step == stepAdmin {
			return errors.New("no space left")
		}
		return nil
	}
	if _, err := r.queue.ReleaseTo(t.Context(), held.ID, addresses(t, "bob@example.com")); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("%v", err)
	}
	if m := r.message(held.ID); len(waitingFor(m)) != 2 || len(r.left()) != 1 {
		t.Errorf("%+v", m)
	}
}

func TestKindOf(t *testing.T) {
	message := func(change func(*spool.Message)) *spool.Message {
		m := &spool.Message{}
		m.Entry.State, m.Progress.State = spool.Hold, spool.Hold
		change(m)
		return m
	}
	tests := []struct {
		name   string
		change func(*spool.Message)
		want   mail.HeldKind
	}{
		{"not held", func(m *spool.Message) { m.Progress.State, m.Kind = spool.Queue, mail.HeldSpam }, ""},
		{"as it was noted", func(m *spool.Message) { m.Kind = mail.HeldDMARC }, mail.HeldDMARC},
		{"virus, whatever was noted", func(m *spool.Message) { m.Kind, m.Silent = mail.HeldRule, "virus" }, mail.HeldVirus},
		{"waits for a filter", func(m *spool.Message) { m.Unscanned = "clamav" }, mail.HeldUnscanned},
		{"by hand", func(m *spool.Message) { m.Entry.State = spool.Queue }, mail.HeldHand},
		{"a released file that is held again", func(m *spool.Message) { m.Entry.State, m.Kind = spool.Queue, mail.HeldAttachment }, mail.HeldAttachment},
		{"of an earlier version, spam", func(m *spool.Message) { m.Silent = "spam" }, mail.HeldSpam},
		{"of an earlier version", func(*spool.Message) {}, mail.HeldRule},
	}
	for _, tt := range tests {
		if got := kindOf(message(tt.change)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
