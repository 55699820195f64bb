package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

func verdict(a mail.Action, reply string) mail.Verdict {
	r, _ := mail.ParseReply(reply)
	return mail.Verdict{Action: a, Reply: r, Reason: "because"}
}

func always(v mail.Verdict) func(*mail.Transaction) mail.Verdict {
	return func(*mail.Transaction) mail.Verdict { return v }
}

func rejecting(reply string) func(*mail.Transaction) mail.Verdict {
	return always(verdict(mail.Reject, reply))
}

// say makes the handler answer v at one stage.
func (h *fakeHandler) say(stage mail.Stage, v mail.Verdict) {
	switch stage {
	case mail.StageConnect:
		h.connect = always(v)
	case mail.StageHelo:
		h.helo = always(v)
	case mail.StageMail:
		h.mailFrom = always(v)
	case mail.StageRcpt:
		h.rcpt = func(*mail.Transaction, mail.Path) mail.Verdict { return v }
	case mail.StageData:
		h.data = always(v)
	case mail.StageMessage:
		h.message = func(context.Context, *mail.Transaction) mail.Verdict { return v }
	}
}

// dialogue is the six answers up to the message's; it ends with the first that
// refuses.
func (g *gate) dialogue() []string {
	g.t.Helper()
	c := g.dial()
	var all []string
	for i, send := range []string{"", "EHLO c.example\r\n", "MAIL FROM:<s@a.example>\r\n", "RCPT TO:<u@b.example>\r\n", "DATA\r\n", simple + ".\r\n"} {
		if i > 0 {
			c.send(send)
		}
		r, err := c.reply()
		if err != nil {
			g.t.Fatalf("step %d: %v", i, err)
		}
		all = append(all, r)
		if r[0] >= '4' {
			break
		}
	}
	_ = c.conn.Close()
	return all
}

var stages = []mail.Stage{mail.StageConnect, mail.StageHelo, mail.StageMail, mail.StageRcpt, mail.StageData, mail.StageMessage}

func TestRefusalAtEveryStage(t *testing.T) {
	for _, stage := range stages {
		for _, tt := range []struct {
			name         string
			verdict      mail.Verdict
			want, banner string
		}{
			{"reject", verdict(mail.Reject, ""), "550 5.7.1", "554 5.7.1"},
			{"reject with a reply", verdict(mail.Reject, "552 5.2.2 full"), "552 5.2.2 full", "554 5.2.2 full"},
			{"tempfail", verdict(mail.TempFail, ""), "451 4.7.1", "421 4.7.1"},
			{"tempfail with a reply", verdict(mail.TempFail, "450 4.2.0 grey"), "450 4.2.0 grey", "421 4.2.0 grey"},
			{"close", verdict(mail.TempFail, "421 4.7.0 go"), "421 4.7.0 go", "421 4.7.0 go"},
			{"a reply that accepts", verdict(mail.Reject, "250 2.0.0 fine"), "550 5.7.1", "554 5.7.1"},
			{"a reply that goes on", verdict(mail.TempFail, "354 go"), "451 4.7.1", "421 4.7.1"},
		} {
			t.Run(stage.String()+" "+tt.name, func(t *testing.T) {
				g := start(t, nil)
				g.handler.say(stage, tt.verdict)
				want := tt.want
				if stage == mail.StageConnect {
					want = tt.banner
				}
				got := g.dialogue()
				if len(got) != int(stage)+1 || !strings.HasPrefix(got[len(got)-1], want) {
					t.Errorf("replies %q, want %q at %s", got, want, stage)
				}
				if n := len(g.store.messages()); n != 0 {
					t.Errorf("%d messages kept", n)
				}
				if !strings.Contains(g.log.String(), "reason=because") {
					t.Error("the log does not say why")
				}
				if strings.HasPrefix(want, "421") {
					g.waitIdle()
				}
			})
		}
	}
}

