package milter

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	dj "github.com/d--j/go-milter"
	"github.com/emersion/go-milter"
)

// d--j's client and server, a reading of the protocol that has nothing of ours
// nor of go-milter's: every stage with every action, both ways.

// djMTA is an MTA on d--j's client.
type djMTA struct {
	t *testing.T
	s *dj.ClientSession
}

func djDial(t *testing.T, path string, options ...dj.Option) *djMTA {
	t.Helper()
	macros := dj.NewMacroBag()
	macros.Set("j", "mta.test")
	macros.Set("i", "4QID")
	s, err := dj.NewClient("unix", path, options...).Session(macros)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &djMTA{t, s}
}

// said is an answer in words.
func (m *djMTA) said(a *dj.Action, err error) string {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
	if a.Type == dj.ActionRejectWithCode {
		return strings.TrimSpace(a.SMTPReply)
	}
	return map[dj.ActionType]string{
		dj.ActionAccept: "accept", dj.ActionContinue: "continue", dj.ActionDiscard: "discard", dj.ActionReject: "reject", dj.ActionTempFail: "tempfail", dj.ActionSkip: "skip",
	}[a.Type]
}

// message goes on as long as the answer is "continue", and returns the stage
// and the answer that ended it, with the changes.
func (m *djMTA) message(greet bool) (at, said string, changes []dj.ModifyAction) {
	m.t.Helper()
	steps := []struct {
		name string
		ask  func() (*dj.Action, error)
	}{
		{"connect", func() (*dj.Action, error) { return m.s.Conn("c.test", dj.FamilyInet6, 4025, "2001:db8::1") }},
		{"helo", func() (*dj.Action, error) { return m.s.Helo("c.test") }},
		{"mail", func() (*dj.Action, error) { return m.s.Mail("a@b.example", "SIZE=10 BODY=8BITMIME") }},
		{"rcpt", func() (*dj.Action, error) { return m.s.Rcpt("c@example.com", "NOTIFY=NEVER") }},
		{"data", m.s.DataStart},
		{"header", func() (*dj.Action, error) { return m.s.HeaderField("Subject", "  old\r\n\tfolded", nil) }},
		{"eoh", m.s.HeaderEnd},
		{"message", func() (a *dj.Action, err error) {
			changes, a, err = m.s.BodyReadFrom(strings.NewReader(strings.Repeat("0123456789abcde\n", 10_000)))
			return a, err
		}},
	}
	if !greet {
		steps = steps[2:]
	}
	for _, step := range steps {
		if said = m.said(step.ask()); said != "continue" || step.name == "message" {
			return step.name, said, changes
		}
	}
	return "", "", nil
}

func TestServerWithDJClient(t *testing.T) {
	words := mail.Reply{Code: 550, Detail: "7.1", Text: "100% no\nreally"}
	verdicts := []struct {
		name, want string
		v          mail.Verdict
		lasts      bool // to the end of the message, where an earlier stage can't say it
	}{
		{"continue", "continue", mail.Verdict{}, false},
		{"accept", "continue", mail.Verdict{Action: mail.Accept}, false},
		{"reject", "reject", mail.Verdict{Action: mail.Reject}, false},
		{"tempfail", "tempfail", mail.Verdict{Action: mail.TempFail}, false},
		{"reply", "550-5.7.1 100%% no\r\n550 5.7.1 really", mail.Verdict{Action: mail.Reject, Reply: words}, false},
		{"discard", "discard", mail.Verdict{Action: mail.Discard}, false},
		{"quarantine", "quarantine", mail.Verdict{Action: mail.Quarantine, Reason: "odd"}, true},
	}
	for _, stage := range []mail.Stage{mail.StageConnect, mail.StageHelo, mail.StageMail, mail.StageRcpt, mail.StageMessage} {
		for _, tt := range verdicts {
			t.Run(stage.String()+" "+tt.name, func(t *testing.T) {
				m := djDial(t, start(t, &fakeHandler{at: map[mail.Stage]mail.Verdict{stage: tt.v}}, nil))
				at, said, changes := m.message(true)
				wantAt, want := stage.String(), tt.want
				if want == "continue" || tt.lasts || tt.name == "discard" && stage < mail.StageMail {
					wantAt = "message"
				}
				if tt.lasts {
					want = "continue"
					i := slices.IndexFunc(changes, func(c dj.ModifyAction) bool { return c.Type == dj.ActionQuarantine })
					if i < 0 || changes[i].Reason != "odd" {
						t.Errorf("changes %v", changes)
					}
				}
				if at != wantAt || said != want { // d--j's client leaves a doubled % as it is
					t.Errorf("%s: %q, want %s: %q", at, said, wantAt, want)
				}
			})
		}
	}
}

