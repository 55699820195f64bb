package milter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
	"pgregory.net/rapid"
)

func newRemote(t *testing.T, socket string, change func(*RemoteConfig)) *Remote {
	t.Helper()
	cfg := RemoteConfig{ClientConfig: DefaultClientConfig(), Hostname: "mx.example"}
	cfg.Socket, cfg.CommandTimeout, cfg.ContentTimeout = socket, 5*time.Second, 5*time.Second
	if change != nil {
		change(&cfg)
	}
	r, err := NewRemote(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// dialogue is what a proxy tells its handler, and hears from it.
type dialogue struct {
	session mail.Session
	sender  mail.Path
	rcpts   []mail.Path
	header  mail.Header // the proxy's own Received is put above it
	body    string

	heard []string // a verdict for each question
	edits []mail.Edit
	tx    *mail.Transaction
}

// hold goes through one session as a proxy does.
func (d *dialogue) hold(ctx context.Context, h mail.Handler) {
	d.tx = &mail.Transaction{ID: "0twv0000001111111111BB", Session: &d.session, Start: time.Now()}
	if d.ask(ctx, mail.StageConnect, h.Connect) && d.ask(ctx, mail.StageHelo, h.Helo) {
		d.talk(ctx, h)
	}
}

func (d *dialogue) ask(ctx context.Context, stage mail.Stage, question func(context.Context, *mail.Transaction) mail.Verdict) bool {
	d.tx.Stage = stage
	v := question(ctx, d.tx)
	d.heard = append(d.heard, said(v))
	d.edits = v.Edits
	return v.Action < mail.TempFail && v.Action != mail.Discard
}

// talk goes through one message.
func (d *dialogue) talk(ctx context.Context, h mail.Handler) {
	before := d.tx
	d.tx = &mail.Transaction{ID: "0twv0000001111111111BB", Session: &d.session, Start: time.Now(), Envelope: mail.Envelope{Sender: d.sender}}
	if before != nil {
		d.tx.Findings = before.Findings
	}
	if !d.ask(ctx, mail.StageMail, h.Mail) {
		h.Abort(d.tx)
		return
	}
	for _, r := range d.rcpts {
		if d.ask(ctx, mail.StageRcpt, func(ctx context.Context, tx *mail.Transaction) mail.Verdict { return h.Rcpt(ctx, tx, r) }) {
			d.tx.Envelope.Recipients = append(d.tx.Envelope.Recipients, r)
		} else if strings.HasPrefix(d.heard[len(d.heard)-1], "discard") {
			h.Abort(d.tx)
			return
		}
	}
	if len(d.tx.Envelope.Recipients) == 0 || !d.ask(ctx, mail.StageData, h.Data) {
		h.Abort(d.tx)
		return
	}
	full := append(mail.Header{mail.NewField("Received", "by us")}, d.header...)
	d.tx.Message = mail.NewMessage(full, strings.NewReader(d.body), int64(len(d.body)))
	d.ask(ctx, mail.StageMessage, h.Message)
}

// said is a verdict as both sides must understand it: ACCEPT and CONTINUE
// differ for the milter alone.
func said(v mail.Verdict) string {
	if v.Action.Delivers() {
		return "continue"
	}
	if v.Action == mail.Quarantine {
		return "quarantine " + v.Reason
	}
	return fmt.Sprintf("%v %d %q %q", v.Action, v.Reply.Code, v.Reply.Detail, v.Reply.Text)
}

// What a handler behind client and server sees is what it would see in process,
// and its verdicts arrive as it gave them: every event and every reply.
func TestRemoteIsIdentity(t *testing.T) {
	var current atomic.Pointer[fakeHandler]
	path := start(t, nil, func(_ *Config, d *Deps) { d.NewHandler = func() mail.Handler { return current.Load() } })
	r := newRemote(t, "unix:"+path, nil)
	rapid.Check(t, func(rt *rapid.T) {
		d, far := drawDialogue(rt)
		near := fakeHandler{at: far.at, rcpt: far.rcpt, message: far.message} // the same in process
		direct := *d
		direct.hold(t.Context(), &near)
		current.Store(far)
		h := r.Handler()
		d.hold(t.Context(), h)
		h.Close()

		if got, want := strings.Join(d.heard, "\n"), strings.Join(direct.heard, "\n"); got != want {
			rt.Fatalf("heard\n%s\nwant\n%s", got, want)
		}
		if got, want := events(far), events(&near); got != want {
			rt.Fatalf("it saw\n%s\nwant\n%s", got, want)
		}
		if got, want := result(rt, d), result(rt, &direct); got != want {
			rt.Fatalf("made\n%s\nwant\n%s", got, want)
		}
	})
}

// events is what a handler saw of the dialogue, up to its end.
func events(h *fakeHandler) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := slices.DeleteFunc(slices.Clone(h.seen), func(s string) bool { return s == "abort" || s == "close" })
	return strings.Join(seen, "\n") + "\n" + strings.ReplaceAll(strings.Join(h.contents, "\n"), "Received: by us\r\n", "")
}

// result is envelope and message after the edits. The server's own mark and the
// proxy's own Received are no part of what was judged.
func result(t *rapid.T, d *dialogue) string {
	if d.tx.Message == nil {
		return ""
	}
	env, m := mail.Apply(d.tx.Envelope, d.tx.Message, d.edits)
	body, err := io.ReadAll(m.Body())
	if err != nil {
		t.Fatal(err)
	}
	header := slices.DeleteFunc(m.Header, func(f mail.Field) bool { return f.Is("X-Gatepost-ID") || f.Value() == "by us" })
	return fmt.Sprintf("%s %q %q\n%s\n%s", env.Sender, env.Sender.Args, env.Recipients, header.Bytes(), body)
}

func drawDialogue(t *rapid.T) (*dialogue, *fakeHandler) {
	word := rapid.StringMatching(`[a-z]{1,8}`)
	address := rapid.Custom(func(t *rapid.T) mail.Path {
		return mail.Path{
			Address: mail.Address{Local: word.Draw(t, "local"), Domain: word.Draw(t, "domain") + ".example"},
			Args:    rapid.SliceOfN(rapid.SampledFrom([]string{"SIZE=12", "NOTIFY=NEVER", "X=+20"}), 0, 2).Draw(t, "args"),
		}
	})
	text := rapid.StringMatching(`[a-z][ -~]{0,40}`)
	verdict := func(actions ...mail.Action) mail.Verdict {
		v := mail.Verdict{Action: rapid.SampledFrom(actions).Draw(t, "action")}
		if v.Action >= mail.TempFail && rapid.Bool().Draw(t, "with a reply") {
			v.Reply = mail.Reply{Code: 451, Detail: rapid.SampledFrom([]string{"", "7.1"}).Draw(t, "detail"), Text: text.Draw(t, "reply")}
			if rapid.Bool().Draw(t, "two lines") {
				v.Reply.Text += "\n" + text.Draw(t, "second line")
			}
			if v.Action == mail.Reject {
				v.Reply.Code = 550
			}
		}
		return v
	}
	rare := []mail.Action{mail.Continue, mail.Continue, mail.Continue, mail.Continue, mail.Accept, mail.Accept, mail.TempFail, mail.Reject}
	d := &dialogue{
		session: mail.Session{Listener: "mx", Client: rapid.SampledFrom([]netip.AddrPort{
			netip.MustParseAddrPort("192.0.2.1:25"), netip.MustParseAddrPort("[2001:db8::1]:25"), {},
		}).Draw(t, "client"), Name: rapid.SampledFrom([]string{"", "h.example"}).Draw(t, "name"), Helo: word.Draw(t, "helo")},
		sender: rapid.OneOf(rapid.Just(mail.Path{}), address).Draw(t, "sender"),
		rcpts:  rapid.SliceOfNDistinct(address, 1, 4, func(p mail.Path) mail.Address { return p.Address }).Draw(t, "recipients"),
		body:   strings.Repeat(rapid.StringMatching(`[ -~]{0,10}`).Draw(t, "line")+"\r\n", rapid.SampledFrom([]int{0, 1, 7000, 70000}).Draw(t, "lines")),
	}
	for range rapid.IntRange(0, 5).Draw(t, "fields") {
		raw := rapid.StringMatching(`(X-A|x-a|Received|Subject):[ a-z]{0,9}(\r\n[ \t][a-z]{1,5}){0,2}`).Draw(t, "field") + "\r\n"
		h, _, err := mail.SplitHeader([]byte(raw))
		if err != nil || len(h) != 1 {
			t.Fatal(raw, err)
		}
		d.header = append(d.header, h...)
	}
	h := &fakeHandler{at: map[mail.Stage]mail.Verdict{
		mail.StageConnect: verdict(rare...), mail.StageHelo: verdict(rare...), mail.StageMail: verdict(append(rare, mail.Discard)...),
	}}
	byAddress := map[mail.Address]mail.Verdict{}
	for _, p := range d.rcpts {
		byAddress[p.Address] = verdict(append(rare, mail.Discard)...)
	}
	h.rcpt = func(p mail.Path) mail.Verdict { return byAddress[p.Address] }
	end := verdict(mail.Continue, mail.Continue, mail.Accept, mail.Quarantine, mail.Discard, mail.TempFail, mail.Reject)
	if end.Action == mail.Quarantine {
		end.Reason = text.Draw(t, "reason")
	}
	if end.Action.Delivers() || end.Action == mail.Quarantine {
		end.Edits = drawEdits(t, d, address)
	}
	// Behind the server the header is without our Received: edits are made
	// for the header that the handler was shown.
	h.message = func(tx *mail.Transaction) mail.Verdict {
		v := end
		v.Edits = nil
		for _, e := range end.Edits {
			v.Edits = append(v.Edits, shifted(e, len(tx.Message.Header)-len(d.header)))
		}
		return v
	}
	return d, h
}

func shifted(e mail.Edit, by int) mail.Edit {
	switch e := e.(type) {
	case mail.InsertHeader:
		e.At += by
		return e
	case mail.ChangeHeader:
		e.At += by
		return e
	case mail.DeleteHeader:
		e.At += by
		return e
	}
	return e
}

func drawEdits(t *rapid.T, d *dialogue, address *rapid.Generator[mail.Path]) []mail.Edit {
	var edits []mail.Edit
	touched := map[int]bool{}
	for i := range rapid.IntRange(0, 5).Draw(t, "edits") {
		at := rapid.IntRange(0, len(d.header)).Draw(t, "at")
		switch what := rapid.IntRange(0, 2).Draw(t, "what"); {
		case what == 0 || at == len(d.header):
			edits = append(edits, mail.InsertHeader{At: at, Field: mail.NewField("X-New", fmt.Sprint(i))})
		case touched[at]:
		case what == 1:
			touched[at] = true
			edits = append(edits, mail.DeleteHeader{At: at})
		default:
			touched[at] = true
			edits = append(edits, mail.ChangeHeader{At: at, Field: mail.NewField(d.header[at].Name(), fmt.Sprint(i))})
		}
	}
	if rapid.Bool().Draw(t, "change the sender") {
		edits = append(edits, mail.ChangeSender{Sender: address.Draw(t, "new sender")})
	}
	if rapid.Bool().Draw(t, "add a recipient") {
		edits = append(edits, mail.AddRecipient{Recipient: mail.Path{Address: mail.Address{Local: "added", Domain: "x.example"}, Args: []string{"NOTIFY=NEVER"}}})
	}
	if rapid.Bool().Draw(t, "delete a recipient") {
		edits = append(edits, mail.DeleteRecipient{Recipient: rapid.SampledFrom(d.rcpts).Draw(t, "deleted").Address})
	}
	if n := rapid.SampledFrom([]int{-1, 0, 5, 200_000}).Draw(t, "new body"); n >= 0 {
		edits = append(edits, mail.ReplaceBody{Body: bytes.NewReader(bytes.Repeat([]byte("n"), n)), Size: int64(n)})
	}
	return edits
}

// A milter that fails, at whatever stage and in whatever way, is a temporary
// failure, or passes where the admin wants that; the next message tries it again.
func TestRemoteFailure(t *testing.T) {
	negotiation := wire.Negotiation{Version: 6}.Append(nil)
	c := wire.Append(nil, 'c')
	for name, answers := range map[string][][]byte{
		"not there":           nil,
		"bad negotiation":     {wire.Append(nil, 'c')},
		"closes at connect":   {negotiation, {}},
		"garbage at mail":     {negotiation, c, c, wire.Append(nil, 'Z')},
		"half a packet":       {negotiation, c, c, c, {0, 0, 0, 9, 'y'}},
		"silent at the end":   {negotiation, c, c, c, c, c, c, c, c, {}},
		"edit not negotiated": {negotiation, c, c, c, c, c, c, c, c, wire.Header{Name: "A", Value: "b"}.Append(nil, 'h')},
		"connection failed":   {negotiation, c, c, c, wire.Append(nil, codeConnFail)},
		"two answers at once": {negotiation, c, append(bytes.Clone(c), c...)},
	} {
		for _, policy := range []OnError{OnErrorTempFail, OnErrorContinue} {
			t.Run(name+" "+string(policy), func(t *testing.T) {
				socket := "unix:/nonexistent/milter.sock"
				if answers != nil {
					socket = child(t, answers[0], answers[1:]...)
				}
				r := newRemote(t, socket, func(c *RemoteConfig) {
					c.OnError, c.CommandTimeout, c.ContentTimeout = policy, 300*time.Millisecond, 300*time.Millisecond
				})
				h := r.Handler()
				defer h.Close()
				d := dialogueOf(1)
				d.hold(t.Context(), h)
				last := d.heard[len(d.heard)-1]
				switch {
				case policy == OnErrorContinue && (last != "continue" || len(d.heard) != 6):
					t.Errorf("heard %q, want all to continue", d.heard)
				case policy == OnErrorTempFail && !strings.HasPrefix(last, "tempfail 451 "):
					t.Errorf("heard %q, want a temporary failure", d.heard)
				}
				if len(d.tx.Findings) == 0 || d.tx.Findings[0].Name != mail.FindingFailed {
					t.Errorf("findings = %+v", d.tx.Findings)
				}
			})
		}
	}
}

func dialogueOf(rcpts int) *dialogue {
	d := &dialogue{
		session: mail.Session{Listener: "mx", Client: netip.MustParseAddrPort("192.0.2.1:25"), Helo: "h"},
		sender:  mail.Path{Address: mail.Address{Local: "s", Domain: "sender.example"}}, body: "body\r\n",
		header: mail.Header{mail.NewField("Subject", "x")},
	}
	for i := range rcpts {
		d.rcpts = append(d.rcpts, mail.Path{Address: mail.Address{Local: fmt.Sprint("r", i), Domain: "b.example"}})
	}
	return d
}

// A milter that comes back in the midst of a session is told what it missed.
func TestRemoteComesBack(t *testing.T) {
	h := &fakeHandler{}
	r := newRemote(t, "unix:"+start(t, h, nil), nil)
	handler := r.Handler()
	defer handler.Close()
	d := dialogueOf(1)
	d.tx = &mail.Transaction{ID: "x", Session: &d.session}
	handler.Connect(t.Context(), d.tx)
	handler.Helo(t.Context(), d.tx)
	handler.(*remote).client.conn.Close()
	d.tx.Stage = mail.StageMail
	if v := handler.Mail(t.Context(), d.tx); v.Action != mail.TempFail {
		t.Fatalf("on a dead connection: %+v", v)
	}
	handler.Abort(d.tx)
	if v := handler.Mail(t.Context(), d.tx); v.Action != mail.Continue {
		t.Fatalf("on a new connection: %+v", v)
	}
	// When the server sees that the first connection is dead is its own affair.
	if got, want := strings.ReplaceAll(h.log(), "close; ", ""), "connect unknown[192.0.2.1]; helo h; connect unknown[192.0.2.1]; helo h; mail <> "; got != want {
		t.Errorf("it saw %q, want %q", got, want)
	}
}

// A milter gets the macros it asks for at the stage it asks for them.
func TestRemoteMacros(t *testing.T) {
	for name, tt := range map[string]struct {
		asked map[milter.Stage][]string
		want  string
	}{
		"none asked": {nil, "[{j mx.example} {v Gatepost} {_ unknown [192.0.2.1]} {{daemon_name} mx} {{client_addr} 192.0.2.1} {{client_name} unknown} {{client_port} 25} {{client_resolve} FAIL}]"},
		"two asked":  {map[milter.Stage][]string{milter.StageConnect: {"{client_addr}", "j", "{no_such}", "{j}"}}, "[{{client_addr} 192.0.2.1} {j mx.example}]"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRemote(t, "unix:/x", nil)
			d := dialogueOf(1)
			h := &remote{Remote: r, client: &Client{agreed: wire.Negotiation{Macros: tt.asked}}}
			m := h.macros(milter.CodeConn, &mail.Transaction{Session: &d.session}, nil)
			if got := fmt.Sprint(m.Values); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// A message that ends without its end is ended for the milter, too; one that
// the milter itself has ended is not.
func TestRemoteAbort(t *testing.T) {
	for name, tt := range map[string]struct {
		mail mail.Verdict
		want string
	}{
		"in a message": {mail.Verdict{}, "mail <> ; abort; mail <> "},
		"refused":      {mail.Verdict{Action: mail.Reject}, "mail <> ; abort; mail <> "}, // the server's own
	} {
		t.Run(name, func(t *testing.T) {
			h := &fakeHandler{at: map[mail.Stage]mail.Verdict{mail.StageMail: tt.mail}}
			handler := newRemote(t, "unix:"+start(t, h, nil), nil).Handler()
			defer handler.Close()
			d := dialogueOf(1)
			d.tx = &mail.Transaction{ID: "x", Session: &d.session}
			handler.Connect(t.Context(), d.tx)
			for range 2 {
				d.tx.Stage = mail.StageMail
				handler.Mail(t.Context(), d.tx)
				handler.Abort(d.tx)
			}
			eventually(t, "events", func() bool { return strings.Count(h.log(), "abort") == 2 })
			if got, want := h.log(), "connect unknown[192.0.2.1]; "+tt.want+"; abort"; got != want {
				t.Errorf("it saw %q, want %q", got, want)
			}
		})
	}
}