// Discard and quarantine of an earlier stage hold for the message, and the
// client sees no difference.
func TestStickyVerdicts(t *testing.T) {
	for _, stage := range stages {
		for _, action := range []mail.Action{mail.Discard, mail.Quarantine, mail.Accept} {
			t.Run(stage.String()+" "+action.String(), func(t *testing.T) {
				g := start(t, nil)
				g.handler.say(stage, verdict(action, ""))
				got := g.dialogue()
				if last := got[len(got)-1]; len(got) != 6 || !strings.HasPrefix(last, "250 2.0.0 queued as ") {
					t.Fatalf("replies %q", got)
				}
				kept := g.store.messages()
				switch action {
				case mail.Discard:
					if len(kept) != 0 {
						t.Errorf("kept %+v", kept)
					}
				case mail.Quarantine:
					if len(kept) != 1 || kept[0].State != spool.Hold || kept[0].Reason != "because" {
						t.Errorf("kept %+v", kept)
					}
				case mail.Accept:
					if len(kept) != 1 || kept[0].State != spool.Queue {
						t.Errorf("kept %+v", kept)
					}
				}
				if queued := len(g.queue.all()); queued != map[mail.Action]int{mail.Accept: 1}[action] {
					t.Errorf("the queue was told of %d messages", queued)
				}
				if want := "action=" + action.String(); action != mail.Accept && !strings.Contains(g.log.String(), want) {
					t.Errorf("the log lacks %s", want)
				}
			})
		}
	}
}

// What one transaction was told does not hold for the next.
func TestStickyEndsWithTransaction(t *testing.T) {
	g := start(t, nil)
	first := true
	g.handler.mailFrom = func(*mail.Transaction) mail.Verdict {
		defer func() { first = false }()
		if first {
			return verdict(mail.Discard, "")
		}
		return mail.Verdict{}
	}
	c := g.hello()
	for range 2 {
		c.do("MAIL FROM:<s@a.example>", "250")
		c.do("RCPT TO:<u@b.example>", "250")
		c.do("DATA", "354")
		c.do(simple+".", "250")
	}
	if n := len(g.store.messages()); n != 1 {
		t.Errorf("%d messages kept, want the second only", n)
	}
}

// A rejection at the end is stronger than what was said before.
func TestRejectBeatsSticky(t *testing.T) {
	g := start(t, nil)
	g.handler.say(mail.StageMail, verdict(mail.Quarantine, ""))
	g.handler.say(mail.StageMessage, verdict(mail.Reject, ""))
	got := g.dialogue()
	if last := got[len(got)-1]; !strings.HasPrefix(last, "550 5.7.1") {
		t.Errorf("replies %q", got)
	}
}

func TestFindingsSurvive(t *testing.T) {
	g := start(t, nil)
	add := func(name string) func(*mail.Transaction) mail.Verdict {
		return func(tx *mail.Transaction) mail.Verdict {
			tx.Findings = append(tx.Findings, mail.Finding{Filter: "f", Name: name, Score: 1})
			return mail.Verdict{}
		}
	}
	g.handler.connect, g.handler.helo, g.handler.mailFrom, g.handler.data = add("connect"), add("helo"), add("mail"), add("data")
	g.handler.rcpt = func(tx *mail.Transaction, _ mail.Path) mail.Verdict { return add("rcpt")(tx) }
	var seen []string
	g.handler.message = func(_ context.Context, tx *mail.Transaction) mail.Verdict {
		seen = nil
		for _, f := range tx.Findings {
			seen = append(seen, f.Name)
		}
		return mail.Verdict{}
	}
	c := g.hello()
	c.do("EHLO again.example", "250") // its findings replace the first one's
	for range 2 {
		c.do("MAIL FROM:<s@a.example>", "250")
		c.do("RCPT TO:<u@b.example>", "250")
		c.do("DATA", "354")
		c.do(simple+".", "250")
		if got, want := strings.Join(seen, " "), "connect helo mail rcpt data"; got != want {
			t.Errorf("findings %q, want %q", got, want)
		}
	}
	if m := g.store.messages()[1]; m.Score != 5 {
		t.Errorf("score %v, want 5", m.Score)
	}
	if want := `rules="f:connect f:helo f:mail f:rcpt f:data"`; !strings.Contains(g.log.String(), want) {
		t.Errorf("the log lacks %s", want)
	}
}