// What the server is told comes through, of several messages and sessions over
// one connection.
func TestServerHearsDJClient(t *testing.T) {
	h := &hearing{fakeHandler: &fakeHandler{}}
	path := start(t, h.fakeHandler, func(_ *Config, d *Deps) {
		d.NewHandler = func() mail.Handler { return h }
		d.HearsUnknown = func() bool { return true }
	})
	m := djDial(t, path)
	for session := range 2 {
		m.message(true)
		m.message(false)
		if got := m.said(m.s.Unknown("XYZZY plugh", nil)); got != "continue" {
			t.Errorf("unknown: %s", got)
		}
		m.said(m.s.Mail("gone@b.example", ""))
		if err := errors.Join(m.s.Abort(nil), m.s.Reset(dj.NewMacroBag())); err != nil {
			t.Fatal(err)
		}
		one := "mail <a@b.example> SIZE=10 BODY=8BITMIME; rcpt <c@example.com>"
		want := "connect c.test[2001:db8::1]; helo c.test; " + one + "; " + one + "; helo unknown XYZZY plugh; mail <gone@b.example> ; abort; close"
		if session > 0 {
			m.said(m.s.Conn("again.test", dj.FamilyUnknown, 0, ""))
		}
		got := h.log()
		if session == 0 {
			waitFor(t, func() bool { got = h.log(); return strings.HasSuffix(got, "close") })
			h.mu.Lock()
			h.seen = nil
			h.mu.Unlock()
		} else {
			want += "; connect again.test"
		}
		if got != want {
			t.Errorf("session %d: it saw\n%s\nwant\n%s", session, got, want)
		}
	}
	body := strings.Repeat("0123456789abcde\n", 10_000)
	for i := range 4 {
		if got, want := h.content(i), "Subject:  old\r\n\tfolded\r\n\r\n"+body; got != want {
			t.Errorf("message %d came as %.80q…, %d octets, want %d", i, got, len(got), len(want))
		}
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return
		}
	}
}

// Every edit as d--j's client reads it.
func TestEditsForDJClient(t *testing.T) {
	path := func(local string, args ...string) mail.Path {
		return mail.Path{Address: mail.Address{Local: local, Domain: "x.example"}, Args: args}
	}
	body := strings.Repeat("new body\r\n", 10_000)
	h := &fakeHandler{at: map[mail.Stage]mail.Verdict{mail.StageMessage: {Action: mail.Accept, Edits: []mail.Edit{
		mail.InsertHeader{At: 0, Field: mail.NewField("X-Top", "1")}, mail.InsertHeader{At: 1, Field: mail.NewField("X-End", "2")},
		mail.ChangeHeader{At: 0, Field: mail.NewField("Subject", "new")},
		mail.ChangeSender{Sender: path("s", "BODY=7BIT", "RET=HDRS")}, mail.AddRecipient{Recipient: path("n")}, mail.AddRecipient{Recipient: path("m", "NOTIFY=NEVER")},
		mail.DeleteRecipient{Recipient: mail.Address{Local: "c", Domain: "example.com"}},
		mail.ReplaceBody{Body: strings.NewReader(body), Size: int64(len(body))},
	}}}}
	_, said, changes := djDial(t, start(t, h, nil)).message(true)
	var got []string
	var replaced strings.Builder
	for _, c := range changes {
		switch {
		case c.HeaderName == "X-Gatepost-ID":
		case c.Type == dj.ActionReplaceBody:
			replaced.Write(c.Body)
		default:
			got = append(got, fmt.Sprint(c.Type, c.HeaderIndex, c.HeaderName, c.HeaderValue, c.From, c.FromArgs, c.Rcpt, c.RcptArgs))
		}
	}
	want := []string{
		fmt.Sprint(dj.ActionChangeHeader, uint32(1), "Subject", " new", "", "", "", ""),
		fmt.Sprint(dj.ActionAddHeader, uint32(0), "X-End", " 2", "", "", "", ""),
		fmt.Sprint(dj.ActionInsertHeader, uint32(1), "X-Top", " 1", "", "", "", ""),
		fmt.Sprint(dj.ActionChangeFrom, uint32(0), "", "", "<s@x.example>", "BODY=7BIT RET=HDRS", "", ""),
		fmt.Sprint(dj.ActionDelRcpt, uint32(0), "", "", "", "", "<c@example.com>", ""),
		fmt.Sprint(dj.ActionAddRcpt, uint32(0), "", "", "", "", "<n@x.example>", ""),
		fmt.Sprint(dj.ActionAddRcpt, uint32(0), "", "", "", "", "<m@x.example>", "NOTIFY=NEVER"),
	}
	if said != "continue" || !slices.Equal(got, want) {
		t.Errorf("%s, changes\n%q, want\n%q", said, got, want)
	}
	if replaced.String() != body {
		t.Errorf("a body of %d octets, want %d", replaced.Len(), len(body))
	}
}

