package milter

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

func clientFor(t *testing.T, socket string, offer wire.Negotiation) *Client {
	t.Helper()
	cfg := DefaultClientConfig()
	cfg.Socket, cfg.CommandTimeout, cfg.ContentTimeout = socket, 5*time.Second, 0
	c, err := Dial(t.Context(), cfg, offer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// What the client tells the server is what the handler sees, and the handler's
// verdict comes back as it was.
func TestClientToServer(t *testing.T) {
	h := &fakeHandler{at: map[mail.Stage]mail.Verdict{mail.StageMessage: {Edits: []mail.Edit{
		mail.InsertHeader{At: 0, Field: mail.NewField("X-Top", "1")},
		mail.InsertHeader{At: 2, Field: mail.NewField("X-End", "2")},
		mail.ChangeHeader{At: 1, Field: mail.NewField("Subject", "new")},
		mail.ReplaceBody{Body: bytes.NewReader(bytes.Repeat([]byte("b"), 100_000)), Size: 100_000},
	}}}}
	c := clientFor(t, "unix:"+start(t, h, nil), full)
	ctx := t.Context()
	m, err := mail.ReadMessage(strings.NewReader("From: a@b\r\nSubject:  old\r\n\tfolded\r\n\r\nbody\r\n"), 43)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		steps := []func() (Answer, error){
			func() (Answer, error) { return c.Mail(ctx, wire.Envelope{Address: "<a@b>", Args: []string{"SIZE=1"}}) },
			func() (Answer, error) { return c.Rcpt(ctx, wire.Envelope{Address: "<c@d.example>"}) },
			func() (Answer, error) { return c.Data(ctx) },
			func() (Answer, error) { return c.Field(ctx, m.Header[0]) },
			func() (Answer, error) { return c.Field(ctx, m.Header[1]) },
			func() (Answer, error) { return c.EndOfHeader(ctx) },
			func() (Answer, error) { return c.Body(ctx, m.Body()) },
		}
		if i == 0 {
			c.Macros(wire.Macros{For: 'C', Values: []wire.Macro{{Name: "v", Value: "Postfix 3.7"}}})
			steps = append([]func() (Answer, error){
				func() (Answer, error) {
					return c.Connect(ctx, wire.Connect{Host: "h.example", Family: '4', Port: 1, Address: "192.0.2.1"})
				},
				func() (Answer, error) { return c.Helo(ctx, "helo.example") },
			}, steps...)
		}
		for i, step := range steps {
			if a, err := step(); err != nil || a.Code != milter.ActContinue {
				t.Fatalf("step %d: %q, %v", i, a.Code, err)
			}
		}
		edits, a, err := c.End(ctx)
		if err != nil || a.Code != milter.ActContinue {
			t.Fatalf("end: %q, %v", a.Code, err)
		}
		var got []string
		body := 0
		for _, e := range edits {
			switch {
			case e.Code == 'b':
				body += len(e.Body)
				continue
			case e.Header.Name == "X-Gatepost-ID":
				continue
			}
			got = append(got, string(e.Code)+e.Header.Name+"="+e.Header.Value)
		}
		if want := "mSubject= new,hX-End= 2,iX-Top= 1"; strings.Join(got, ",") != want || body != 100_000 {
			t.Errorf("edits %q and %d bytes of body, want %q", got, body, want)
		}
		if want := "From: a@b\r\nSubject:  old\r\n\tfolded\r\n\r\nbody\r\n"; h.content(i) != want {
			t.Errorf("content = %q, want %q", h.content(i), want)
		}
		if err := c.Abort(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// child plays a scripted milter: it negotiates and gives the answers, each to
// one command, whatever that is.
func child(t *testing.T, negotiation []byte, answers ...[]byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		in := wire.Reader{R: c}
		for _, a := range append([][]byte{negotiation}, answers...) {
			p, err := in.Next()
			for err == nil && p.Code == byte(milter.CodeMacro) {
				p, err = in.Next()
			}
			if err != nil {
				return
			}
			if _, err := c.Write(a); err != nil {
				return
			}
		}
		for { // until the client goes
			if _, err := in.Next(); err != nil {
				return
			}
		}
	}()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	return "inet:" + port + "@" + host
}

func TestClientRefusesNegotiation(t *testing.T) {
	for name, n := range map[string][]byte{
		"version 7":              wire.Negotiation{Version: 7}.Append(nil),
		"version 1":              wire.Negotiation{Version: 1}.Append(nil),
		"actions not offered":    wire.Negotiation{Version: 6, Actions: 0x8000}.Append(nil),
		"protocol not offered":   wire.Negotiation{Version: 6, Protocol: 0x40000000}.Append(nil),
		"no negotiation":         wire.Append(nil, 'c'),
		"cut":                    wire.Append(nil, 'O', []byte{0}),
		"length 0":               {0, 0, 0, 0},
		"closes without a word":  {},
		"4 GB":                   {0xff, 0xff, 0xff, 0xff},
		"half a packet and then": {0, 0, 0, 13, 'O'},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultClientConfig()
			cfg.Socket, cfg.CommandTimeout = child(t, n), 300*time.Millisecond
			if c, err := Dial(t.Context(), cfg, full); err == nil {
				c.Close()
				t.Error("taken for a milter")
			}
		})
	}
}

func TestClientRefusesAnswers(t *testing.T) {
	agreed := wire.Negotiation{Version: 6, Actions: milter.OptAddHeader}.Append(nil)
	header := wire.Header{Name: "A", Value: "b"}
	for name, answer := range map[string][]byte{
		"reply 250":                  wire.AppendText(nil, 'y', "250 ok"),
		"reply -50":                  wire.AppendText(nil, 'y', "-50 x"),
		"reply without text":         wire.Append(nil, 'y'),
		"reply of two codes":         wire.AppendText(nil, 'y', "550-a\r\n450 b"),
		"continue with data":         wire.Append(nil, 'c', []byte("x")),
		"skip not negotiated":        wire.Append(nil, 's'),
		"unknown code":               wire.Append(nil, 'Z'),
		"change not negotiated":      header.AppendIndexed(nil, 'm'),
		"name with a line end":       append(wire.Append(nil, 'h', []byte("A\nB\x00c\x00")), wire.Append(nil, 'c')...),
		"header with three strings":  wire.Append(nil, 'h', []byte("A\x00b\x00c\x00")),
		"quits inside a packet":      {0, 0, 0, 9, 'h', 'A'},
		"changes without end":        bytes.Repeat(header.Append(nil, 'h'), 2000),
		"more than it may change":    append(wire.Append(nil, 'h', append([]byte("A\x00"), append(bytes.Repeat([]byte("x"), 600_000), 0)...)), wire.Append(nil, 'c')...),
		"another answer to nothing ": append(wire.Append(nil, 'c'), wire.Append(nil, 'c')...),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultClientConfig()
			cfg.Socket, cfg.CommandTimeout, cfg.MaxEditBytes = child(t, agreed, answer), 300*time.Millisecond, 500_000
			c, err := Dial(t.Context(), cfg, full)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, a, err := c.End(t.Context())
			if err == nil { // the surplus answer is seen before the next question
				_, err = c.Mail(t.Context(), wire.Envelope{Address: "<>"})
			}
			if err == nil {
				t.Errorf("accepted, answer %+v", a)
			}
		})
	}
}