func TestEdits(t *testing.T) {
	g := start(t, nil)
	g.handler.message = func(_ context.Context, tx *mail.Transaction) mail.Verdict {
		if !tx.Message.Header[0].Is("Received") {
			t.Errorf("the handler sees %q first", tx.Message.Header[0].Raw())
		}
		return mail.Verdict{Edits: []mail.Edit{
			mail.InsertHeader{At: 0, Field: mail.NewField("X-Top", "1")},
			mail.ChangeHeader{At: 2, Field: mail.NewField("Subject", "[spam] test")},
			mail.DeleteHeader{At: 1},
			mail.ChangeSender{Sender: mail.Path{Address: mail.Address{Local: "other", Domain: "a.example"}}},
			mail.AddRecipient{Recipient: mail.Path{Address: mail.Address{Local: "copy", Domain: "b.example"}}},
		}}
	}
	g.dialogue()
	m := g.store.messages()[0]
	h, _, err := mail.SplitHeader(m.Header)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range h {
		names = append(names, f.Name())
	}
	if got, want := strings.Join(names, " "), "X-Gatepost-ID X-Top Received Subject"; got != want {
		t.Errorf("fields %q, want %q", got, want)
	}
	if m.Subject != "[spam] test" || m.Envelope.Sender.Local != "other" || len(m.Envelope.Recipients) != 2 || m.body != "body\r\n" {
		t.Errorf("entry %+v, body %q", m.Entry, m.body)
	}
}

// E6: a body from a filter can't end the message on its way out.
func TestReplacedBody(t *testing.T) {
	g := start(t, nil)
	const hostile = "a\n.\nMAIL FROM:<smug@x.example>\r.\r\n"
	g.handler.message = func(context.Context, *mail.Transaction) mail.Verdict {
		return mail.Verdict{Edits: []mail.Edit{mail.ReplaceBody{Body: strings.NewReader(hostile), Size: int64(len(hostile))}}}
	}
	g.dialogue()
	kept := g.store.messages()
	if len(kept) != 1 {
		t.Fatalf("%d messages", len(kept))
	}
	if got, want := kept[0].body, "a\r\n.\r\nMAIL FROM:<smug@x.example>\r\n.\r\n"; got != want {
		t.Errorf("body %q, want %q", got, want)
	}
}

