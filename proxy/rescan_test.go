package proxy

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// later is a Rescanner over a real spool, with one message that waits.
type later struct {
	*Rescanner
	spool   *spool.Spool
	handler *fakeHandler
	queue   *fakeQueue
	stats   *fakeStats
	up      bool
	id      string
}

type fakeRescans struct{ *fakeStats }

func (f fakeRescans) Rescanned(result string) { f.add(result, 1) }

// waiting is what a message looks like when a filter could not judge it.
var waiting = mail.Verdict{Action: mail.Quarantine, Reason: "waits for av", Unscanned: "av"}

func newLater(t *testing.T, text string, rcpts ...string) *later {
	t.Helper()
	g := startOnDisk(t, nil)
	g.t = t
	g.handler.message = func(context.Context, *mail.Transaction) mail.Verdict { return waiting }
	c := g.hello()
	c.do("MAIL FROM:<s@a.example> ENVID=x", "250")
	for _, r := range rcpts {
		c.do("RCPT TO:<"+r+">", "250")
	}
	c.do("DATA", "354")
	c.send(text + ".\r\n")
	c.expect("250")
	l := &later{spool: g.spool, handler: &fakeHandler{}, queue: &fakeQueue{}, stats: &fakeStats{}, up: true}
	var err error
	l.Rescanner, err = NewRescanner(time.Hour, RescanDeps{
		Spool: g.spool, Queue: l.queue, NewHandler: func(string) mail.Handler { return l.handler },
		Up: func(...string) bool { return l.up }, Admin: new(sync.Mutex), Stats: fakeRescans{l.stats},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for m := range g.spool.All() {
		l.id = m.ID
	}
	return l
}

// left is what is in the spool: state, recipients and reason of each, sorted.
func (l *later) left() []string {
	var all []string
	for m := range l.spool.All() {
		var to []string
		for _, r := range m.Envelope.Recipients {
			to = append(to, r.Local)
		}
		all = append(all, fmt.Sprintf("%s %s %s", m.Progress.State, strings.Join(to, "+"), m.Progress.Reason))
	}
	slices.Sort(all)
	return all
}

// Whatever the verdict is, the message goes its way, and is never refused: its
// client was told 250.
func TestRescan(t *testing.T) {
	each := func(vs ...mail.Verdict) mail.Verdict {
		return mail.Verdict{Action: mail.Quarantine, Recipients: vs}
	}
	accept := mail.Verdict{Action: mail.Accept}
	refusal := verdict(mail.Reject, "550 5.7.1 no")
	message := func(v mail.Verdict) func(*fakeHandler) { return func(h *fakeHandler) { h.say(mail.StageMessage, v) } }
	stage := func(s mail.Stage, v mail.Verdict) func(*fakeHandler) {
		return func(h *fakeHandler) { h.say(s, v) }
	}
	tests := []struct {
		name   string
		set    func(*fakeHandler)
		again  bool
		result string
		left   []string
	}{
		{"clean", message(accept), false, "released", []string{"queue u+v "}},
		{"held", message(verdict(mail.Quarantine, "")), false, "quarantined", []string{"hold u+v because"}},
		{"refused", message(refusal), false, "quarantined", []string{"hold u+v refused when it was judged: because"}},
		{"dropped", message(verdict(mail.Discard, "")), false, "discarded", nil},
		{"refused for one", message(each(refusal, accept)), false, "released", []string{"hold u refused for this recipient: because", "queue v "}},
		{"dropped for one", message(each(verdict(mail.Discard, ""), accept)), false, "released", []string{"queue v "}},
		{"still not judged", message(waiting), true, "", []string{"hold u+v waits for av"}},
		{"still not judged for one", message(each(accept, waiting)), true, "", []string{"hold u+v waits for av"}},
		{"later", message(verdict(mail.TempFail, "451 4.7.1 later")), true, "", []string{"hold u+v waits for av"}},
		{"later, at connect", stage(mail.StageConnect, verdict(mail.TempFail, "")), true, "", []string{"hold u+v waits for av"}},
		{"later, for a recipient", stage(mail.StageRcpt, verdict(mail.TempFail, "")), true, "", []string{"hold u+v waits for av"}},
		{"refused at connect", stage(mail.StageConnect, refusal), false, "quarantined", []string{"hold u+v refused when it was judged: because"}},
		{"refused at MAIL", stage(mail.StageMail, refusal), false, "quarantined", []string{"hold u+v refused when it was judged: because"}},
		{"held at HELO", stage(mail.StageHelo, verdict(mail.Quarantine, "")), false, "quarantined", []string{"hold u+v because"}},
		{"dropped at MAIL", stage(mail.StageMail, verdict(mail.Discard, "")), false, "discarded", nil},
		{"one refused at RCPT", func(h *fakeHandler) {
			h.rcpt = func(_ *mail.Transaction, r mail.Path) mail.Verdict {
				if r.Local == "u" {
					return refusal
				}
				return accept
			}
		}, false, "released", []string{"hold u refused when it was judged: because", "queue v "}},
		{"a handler that breaks", func(h *fakeHandler) {
			h.message = func(context.Context, *mail.Transaction) mail.Verdict { panic("bug") }
		}, true, "", []string{"hold u+v waits for av"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLater(t, simple, "u@b.example", "v@b.example")
			tt.set(l.handler)
			if again := l.judge(t.Context(), l.id); again != tt.again {
				t.Errorf("again = %v, want %v", again, tt.again)
			}
			if got := l.left(); !slices.Equal(got, tt.left) {
				t.Errorf("left %q, want %q", got, tt.left)
			}
			if tt.result != "" && l.stats.get(tt.result) != 1 {
				t.Errorf("counted %v, want one %s", l.stats.counts, tt.result)
			}
			if released := len(l.queue.all()) > 0; released != (tt.result == "released") {
				t.Errorf("the queue was told of %v", l.queue.all())
			}
			if n := l.handler.count("close"); n != 1 {
				t.Errorf("the handler was closed %d times", n)
			}
		})
	}
}

// The handler sees what it would have seen, and its edits give what they would
// have given.
func TestRescanIsAsAtOnce(t *testing.T) {
	text := "X-Spam-Flag: forged\r\n" + simple + strings.Repeat("a line of a large message\r\n", 10_000)
	var seen mail.Session
	edit := func(_ context.Context, tx *mail.Transaction) mail.Verdict {
		seen = *tx.Session
		last := len(tx.Message.Header)
		if !tx.Message.Header[0].Is("Received") || !tx.Message.Header[1].Is("X-Spam-Flag") || last != 4 {
			t.Errorf("judged with the header %q", tx.Message.Header.Bytes())
		}
		if v, _ := tx.Envelope.Sender.Arg("ENVID"); v != "x" {
			t.Errorf("judged with the sender %v", tx.Envelope.Sender)
		}
		tx.Findings = append(tx.Findings, mail.Finding{Name: mail.FindingSpamScore, Score: 2.5})
		return mail.Verdict{Action: mail.Accept, Edits: []mail.Edit{
			mail.DeleteHeader{At: 1}, mail.InsertHeader{At: last, Field: mail.NewField("X-Virus-Scanned", "clean")},
		}}
	}
	l := newLater(t, text, "u@b.example")
	old, err := l.spool.Get(l.id)
	if err != nil {
		t.Fatal(err)
	}
	l.handler.message = edit
	if l.judge(t.Context(), l.id) {
		t.Fatal("not judged")
	}
	for m := range l.spool.All() {
		content, err := l.spool.Open(m.ID)
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		var b bytes.Buffer
		if _, err := content.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		_, below, ok := strings.Cut(b.String(), "From: ")
		want := strings.Replace(text[strings.Index(text, "From: ")+len("From: "):], "\r\n\r\n", "\r\nX-Virus-Scanned: clean\r\n\r\n", 1)
		if !ok || below != want || !strings.HasPrefix(b.String(), "X-Gatepost-ID: "+m.ID) || strings.Count(b.String(), ownID) != 1 {
			t.Errorf("goes out as %.400q", b.String())
		}
		if m.Group != old.Group || m.Replaces != old.ID || m.ID == old.ID || !m.Received.Equal(old.Received) || m.Score != 2.5 ||
			m.ClientAddr != old.ClientAddr || m.Proto != "ESMTP" || m.Proto != old.Proto || m.Helo != old.Helo || m.Unscanned != "" {
			t.Errorf("kept as %+v, was %+v", m.Entry, old.Entry)
		}
	}
	if seen.Helo != "client.example" || !seen.ESMTP || seen.Listener != "mx" || !seen.Client.IsValid() || !seen.Again {
		t.Errorf("judged with the session %+v", seen)
	}
}

// What somebody took into his hands while it was judged is his.
func TestRescanAndAdmin(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*later) error
		left []string
	}{
		{"deleted", func(l *later) error { return l.spool.Remove(l.id) }, nil},
		{"released", func(l *later) error { return l.change(spool.Queue, "") }, []string{"queue u "}},
		{"held", func(l *later) error { return l.change(spool.Hold, "by hand") }, []string{"hold u by hand"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLater(t, simple, "u@b.example")
			l.handler.message = func(context.Context, *mail.Transaction) mail.Verdict {
				if err := tt.do(l); err != nil {
					t.Error(err)
				}
				return mail.Verdict{Action: mail.Accept}
			}
			if l.judge(t.Context(), l.id) {
				t.Error("it waits on")
			}
			if got := l.left(); !slices.Equal(got, tt.left) || len(l.queue.all()) > 0 {
				t.Errorf("left %q, want %q; the queue was told of %v", got, tt.left, l.queue.all())
			}
			if l.judge(t.Context(), l.id) || l.handler.count("message") != 1 {
				t.Error("judged once more")
			}
		})
	}
}