func TestClientProgressIsBounded(t *testing.T) {
	progress := bytes.Repeat(wire.Append(nil, 'p'), 1000)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	cfg := DefaultClientConfig()
	cfg.Socket = child(t, wire.Negotiation{Version: 6}.Append(nil), progress)
	c, err := Dial(ctx, cfg, full)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.End(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want the deadline of the caller", err)
	}
}

func TestParseReplyCode(t *testing.T) {
	for in, want := range map[string]mail.Reply{
		"550 5.7.1 100%% no":         {Code: 550, Detail: "7.1", Text: "100% no"},
		"550 50% off":                {Code: 550, Text: "50 off"},
		"421 bye":                    {Code: 421, Text: "bye"},
		"550-5.7.1 a\r\n550 5.7.1 b": {Code: 550, Detail: "7.1", Text: "a\nb"},
	} {
		if got, err := parseReplyCode(in); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", in, got, err, want)
		}
	}
}

// ---- independent peers

// theirs is a milter on go-milter's server.
type theirs struct {
	milter.NoOpMilter
	seen *bytes.Buffer
}

func (m theirs) RcptTo(rcpt string, _ *milter.Modifier) (milter.Response, error) {
	m.seen.WriteString("rcpt " + rcpt + "; ")
	return milter.RespContinue, nil
}

func (m theirs) Headers(h textproto.MIMEHeader, _ *milter.Modifier) (milter.Response, error) {
	m.seen.WriteString("subject " + h.Get("Subject") + "; ")
	return milter.RespContinue, nil
}

func (m theirs) BodyChunk(chunk []byte, _ *milter.Modifier) (milter.Response, error) {
	m.seen.Write(chunk)
	return milter.RespContinue, nil
}