// split sends a message to a, b, c and d at b.example with one verdict each.
func split(g *gate, vs ...mail.Verdict) string {
	g.t.Helper()
	strongest := mail.Verdict{}
	for _, v := range vs {
		if v.Action > strongest.Action {
			strongest = v
		}
	}
	g.handler.message = func(context.Context, *mail.Transaction) mail.Verdict {
		strongest.Recipients = vs
		return strongest
	}
	c := g.hello()
	c.do("MAIL FROM:<s@a.example>", "250")
	for _, u := range []string{"a", "b", "c", "d"} {
		c.do("RCPT TO:<"+u+"@b.example>", "250")
	}
	c.do("DATA", "354")
	c.send(simple + ".\r\n")
	r, err := c.reply()
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

func TestSplit(t *testing.T) {
	ok, drop := mail.Verdict{}, mail.Verdict{Action: mail.Discard}
	hold, no, later := verdict(mail.Quarantine, ""), verdict(mail.Reject, "550 5.7.1 no"), verdict(mail.TempFail, "")
	tagged := mail.Verdict{Action: mail.Accept, Edits: []mail.Edit{mail.InsertHeader{Field: mail.NewField("X-Tag", "1")}}}
	tagged2 := mail.Verdict{Action: mail.Accept, Edits: []mail.Edit{mail.InsertHeader{Field: mail.NewField("X-Tag", "1")}}}
	accept := mail.Verdict{Action: mail.Accept}
	for _, tt := range []struct {
		name     string
		verdicts []mail.Verdict
		reply    string
		want     []string // state, recipients
	}{
		{"all the same", []mail.Verdict{ok, accept, ok, ok}, "250", []string{"queue abcd"}},
		{"some held", []mail.Verdict{ok, hold, ok, hold}, "250", []string{"queue ac", "hold bd"}},
		{"some discarded", []mail.Verdict{drop, ok, drop, ok}, "250", []string{"queue bd"}},
		{"all discarded", []mail.Verdict{drop, drop, drop, drop}, "250", nil},
		{"some tagged", []mail.Verdict{tagged, ok, tagged2, ok}, "250", []string{"queue ac", "queue bd"}},
		{"some rejected", []mail.Verdict{no, ok, ok, no}, "250", []string{"hold ad", "queue bc"}},
		{"all rejected", []mail.Verdict{no, no, no, no}, "550 5.7.1 no", nil},
		{"one later", []mail.Verdict{ok, ok, ok, later}, "451", nil},
		{"rejected and later", []mail.Verdict{no, no, no, later}, "451", nil},
		{"rejected and discarded", []mail.Verdict{no, drop, drop, drop}, "250", []string{"hold a"}},
		{"verdicts that don't fit", []mail.Verdict{ok, ok}, "451 4.3.0", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, nil)
			reply := split(g, tt.verdicts...)
			if !strings.HasPrefix(reply, tt.reply) {
				t.Errorf("reply %q, want %q", reply, tt.reply)
			}
			var got []string
			ids := map[string]bool{}
			for _, m := range g.store.messages() {
				to := ""
				for _, r := range m.Envelope.Recipients {
					to += r.Local
				}
				got = append(got, string(m.State)+" "+to)
				ids[m.ID] = true
				if m.body != "body\r\n" {
					t.Errorf("body %q", m.body)
				}
				if !strings.Contains(string(m.Header), "X-Gatepost-ID: "+m.ID+"\r\n") {
					t.Errorf("header %q lacks its own ID", m.Header)
				}
				if !strings.HasSuffix(reply, m.Group) {
					t.Errorf("group %q, reply %q", m.Group, reply)
				}
				if m.State == spool.Hold && m.Reason == "" {
					t.Error("held without a reason")
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("kept %q, want %q", got, tt.want)
			}
			if len(ids) != len(got) {
				t.Errorf("IDs are not unique: %v", ids)
			}
		})
	}
}

// Edits that take the last recipient away leave nothing to keep.
func TestNoRecipientsLeft(t *testing.T) {
	g := start(t, nil)
	g.handler.message = func(_ context.Context, tx *mail.Transaction) mail.Verdict {
		return mail.Verdict{Edits: []mail.Edit{mail.DeleteRecipient{Recipient: tx.Envelope.Recipients[0].Address}}}
	}
	got := g.dialogue()
	if last := got[len(got)-1]; !strings.HasPrefix(last, "250") || len(g.store.messages()) != 0 {
		t.Errorf("replies %q, kept %d", got, len(g.store.messages()))
	}
	if got := g.stats.get("message discard policy"); got != 1 {
		t.Errorf("counted as discarded %d times", got)
	}
}