func (l *later) change(state spool.State, reason string) error {
	m, err := l.spool.Get(l.id)
	if err != nil {
		return err
	}
	m.Progress.State, m.Progress.Reason = state, reason
	return l.spool.Save(l.id, m.Progress)
}

// Run waits until the filter is back, does not lose what fails meanwhile, and
// ends when it is told to.
func TestRescannerRuns(t *testing.T) {
	l := newLater(t, simple, "u@b.example")
	var mu sync.Mutex
	up := false
	l.deps.Up = func(filters ...string) bool {
		mu.Lock()
		defer mu.Unlock()
		return up && slices.Equal(filters, []string{"av"})
	}
	asked := 0
	l.handler.message = func(context.Context, *mail.Transaction) mail.Verdict {
		asked++ // one message: one at a time
		if asked == 1 {
			return waiting
		}
		return mail.Verdict{Action: mail.Accept}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	poll(t, "the message in its line", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.known[l.id]
	})
	if n := l.handler.count("message"); n != 0 {
		t.Errorf("asked %d times while the filter is away", n)
	}
	mu.Lock()
	up = true
	mu.Unlock()
	poll(t, "the release", func() bool { return len(l.queue.all()) == 1 })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := l.stats.get("again"); n != 1 {
		t.Errorf("%d failures counted, want 1", n)
	}
	if len(l.known) != 0 {
		t.Errorf("still known: %v", l.known)
	}
}