// An MTA of each version that d--j's client can play.
func TestVersionsOfDJClient(t *testing.T) {
	for version := uint32(2); version <= 6; version++ {
		if version == 5 {
			continue // nobody ever spoke it; d--j's client offers more than it knows
		}
		options := []dj.Option{dj.WithMaximumVersion(version), dj.WithProtocols(0)}
		if version < 6 {
			options = append(options, dj.WithActions(dj.OptAddHeader|dj.OptChangeBody|dj.OptAddRcpt|dj.OptRemoveRcpt|dj.OptChangeHeader|dj.OptQuarantine))
		}
		m := djDial(t, start(t, &fakeHandler{}, nil), options...)
		if at, said, _ := m.message(true); at != "message" || said != "continue" {
			t.Errorf("version %d: %s: %s", version, at, said)
		}
	}
}

// djChild is a milter on d--j's server that answers one event, and "continue"
// to all others.
type djChild struct {
	dj.NoOpMilter
	mu     sync.Mutex
	at     string
	answer *dj.Response
	edit   func(dj.Modifier) error
	seen   []string
}

func (c *djChild) event(name, text string) (*dj.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, strings.TrimSpace(name+" "+text))
	if name == c.at {
		return c.answer, nil
	}
	return dj.RespContinue, nil
}

func (c *djChild) Connect(host, family string, port uint16, addr string, m dj.Modifier) (*dj.Response, error) {
	_ = m.Progress()
	return c.event("connect", fmt.Sprint(host, " ", family, " ", port, " ", addr, " j=", m.Get("j")))
}
func (c *djChild) Helo(name string, m dj.Modifier) (*dj.Response, error) {
	return c.event("helo", name)
}
func (c *djChild) MailFrom(from, args string, m dj.Modifier) (*dj.Response, error) {
	return c.event("mail", from+" "+args)
}
func (c *djChild) RcptTo(to, args string, m dj.Modifier) (*dj.Response, error) {
	return c.event("rcpt", to+" "+args)
}
func (c *djChild) Data(dj.Modifier) (*dj.Response, error) { return c.event("data", "") }
func (c *djChild) Header(name, value string, _ dj.Modifier) (*dj.Response, error) {
	return c.event("header", name+":"+value)
}
func (c *djChild) Headers(dj.Modifier) (*dj.Response, error) { return c.event("eoh", "") }
func (c *djChild) BodyChunk(b []byte, _ dj.Modifier) (*dj.Response, error) {
	return c.event("body", fmt.Sprint(len(b)))
}
func (c *djChild) Unknown(line string, _ dj.Modifier) (*dj.Response, error) {
	return c.event("unknown", line)
}
func (c *djChild) Abort(dj.Modifier) error {
	_, err := c.event("abort", "")
	return err
}
func (c *djChild) EndOfMessage(m dj.Modifier) (*dj.Response, error) {
	_ = m.Progress()
	if c.edit != nil {
		if err := c.edit(m); err != nil {
			return nil, err
		}
	}
	return c.event("end", "i="+m.Get("i"))
}