// STYLE: a panic is a failure of ours, never a pass.
func TestPanicInHandler(t *testing.T) {
	for _, stage := range stages[1:] {
		t.Run(stage.String(), func(t *testing.T) {
			g := start(t, nil)
			h := g.handler
			boom := func(*mail.Transaction) mail.Verdict { panic("boom") }
			switch stage {
			case mail.StageHelo:
				h.helo = boom
			case mail.StageMail:
				h.mailFrom = boom
			case mail.StageRcpt:
				h.rcpt = func(tx *mail.Transaction, _ mail.Path) mail.Verdict { return boom(tx) }
			case mail.StageData:
				h.data = boom
			case mail.StageMessage:
				h.message = func(_ context.Context, tx *mail.Transaction) mail.Verdict { return boom(tx) }
			}
			got := g.dialogue()
			if last := got[len(got)-1]; !strings.HasPrefix(last, "451 4.3.0") || strings.Contains(last, "boom") {
				t.Errorf("replies %q", got)
			}
			if !strings.Contains(g.log.String(), "boom") {
				t.Error("the log does not tell of the panic")
			}
		})
	}
	t.Run("the banner", func(t *testing.T) {
		g := start(t, nil)
		g.handler.connect = func(*mail.Transaction) mail.Verdict { panic("boom") }
		if got := g.dialogue(); !strings.HasPrefix(got[0], "421 4.3.0") {
			t.Errorf("replies %q", got)
		}
	})
}

// slowBody panics or fails when it is read, as a broken spool file would.
type slowBody struct{ err error }

func (b slowBody) ReadAt([]byte, int64) (int, error) { return 0, b.err }

func TestSpoolErrors(t *testing.T) {
	eio := fmt.Errorf("spool: sync segment /var/spool/secret: %w", syscall.EIO)
	full := fmt.Errorf("spool: write: %w", syscall.ENOSPC)
	quota := fmt.Errorf("spool: write: %w", syscall.EDQUOT)
	for _, tt := range []struct {
		name string
		set  func(*fakeStore)
		want string
		at   int // number of replies
	}{
		{"commit fails", func(s *fakeStore) { s.commit = eio }, "451 4.3.0", 6},
		{"commit finds no room", func(s *fakeStore) { s.commit = full }, "452 4.3.1", 6},
		{"commit finds no quota", func(s *fakeStore) { s.commit = quota }, "452 4.3.1", 6},
		{"write fails", func(s *fakeStore) { s.write = eio }, "451 4.3.0", 6},
		{"write finds no room", func(s *fakeStore) { s.write = full }, "452 4.3.1", 6},
		{"not ready", func(s *fakeStore) { s.ready = eio }, "451 4.3.0", 3},
		{"full", func(s *fakeStore) { s.ready = full }, "452 4.3.1", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, func(_ *Config, g *gate) { tt.set(g.store) })
			got := g.dialogue()
			last := got[len(got)-1]
			if len(got) != tt.at || !strings.HasPrefix(last, tt.want) {
				t.Errorf("replies %q, want %q", got, tt.want)
			}
			if strings.Contains(last, "secret") || strings.Contains(last, "spool") {
				t.Errorf("the reply tells of our inside: %q", last)
			}
			if len(g.store.messages()) != 0 || len(g.queue.all()) != 0 {
				t.Error("something was kept")
			}
		})
	}
	t.Run("a replaced body can't be read", func(t *testing.T) {
		g := start(t, nil)
		g.handler.message = func(context.Context, *mail.Transaction) mail.Verdict {
			return mail.Verdict{Edits: []mail.Edit{mail.ReplaceBody{Body: slowBody{io.ErrUnexpectedEOF}, Size: 10}}}
		}
		got := g.dialogue()
		if last := got[len(got)-1]; !strings.HasPrefix(last, "451 4.3.0") {
			t.Errorf("replies %q", got)
		}
	})
}

// After an error the same connection works again, once the spool does.
func TestSpoolRecovers(t *testing.T) {
	g := start(t, func(_ *Config, g *gate) { g.store.commit = errors.New("no") })
	c := g.envelope()
	c.do("DATA", "354")
	c.do(simple+".", "451")
	g.store.mu.Lock()
	g.store.commit = nil
	g.store.mu.Unlock()
	c.do("MAIL FROM:<s@a.example>", "250")
	c.do("RCPT TO:<u@b.example>", "250")
	c.do("DATA", "354")
	c.do(simple+".", "250")
}