func (m theirs) Body(mod *milter.Modifier) (milter.Response, error) {
	if err := errors.Join(mod.AddHeader("X-Theirs", "1"), mod.InsertHeader(0, "X-Top", "2"), mod.ChangeHeader(1, "Subject", "new"), mod.Quarantine("odd")); err != nil {
		return nil, err
	}
	return milter.NewResponseStr('y', "550 5.7.1 no"), nil
}

func TestClientWithGoMilterServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen := &bytes.Buffer{}
	s := &milter.Server{NewMilter: func() milter.Milter { return theirs{seen: seen} }, Actions: milter.OptAddHeader | milter.OptChangeHeader | milter.OptQuarantine}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	host, port, _ := net.SplitHostPort(l.Addr().String())
	// Its answer is version 2 whatever is offered, with bits of version 6 (M-5).
	c := clientFor(t, "inet:"+port+"@"+host, full)
	ctx := t.Context()
	m, err := mail.ReadMessage(strings.NewReader("Subject: old\r\n\r\nthe body"), 24)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() (Answer, error){
		func() (Answer, error) {
			return c.Connect(ctx, wire.Connect{Host: "h", Family: '4', Port: 1, Address: "192.0.2.1"})
		},
		func() (Answer, error) { return c.Helo(ctx, "h") },
		func() (Answer, error) { return c.Mail(ctx, wire.Envelope{Address: "<a@b>"}) },
		func() (Answer, error) { return c.Rcpt(ctx, wire.Envelope{Address: "<c@d>"}) },
		func() (Answer, error) { return c.Field(ctx, m.Header[0]) },
		func() (Answer, error) { return c.EndOfHeader(ctx) },
		func() (Answer, error) { return c.Body(ctx, m.Body()) },
	} {
		if a, err := step(); err != nil || a.Code != milter.ActContinue {
			t.Fatalf("%q, %v", a.Code, err)
		}
	}
	edits, a, err := c.End(ctx)
	if err != nil || a.Code != milter.ActReplyCode || a.Reply.String() != "550 5.7.1 no" || len(edits) != 4 {
		t.Fatalf("%d edits, %+v, %v", len(edits), a, err)
	}
	if want := "rcpt c@d; subject old; the body"; seen.String() != want {
		t.Errorf("it saw %q, want %q", seen, want)
	}
}

func TestServerWithGoMilterClient(t *testing.T) {
	h := &fakeHandler{at: map[mail.Stage]mail.Verdict{mail.StageMessage: {Edits: []mail.Edit{mail.InsertHeader{At: 0, Field: mail.NewField("X-A", "1")}}}},
		rcpt: func(p mail.Path) mail.Verdict {
			if p.Local == "no" {
				return mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "1.1", Text: "nobody"}}
			}
			return mail.Verdict{}
		}}
	// Neither bits that spare answers nor exact blanks: a plain client.
	s, err := milter.NewDefaultClient("unix", start(t, h, nil)).Session()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	check := func(what string, a *milter.Action, err error, want milter.ActionCode) {
		t.Helper()
		if err != nil || a.Code != want {
			t.Fatalf("%s: %+v, %v", what, a, err)
		}
	}
	a, err := s.Conn("h.example", milter.FamilyInet, 25, "192.0.2.1")
	check("CONNECT", a, err, milter.ActContinue)
	a, err = s.Helo("helo")
	check("HELO", a, err, milter.ActContinue)
	for range 2 {
		a, err = s.Mail("a@b", nil)
		check("MAIL", a, err, milter.ActContinue)
		a, err = s.Rcpt("no@d", nil)
		check("RCPT", a, err, milter.ActReplyCode)
		a, err = s.Rcpt("c@d", nil)
		check("RCPT", a, err, milter.ActContinue)
		a, err = s.HeaderField("Subject", "old")
		check("HEADER", a, err, milter.ActContinue)
		a, err = s.HeaderEnd()
		check("EOH", a, err, milter.ActContinue)
		mods, a, err := s.BodyReadFrom(strings.NewReader("the body"))
		check("EOM", a, err, milter.ActContinue)
		if len(mods) != 2 || mods[0].HeaderName != "X-A" || mods[1].HeaderName != "X-Gatepost-ID" {
			t.Errorf("changes: %+v", mods)
		}
	}
	if want := "Subject: old\r\n\r\nthe body"; h.content(1) != want {
		t.Errorf("second message = %q, want %q", h.content(1), want)
	}
}