// djServe starts it and returns its socket.
func djServe(t *testing.T, c *djChild) string {
	t.Helper()
	ln, err := net.Listen("unix", t.TempDir()+"/m")
	if err != nil {
		t.Fatal(err)
	}
	srv := dj.NewServer(dj.WithMilter(func() dj.Milter { return c }), dj.WithActions(dj.AllClientSupportedActionMasks), dj.WithProtocols(dj.OptSkip|dj.OptHeaderLeadingSpace),
		dj.WithMacroRequest(dj.StageConnect, []string{"j"}), dj.WithMacroRequest(dj.StageEOM, []string{"i"}))
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() { srv.Close(); wg.Wait() })
	return "unix:" + ln.Addr().String()
}

// tellAll says a message to a child until it answers with more than "continue".
func tellAll(t *testing.T, c *Client) (at string, edits []Edit, a Answer) {
	t.Helper()
	ctx := t.Context()
	macros := func(code milter.Code, name, value string) {
		c.Macros(wire.Macros{For: code, Values: []wire.Macro{{Name: name, Value: value}}})
	}
	for _, step := range []struct {
		name string
		ask  func() (Answer, error)
	}{
		{"connect", func() (Answer, error) {
			macros(milter.CodeConn, "j", "mta.test")
			return c.Connect(ctx, wire.Connect{Host: "c.test", Family: wire.FamilyIPv6, Port: 4025, Address: "IPv6:2001:db8::1"})
		}},
		{"helo", func() (Answer, error) { return c.Helo(ctx, "c.test") }},
		{"unknown", func() (Answer, error) { return c.Unknown(ctx, "XYZZY plugh") }},
		{"mail", func() (Answer, error) {
			return c.Mail(ctx, wire.Envelope{Address: "<a@b.example>", Args: []string{"SIZE=10", "BODY=8BITMIME"}})
		}},
		{"rcpt", func() (Answer, error) {
			return c.Rcpt(ctx, wire.Envelope{Address: "<c@d.example>", Args: []string{"NOTIFY=NEVER"}})
		}},
		{"data", func() (Answer, error) { return c.Data(ctx) }},
		{"header", func() (Answer, error) { return c.Field(ctx, mail.NewField("Subject", "old")) }},
		{"eoh", func() (Answer, error) { return c.EndOfHeader(ctx) }},
		{"body", func() (Answer, error) { return c.Body(ctx, strings.NewReader(strings.Repeat("x", 100_000))) }},
		{"end", func() (a Answer, err error) {
			macros(milter.CodeEOB, "i", "4QID")
			edits, a, err = c.End(ctx)
			return a, err
		}},
	} {
		var err error
		if a, err = step.ask(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if a.Code != milter.ActContinue {
			return step.name, edits, a
		}
	}
	return "", edits, a
}

func TestClientWithDJServer(t *testing.T) {
	words, err := dj.RejectWithCodeAndReason(450, "4.7.1 100% not yet\nreally")
	if err != nil {
		t.Fatal(err)
	}
	events := []string{"connect", "helo", "unknown", "mail", "rcpt", "data", "header", "eoh", "body", "end"}
	for _, at := range events {
		for _, tt := range []struct {
			name   string
			answer *dj.Response
			want   milter.ActionCode
		}{
			{"accept", dj.RespAccept, milter.ActAccept},
			{"reject", dj.RespReject, milter.ActReject},
			{"tempfail", dj.RespTempFail, milter.ActTempFail},
			{"discard", dj.RespDiscard, milter.ActDiscard},
			{"skip", dj.RespSkip, milter.ActSkip},
			{"reply", words, milter.ActReplyCode},
		} {
			t.Run(at+" "+tt.name, func(t *testing.T) {
				child := &djChild{at: at, answer: tt.answer}
				c := clientFor(t, djServe(t, child), full)
				stopped, _, a := tellAll(t, c)
				wantAt, want := at, tt.want
				if tt.name == "skip" && (at == "body" || at == "end") { // its meaning: no more of these, or none
					wantAt, want = "end", milter.ActAccept
				}
				if stopped != wantAt || a.Code != want {
					t.Fatalf("%s: %q, want %s: %q", stopped, a.Code, wantAt, want)
				}
				if got, want := a.Reply, (mail.Reply{Code: 450, Detail: "7.1", Text: "100% not yet\nreally"}); tt.name == "reply" && got != want {
					t.Errorf("reply %+v, want %+v", got, want)
				}
				child.mu.Lock()
				defer child.mu.Unlock()
				bodies := strings.Count(strings.Join(child.seen, ";"), "body ")
				if tt.name == "skip" && at == "body" && bodies != 1 {
					t.Errorf("%d chunks after SKIP", bodies)
				}
			})
		}
	}
}

// What a child is told comes through, of two messages and an aborted one, and
// so do its changes.
func TestClientTellsDJServer(t *testing.T) {
	body := strings.Repeat("new body\r\n", 10_000)
	child := &djChild{edit: func(m dj.Modifier) error {
		return errors.Join(m.AddHeader("X-End", " 1"), m.InsertHeader(3, "X-In", " 2\n\tfolded"), m.ChangeHeader(2, "Subject", " new"), m.ChangeHeader(1, "X-Gone", ""),
			m.AddRecipient("n@x.example", ""), m.AddRecipient("m@x.example", "NOTIFY=NEVER"), m.DeleteRecipient("c@d.example"), m.ChangeFrom("s@x.example", "RET=HDRS"),
			m.Quarantine("odd"), m.ReplaceBody(strings.NewReader(body)))
	}}
	c := clientFor(t, djServe(t, child), full)
	_, edits, a := tellAll(t, c)
	if a.Code != milter.ActAccept { // d--j's server ends a message with it
		t.Errorf("last word %q", a.Code)
	}
	var got []string
	var replaced strings.Builder
	for _, e := range edits {
		if e.Code == byte(milter.ActReplBody) {
			replaced.Write(e.Body)
			continue
		}
		got = append(got, fmt.Sprintf("%c %d %s%s%s%v%s", e.Code, e.Header.Index, e.Header.Name, e.Header.Value, e.Envelope.Address, e.Envelope.Args, e.Reason))
	}
	want := []string{"h 0 X-End 1[]", "i 3 X-In 2\n\tfolded[]", "m 2 Subject new[]", "m 1 X-Gone[]", "+ 0 <n@x.example>[]", "2 0 <m@x.example>[NOTIFY=NEVER]",
		"- 0 <c@d.example>[]", "e 0 <s@x.example>[RET=HDRS]", "q 0 []odd"}
	if !slices.Equal(got, want) {
		t.Errorf("changes\n%q, want\n%q", got, want)
	}
	if replaced.String() != body {
		t.Errorf("a body of %d octets, want %d", replaced.Len(), len(body))
	}
	if _, err := c.Mail(t.Context(), wire.Envelope{Address: "<>"}); err != nil {
		t.Fatal(err)
	}
	if err := cmp.Or(c.Abort(t.Context()), c.QuitNewConnection(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Connect(t.Context(), wire.Connect{Host: "again.test", Family: wire.FamilyUnknown}); err != nil {
		t.Fatal(err)
	}
	child.mu.Lock()
	defer child.mu.Unlock()
	events := "connect c.test tcp6 4025 2001:db8::1 j=mta.test; helo c.test; unknown XYZZY plugh; mail a@b.example SIZE=10 BODY=8BITMIME; rcpt c@d.example NOTIFY=NEVER; data; " +
		"header Subject: old; eoh; body 65535; body 34465; end i=4QID; mail; abort; connect again.test unknown 0  j="
	// d--j's server aborts by itself, too, as often as it likes.
	seen := slices.CompactFunc(child.seen, func(a, b string) bool { return a == "abort" && b == "abort" })
	if i := slices.Index(seen, "end i=4QID"); i >= 0 && seen[i+1] == "abort" {
		seen = slices.Delete(seen, i+1, i+2)
	}
	if got := strings.Join(seen, "; "); got != events {
		t.Errorf("it saw\n%s\nwant\n%s", got, events)
	}
}