func TestJudgeTimeout(t *testing.T) {
	for _, tt := range []struct {
		name string
		late mail.Verdict
		want string
	}{
		{"no opinion", mail.Verdict{}, "451 4.3.0"},
		{"accepts", mail.Verdict{Action: mail.Accept}, "451 4.3.0"},
		{"a rejection stands", verdict(mail.Reject, "550 5.7.1 virus"), "550 5.7.1 virus"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, func(c *Config, _ *gate) { c.Limits.JudgeTimeout = 300 * time.Millisecond })
			g.handler.message = func(ctx context.Context, _ *mail.Transaction) mail.Verdict {
				<-ctx.Done()
				return tt.late
			}
			got := g.dialogue()
			if last := got[len(got)-1]; !strings.HasPrefix(last, tt.want) {
				t.Errorf("replies %q, want %q", got, tt.want)
			}
			if n := len(g.store.messages()); n != 0 {
				t.Errorf("%d messages kept", n)
			}
		})
	}
}

func TestLoop(t *testing.T) {
	for _, tt := range []struct {
		hops int
		want string
	}{{49, "250"}, {50, "554 5.4.6"}} {
		g := start(t, nil)
		c := g.envelope()
		c.do("DATA", "354")
		c.do(strings.Repeat("Received: by x\r\n", tt.hops)+simple+".", tt.want)
	}
}

func TestHeaderLimits(t *testing.T) {
	for name, header := range map[string]string{
		"fields": strings.Repeat("X: y\r\n", mail.MaxHeaderCount+1),
		"field":  "X: " + strings.Repeat("y", mail.MaxHeaderField) + "\r\n",
		"size":   strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 300),
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, nil)
			c := g.envelope()
			c.do("DATA", "354")
			c.do(header+"\r\nbody\r\n.", "554 5.6.0")
			if g.handler.count("message") != 0 {
				t.Error("the handler was asked")
			}
		})
	}
}

// A client that left before the answer sends again: nothing is committed.
func TestClientGone(t *testing.T) {
	g := start(t, nil)
	judging, left := make(chan struct{}), make(chan struct{})
	g.handler.message = func(context.Context, *mail.Transaction) mail.Verdict {
		close(judging)
		<-left
		return mail.Verdict{}
	}
	c := g.envelope()
	c.do("DATA", "354")
	c.send(simple + ".\r\n")
	<-judging
	_ = c.conn.Close()
	poll(t, "the end of the connection", func() bool {
		g.srv.mu.Lock()
		defer g.srv.mu.Unlock()
		for ses := range g.srv.sessions {
			return isGone(ses.raw)
		}
		return false
	})
	close(left)
	g.waitIdle()
	if n := len(g.store.messages()); n != 0 {
		t.Errorf("%d messages kept", n)
	}
	if g.stats.get("message tempfail gone") != 1 {
		t.Error("not counted as gone")
	}
}

// A client that only waits, or already sends its next command, is not gone.
func TestClientNotGone(t *testing.T) {
	for _, behind := range []string{"", "QUIT\r\n"} {
		g := start(t, nil)
		c := g.envelope()
		c.do("DATA", "354")
		c.send(simple + ".\r\n" + behind)
		c.expect("250")
	}
}

// A handler that breaks at the very end does not take the server with it.
func TestPanicInAbortAndClose(t *testing.T) {
	g := start(t, func(_ *Config, g *gate) { g.handler.broken = true })
	g.envelope().do("QUIT", "221")
	g.waitIdle()
	if g.handler.count("close") != 1 {
		t.Error("Close was not called after Abort panicked")
	}
	g.hello()
}
