package milter

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

// fakeHandler answers what its fields say and remembers what it saw.
type fakeHandler struct {
	mu       sync.Mutex
	at       map[mail.Stage]mail.Verdict
	mailFrom func(mail.Path) mail.Verdict
	rcpt     func(mail.Path) mail.Verdict
	message  func(*mail.Transaction) mail.Verdict
	seen     []string
	contents []string
}

func (h *fakeHandler) note(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, s)
}

func (h *fakeHandler) log() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.seen, "; ")
}

func (h *fakeHandler) content(i int) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.contents[i]
}

func (h *fakeHandler) Connect(_ context.Context, tx *mail.Transaction) mail.Verdict {
	h.note("connect " + clientOf(tx.Session))
	return h.at[mail.StageConnect]
}
func (h *fakeHandler) Helo(_ context.Context, tx *mail.Transaction) mail.Verdict {
	h.note("helo " + tx.Session.Helo)
	return h.at[mail.StageHelo]
}
func (h *fakeHandler) Mail(_ context.Context, tx *mail.Transaction) mail.Verdict {
	h.note("mail " + tx.Envelope.Sender.Path() + " " + strings.Join(tx.Envelope.Sender.Args, " "))
	if h.mailFrom != nil {
		return h.mailFrom(tx.Envelope.Sender)
	}
	return h.at[mail.StageMail]
}
func (h *fakeHandler) Rcpt(_ context.Context, tx *mail.Transaction, p mail.Path) mail.Verdict {
	h.note("rcpt " + p.Path())
	if h.rcpt != nil {
		return h.rcpt(p)
	}
	return h.at[mail.StageRcpt]
}
func (h *fakeHandler) Data(context.Context, *mail.Transaction) mail.Verdict { return mail.Verdict{} }
func (h *fakeHandler) Message(_ context.Context, tx *mail.Transaction) mail.Verdict {
	b, err := io.ReadAll(tx.Message.Reader())
	h.mu.Lock()
	h.contents = append(h.contents, string(b))
	h.mu.Unlock()
	if err != nil {
		h.note(err.Error())
	}
	if h.message != nil {
		return h.message(tx)
	}
	return h.at[mail.StageMessage]
}
func (h *fakeHandler) Abort(*mail.Transaction) { h.note("abort") }
func (h *fakeHandler) Close()                  { h.note("close") }

// memory is a draft that counts itself.
type memory struct {
	bytes.Buffer
	open *sync.WaitGroup
	once sync.Once
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.Bytes()).ReadAt(p, off)
}
func (m *memory) Size() int64 { return int64(m.Len()) }
func (m *memory) Discard()    { m.once.Do(m.open.Done) }

// start runs a server for h until the test ends, and sees that no draft is left
// behind.
func start(t *testing.T, h *fakeHandler, change func(*Config, *Deps)) string {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Name, cfg.Socket = "main", "unix:"+filepath.Join(t.TempDir(), "m.sock")
	var drafts sync.WaitGroup
	deps := Deps{
		NewHandler: func() mail.Handler { return h },
		NewDraft:   func(string) Draft { drafts.Add(1); return &memory{open: &drafts} },
		Log:        slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg, &deps)
	}
	s, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		drafts.Wait() // hangs when one was leaked
	})
	return strings.TrimPrefix(cfg.Socket, "unix:")
}

// mta is a scripted MTA.
type mta struct {
	t   *testing.T
	c   net.Conn
	in  wire.Reader
	neg wire.Negotiation
}

func dial(t *testing.T, path string, offer wire.Negotiation) *mta {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	m := &mta{t: t, c: c, in: wire.Reader{R: c}}
	m.send(offer.Append(nil))
	p := m.read()
	if p.Code != 'O' {
		t.Fatalf("answer to the negotiation: %q", p.Code)
	}
	if m.neg, err = wire.DecodeNegotiation(p.Data); err != nil {
		t.Fatal(err)
	}
	return m
}

// full is what sendmail and Postfix offer, less the bits that spare answers: so
// that each stage is answered.
var full = wire.Negotiation{Version: 6, Actions: wire.AllActions, Protocol: wire.AllProtocol}

func (m *mta) send(b []byte) {
	m.t.Helper()
	if _, err := m.c.Write(b); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mta) read() wire.Packet {
	m.t.Helper()
	p, err := m.in.Next()
	if err != nil {
		m.t.Fatalf("read: %v", err)
	}
	return wire.Packet{Code: p.Code, Data: bytes.Clone(p.Data)}
}

// ask sends a command and returns the answer as text: "c", "y550 …".
func (m *mta) ask(b []byte) string {
	m.t.Helper()
	m.send(b)
	p := m.read()
	return string(p.Code) + strings.TrimSuffix(string(p.Data), "\x00")
}

func (m *mta) hello() {
	m.t.Helper()
	m.ask(wire.Connect{Host: "h.example", Family: '4', Port: 2525, Address: "192.0.2.9"}.Append(nil))
	m.ask(wire.AppendText(nil, 'H', "helo.example"))
}

// content sends a message's content and returns the answers to its end.
func (m *mta) content(fields [][2]string, body string) []string {
	m.t.Helper()
	for _, f := range fields {
		m.send(wire.Header{Name: f[0], Value: f[1]}.Append(nil, 'L'))
	}
	m.send(wire.Append(nil, 'N'))
	m.send(wire.Append(nil, 'B', []byte(body)))
	m.send(wire.Append(nil, 'E'))
	var out []string
	for {
		p := m.read()
		if bytes.Contains(p.Data, []byte("X-Gatepost-ID")) {
			continue // on every message that passes
		}
		out = append(out, string(p.Code)+strings.ReplaceAll(string(p.Data), "\x00", "|"))
		if strings.IndexByte("cartdy", p.Code) >= 0 {
			return out
		}
	}
}

func envelope(code byte, address string, args ...string) []byte {
	return wire.Envelope{Address: address, Args: args}.Append(nil, code)
}

var plain = [][2]string{{"From", " s@sender.test"}, {"Subject", "  two blanks\n folded"}}

func TestSession(t *testing.T) {
	h := &fakeHandler{}
	path := start(t, h, nil)
	m := dial(t, path, full)
	m.send(wire.Macros{For: 'C', Values: []wire.Macro{{Name: "v", Value: "Postfix 3.7.11"}}}.Append(nil))
	m.hello()
	for i := range 2 {
		if got := m.ask(envelope('M', "<a@example.org>", "SIZE=123", "BODY=8BITMIME")); got != "c" {
			t.Fatalf("MAIL %d: %q", i, got)
		}
		if got := m.ask(envelope('R', "<b@example.com>")); got != "c" {
			t.Fatalf("RCPT %d: %q", i, got)
		}
		if got := m.content(plain, "hello\r\n"); len(got) != 1 || got[0] != "c" {
			t.Fatalf("end %d: %q", i, got)
		}
	}
	want := "connect h.example[192.0.2.9]; helo helo.example; mail <a@example.org> SIZE=123 BODY=8BITMIME; rcpt <b@example.com>; mail <a@example.org> SIZE=123 BODY=8BITMIME; rcpt <b@example.com>"
	if got := h.log(); got != want {
		t.Errorf("handler saw\n%s\nwant\n%s", got, want)
	}
	const content = "From: s@sender.test\r\nSubject:  two blanks\r\n folded\r\n\r\nhello\r\n"
	for i := range 2 {
		if got := h.content(i); got != content {
			t.Errorf("message %d = %q, want %q", i, got, content)
		}
	}
}

func TestWithoutLeadingSpace(t *testing.T) {
	h := &fakeHandler{}
	m := dial(t, start(t, h, nil), wire.Negotiation{Version: 6, Actions: wire.AllActions, Protocol: wire.AllProtocol &^ milter.OptHeaderLeadingSpace})
	m.hello()
	m.ask(envelope('M', "<>"))
	m.ask(envelope('R', "<b@example.com>"))
	m.content([][2]string{{"A", "1"}, {"B", ""}}, "")
	if got, want := h.content(0), "A: 1\r\nB: \r\n\r\n"; got != want {
		t.Errorf("content = %q, want %q", got, want)
	}
}

// An MTA of version 2 offers no bit that spares an answer, and gets them all.
func TestOldMTA(t *testing.T) {
	h := &fakeHandler{}
	m := dial(t, start(t, h, nil), wire.Negotiation{Version: 2, Actions: 0x3f, Protocol: 0x7f})
	if m.neg.Version != 2 || m.neg.Actions&^0x3f != 0 || m.neg.Protocol&^0x7f != 0 {
		t.Fatalf("answer goes beyond the offer: %+v", m.neg)
	}
	m.hello()
	for _, packet := range [][]byte{envelope('M', "<a@b.example>"), envelope('R', "<b@example.com>"), wire.Header{Name: "A", Value: "1"}.Append(nil, 'L'), wire.Append(nil, 'N'), wire.Append(nil, 'B', []byte("x")), wire.Append(nil, 'E', []byte("last"))} {
		got := m.ask(packet)
		if strings.Contains(got, "X-Gatepost-ID") {
			p := m.read()
			got = string(p.Code)
		}
		if got != "c" {
			t.Fatalf("%q: %q", packet[4], got)
		}
	}
	if got := h.content(0); got != "A: 1\r\n\r\nxlast" {
		t.Errorf("content = %q", got)
	}
}

// Where nobody decides, the MTA doesn't wait.
func TestNegotiatesNoReplies(t *testing.T) {
	m := dial(t, start(t, &fakeHandler{}, func(_ *Config, d *Deps) { d.Decides = func() []mail.Stage { return []mail.Stage{mail.StageRcpt} } }), full)
	want := milter.OptNoConnReply | milter.OptNoHeloReply | milter.OptNoMailReply | milter.OptNoHeaderReply | milter.OptNoEOHReply | milter.OptNoBodyReply
	if m.neg.Protocol&want != want || m.neg.Protocol&milter.OptNoRcptReply != 0 {
		t.Errorf("protocol = %x", m.neg.Protocol)
	}
	m.send(wire.Connect{Host: "h", Family: 'U'}.Append(nil))
	m.send(wire.AppendText(nil, 'H', "x"))
	m.send(envelope('M', "<a@b.example>"))
	if got := m.ask(envelope('R', "<b@example.com>")); got != "c" {
		t.Errorf("RCPT: %q", got)
	}
}

func TestEnvelopeVerdicts(t *testing.T) {
	reject := mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "7.1", Text: "100% no\nreally"}}
	h := &fakeHandler{rcpt: func(p mail.Path) mail.Verdict {
		switch p.Local {
		case "no":
			return reject
		case "later":
			return mail.Verdict{Action: mail.TempFail}
		}
		return mail.Verdict{}
	}}
	m := dial(t, start(t, h, nil), full)
	m.hello()
	m.ask(envelope('M', "<a@b.example>"))
	for _, tt := range []struct{ rcpt, want string }{
		{"<no@example.com>", "y550-5.7.1 100%% no\r\n550 5.7.1 really"},
		{"<later@example.com>", "t"},
		{"<\"x y\"@example.com>", "y553 5.1.3 recipient address not understood"},
		{"<yes@example.com>", "c"},
	} {
		if got := m.ask(envelope('R', tt.rcpt)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.rcpt, got, tt.want)
		}
	}
	if got := m.content(plain, "x"); got[len(got)-1] != "c" {
		t.Errorf("end: %q", got)
	}
}

// A quarantine decided at MAIL is said at the end of that message, and not of
// the next.
func TestQuarantineFromTheEnvelope(t *testing.T) {
	odd := mail.Verdict{Action: mail.Quarantine, Reason: "odd sender"}
	h := &fakeHandler{mailFrom: func(p mail.Path) mail.Verdict {
		if p.Local == "odd" {
			return odd
		}
		return mail.Verdict{}
	}}
	m := dial(t, start(t, h, nil), full)
	m.hello()
	for i, want := range []string{"qodd sender|,c", "c"} {
		m.ask(envelope('M', []string{"<odd@b.example>", "<a@b.example>"}[i]))
		m.ask(envelope('R', "<b@example.com>"))
		if got := strings.Join(m.content(plain, "x"), ","); got != want {
			t.Errorf("message %d: %q, want %q", i, got, want)
		}
	}
}

func TestMessageVerdicts(t *testing.T) {
	tests := []struct {
		name    string
		verdict mail.Verdict
		want    string
	}{
		{"accept", mail.Verdict{Action: mail.Accept}, "c"},
		{"reject", mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 554, Detail: "7.1", Text: "virus"}}, "y554 5.7.1 virus|"},
		{"reject without words", mail.Verdict{Action: mail.Reject}, "r"},
		{"tempfail", mail.Verdict{Action: mail.TempFail}, "t"},
		{"discard", mail.Verdict{Action: mail.Discard}, "d"},
		{"quarantine", mail.Verdict{Action: mail.Quarantine, Reason: "a\r\nb"}, "qa  b|,c"},
		{"one recipient dropped", mail.Verdict{Recipients: []mail.Verdict{{}, {Action: mail.Discard}}}, "-<c@example.com>|,c"},
		{"one held holds all", mail.Verdict{Recipients: []mail.Verdict{{}, {Action: mail.Quarantine, Reason: "spam"}}}, "qspam|,c"},
		{"all dropped", mail.Verdict{Recipients: []mail.Verdict{{Action: mail.Discard}, {Action: mail.Discard}}}, "d"},
		{"envelope", mail.Verdict{Edits: []mail.Edit{
			mail.ChangeSender{Sender: mail.Path{}},
			mail.AddRecipient{Recipient: mail.Path{Address: mail.Address{Local: "n", Domain: "x.example"}, Args: []string{"NOTIFY=NEVER"}}},
		}}, "e<>|,2<n@x.example>|NOTIFY=NEVER|,c"},
		{"body", mail.Verdict{Edits: []mail.Edit{mail.ReplaceBody{Body: strings.NewReader("new"), Size: 3}}}, "bnew,c"},
		{"added and taken away again", mail.Verdict{Edits: []mail.Edit{
			mail.DeleteRecipient{Recipient: mail.Address{Local: "c", Domain: "example.com"}},
			mail.AddRecipient{Recipient: mail.Path{Address: mail.Address{Local: "n", Domain: "x.example"}}},
			mail.AddRecipient{Recipient: mail.Path{Address: mail.Address{Local: "c", Domain: "example.com"}}},
			mail.DeleteRecipient{Recipient: mail.Address{Local: "n", Domain: "x.example"}},
			mail.DeleteRecipient{Recipient: mail.Address{Local: "nobody", Domain: "x.example"}},
		}}, "-<c@example.com>|,+<c@example.com>|,c"},
		{"of several bodies the last", mail.Verdict{Edits: []mail.Edit{
			mail.ReplaceBody{Body: strings.NewReader("one"), Size: 3}, mail.ChangeSender{}, mail.ReplaceBody{Body: strings.NewReader("two"), Size: 3},
		}}, "e<>|,btwo,c"},
		{"empty body", mail.Verdict{Edits: []mail.Edit{mail.ReplaceBody{Body: strings.NewReader(""), Size: 0}}}, "b,c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := &fakeHandler{at: map[mail.Stage]mail.Verdict{mail.StageMessage: tt.verdict}}
			m := dial(t, start(t, h, nil), full)
			m.hello()
			m.ask(envelope('M', "<a@b.example>"))
			m.ask(envelope('R', "<b@example.com>"))
			m.ask(envelope('R', "<c@example.com>"))
			if got := strings.Join(m.content(plain, "x"), ","); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// How each MTA is told to insert a field between two others.
func TestInsertionIntoTheMidst(t *testing.T) {
	for _, tt := range []struct {
		name, version string
		without       milter.OptAction
		want          string
	}{
		{"Postfix", "Postfix 3.7.11", 0, "i\x00\x00\x00\x02X| new|,c"},
		{"sendmail puts back what was behind it", "8.17.1", 0, "m\x00\x00\x00\x01Subject||,i@\x00\x00\x00X| new|,i@\x00\x00\x00Subject|  two blanks\n folded|,c"},
		{"one that lets no field be taken away", "8.17.1", milter.OptChangeHeader, "i\x00\x00\x00\x02X| new|,c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			edit := mail.InsertHeader{At: 1, Field: mail.NewField("X", "new")}
			h := &fakeHandler{at: map[mail.Stage]mail.Verdict{mail.StageMessage: {Edits: []mail.Edit{edit}}}}
			offer := full
			offer.Actions &^= tt.without
			m := dial(t, start(t, h, nil), offer)
			m.send(wire.Macros{For: 'C', Values: []wire.Macro{{Name: "v", Value: tt.version}}}.Append(nil))
			m.hello()
			m.ask(envelope('M', "<a@b.example>"))
			m.ask(envelope('R', "<b@example.com>"))
			got := strings.ReplaceAll(strings.Join(m.content(plain, "x"), ","), "|||", "\x00\x00\x00")
			if want := tt.want; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// An MTA that allows neither quarantine nor deletion would deliver what is to be
// held or dropped: it is told to come later.
func TestVerdictThatTheMTACannotDo(t *testing.T) {
	for name, v := range map[string]mail.Verdict{
		"quarantine":            {Action: mail.Quarantine, Reason: "odd"},
		"one recipient dropped": {Recipients: []mail.Verdict{{}, {Action: mail.Discard, Reason: "virus"}}},
		"one recipient held":    {Recipients: []mail.Verdict{{}, {Action: mail.Quarantine, Reason: "spam"}}},
	} {
		t.Run(name, func(t *testing.T) {
			h := &fakeHandler{at: map[mail.Stage]mail.Verdict{mail.StageMessage: v}}
			offer := full
			offer.Actions &^= milter.OptQuarantine | milter.OptRemoveRcpt
			m := dial(t, start(t, h, nil), offer)
			m.hello()
			m.ask(envelope('M', "<a@b.example>"))
			m.ask(envelope('R', "<b@example.com>"))
			m.ask(envelope('R', "<c@example.com>"))
			if got := strings.Join(m.content(plain, "x"), ","); got != "t" {
				t.Errorf("got %q, want a tempfail", got)
			}
		})
	}
}

func TestAddressFamilies(t *testing.T) {
	for _, tt := range []struct{ family, address, want string }{
		{"6", "IPv6:2001:db8::1", "h.example[2001:db8::1]"},
		{"6", "2001:db8:0::1", "h.example[2001:db8::1]"},
		{"6", "::ffff:192.0.2.1", "h.example[192.0.2.1]"},
		{"4", "192.0.2.1", "h.example[192.0.2.1]"},
		{"L", "/run/x", "h.example"},
	} {
		h := &fakeHandler{}
		m := dial(t, start(t, h, nil), full)
		m.ask(wire.Connect{Host: "h.example", Family: tt.family[0], Port: 25, Address: tt.address}.Append(nil))
		if got := h.log(); got != "connect "+tt.want {
			t.Errorf("%s %s: %q, want %q", tt.family, tt.address, got, tt.want)
		}
	}
}

func TestMacrosPerStage(t *testing.T) {
	var got map[string]string
	h := &fakeHandler{message: func(tx *mail.Transaction) mail.Verdict { got = tx.Session.Macros; return mail.Verdict{} }}
	m := dial(t, start(t, h, nil), full)
	macros := func(at byte, v ...wire.Macro) { m.send(wire.Macros{For: milter.Code(at), Values: v}.Append(nil)) }
	macros('C', wire.Macro{Name: "j", Value: "mx.example"}, wire.Macro{Name: "{client_resolve}", Value: "FAIL"})
	m.hello()
	if !strings.Contains(h.log(), "connect unknown[192.0.2.9]") {
		t.Errorf("a name that sendmail could not confirm was believed: %s", h.log())
	}
	for _, id := range []string{"Q1", ""} {
		macros('M', wire.Macro{Name: "{auth_authen}", Value: "joe"})
		m.ask(envelope('M', "<root>"))
		m.ask(envelope('R', "<b@example.com>"))
		if id != "" {
			macros('E', wire.Macro{Name: "i", Value: id})
		}
		m.content(plain, "x")
		if got["j"] != "mx.example" || got["auth_authen"] != "joe" || got["i"] != id {
			t.Errorf("macros = %v, want i=%q", got, id)
		}
	}
	if !strings.Contains(h.log(), "mail <root@mx.example>") {
		t.Errorf("a local user has no domain: %s", h.log())
	}
}

// What an MTA knows of the client's name becomes facts of the session.
func TestClientNames(t *testing.T) {
	type facts struct {
		name, ptr string
		resolve   mail.Resolve
	}
	tests := []struct {
		name, host, resolve, ptr string
		want                     facts
	}{
		{"sendmail, verified", "h.example", "OK", "h.example", facts{"h.example", "h.example", mail.ResolveOK}},
		{"sendmail, forged", "[192.0.2.9]", "FORGED", "x.example", facts{"", "x.example", mail.ResolveForged}},
		{"sendmail, forged, and named all the same", "x.example", "FORGED", "x.example", facts{"", "x.example", mail.ResolveForged}},
		{"sendmail, not now", "[192.0.2.9]", "TEMP", "", facts{"", "", mail.ResolveTemp}},
		{"sendmail, without", "[192.0.2.9]", "FAIL", "[192.0.2.9]", facts{"", "", mail.ResolveFail}},
		{"Postfix, verified", "h.example", "", "h.example", facts{"h.example", "h.example", mail.ResolveOK}},
		{"Postfix, forged", "unknown", "", "x.example", facts{"", "x.example", mail.ResolveForged}},
		{"Postfix, without or not now", "unknown", "", "unknown", facts{}},
		{"a word that is new", "x.example", "PERHAPS", "x.example", facts{"", "x.example", mail.ResolveForged}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got facts
			h := &fakeHandler{message: func(tx *mail.Transaction) mail.Verdict {
				got = facts{tx.Session.Name, tx.Session.PTR, tx.Session.Resolve}
				return mail.Verdict{}
			}}
			m := dial(t, start(t, h, nil), full)
			values := []wire.Macro{{Name: "j", Value: "mx.example"}}
			for name, value := range map[string]string{"{client_resolve}": tt.resolve, "{client_ptr}": tt.ptr} {
				if value != "" {
					values = append(values, wire.Macro{Name: name, Value: value})
				}
			}
			m.send(wire.Macros{For: milter.Code('C'), Values: values}.Append(nil))
			m.ask(wire.Connect{Host: tt.host, Family: wire.FamilyIPv4, Port: 25, Address: "192.0.2.9"}.Append(nil))
			m.ask(envelope('M', "<a@example.com>"))
			m.ask(envelope('R', "<b@example.com>"))
			m.content(plain, "x")
			if got != tt.want {
				t.Errorf("facts %+v, want %+v", got, tt.want)
			}
		})
	}
}

// QUIT_NC begins a new SMTP session over the same connection.
func TestQuitNewConnection(t *testing.T) {
	h := &fakeHandler{}
	m := dial(t, start(t, h, nil), full)
	m.hello()
	m.ask(envelope('M', "<a@b.example>"))
	m.send(wire.Append(nil, 'K'))
	m.ask(wire.Connect{Host: "other.example", Family: '4', Address: "192.0.2.10"}.Append(nil))
	if want := "abort; close; connect other.example[192.0.2.10]"; !strings.HasSuffix(h.log(), want) {
		t.Errorf("saw %q", h.log())
	}
}

func TestProgress(t *testing.T) {
	release := make(chan struct{})
	h := &fakeHandler{message: func(*mail.Transaction) mail.Verdict { <-release; return mail.Verdict{} }}
	m := dial(t, start(t, h, func(c *Config, _ *Deps) { c.Progress = 10 * time.Millisecond }), full)
	m.hello()
	m.ask(envelope('M', "<a@b.example>"))
	m.ask(envelope('R', "<b@example.com>"))
	m.send(wire.Append(nil, 'E'))
	for range 3 {
		if p := m.read(); p.Code != 'p' {
			t.Fatalf("got %q while the handler thinks", p.Code)
		}
	}
	close(release)
	for {
		p := m.read()
		if p.Code == 'c' {
			return
		}
		if p.Code != 'p' && p.Code != 'h' { // the ID comes with the end
			t.Fatalf("got %q", p.Code)
		}
	}
}

func TestTooLarge(t *testing.T) {
	m := dial(t, start(t, &fakeHandler{}, func(c *Config, _ *Deps) { c.MaxSize = 100 }), full)
	m.hello()
	for _, tt := range []struct{ body, want string }{{strings.Repeat("x", 200), "y552 5.3.4 message larger than max_size|"}, {"x", "c"}} {
		m.ask(envelope('M', "<a@b.example>"))
		m.ask(envelope('R', "<b@example.com>"))
		if got := strings.Join(m.content(plain[:1], tt.body), ","); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestPanicIsTempFail(t *testing.T) {
	h := &fakeHandler{message: func(*mail.Transaction) mail.Verdict { panic("boom") }}
	m := dial(t, start(t, h, nil), full)
	m.hello()
	m.ask(envelope('M', "<a@b.example>"))
	m.ask(envelope('R', "<b@example.com>"))
	if got := strings.Join(m.content(plain, "x"), ","); got != "t" {
		t.Errorf("got %q", got)
	}
}

// What makes no sense ends that connection; the next one works.
func TestMalformed(t *testing.T) {
	h := &fakeHandler{}
	path := start(t, h, nil)
	negotiated := string(full.Append(nil))
	connected := negotiated + string(wire.Connect{Host: "h", Family: '4', Address: "192.0.2.1"}.Append(nil))
	for name, in := range map[string]string{
		"length 0":                    "\x00\x00\x00\x00",
		"4 GB":                        "\xff\xff\xff\xff",
		"cut CONNECT before O":        "\x00\x00\x00\x03C\x00\x00",
		"unknown command":             "\x00\x00\x00\x01Z",
		"cut negotiation":             "\x00\x00\x00\x02O\x00",
		"version 1":                   string(wire.Negotiation{Version: 1}.Append(nil)),
		"no CONNECT":                  negotiated + string(envelope('M', "<a@b.example>")),
		"end before MAIL":             connected + string(wire.Append(nil, 'E')),
		"header before MAIL":          connected + string(wire.Header{Name: "A", Value: "b"}.Append(nil, 'L')),
		"header with three strings":   connected + string(envelope('M', "<a@b.example>")) + "\x00\x00\x00\x07LA\x00b\x00c\x00",
		"odd macros":                  connected + "\x00\x00\x00\x04DMi\x00",
		"second CONNECT":              connected + connected[len(negotiated):],
		"bad client address":          negotiated + string(wire.Connect{Host: "h", Family: '4', Address: "nonsense"}.Append(nil)),
		"vanishes inside the message": connected + string(envelope('M', "<a@b.example>")) + string(wire.Header{Name: "A", Value: "b"}.Append(nil, 'L'))[:5],
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = c.Write([]byte(in))
			_ = c.(*net.UnixConn).CloseWrite()
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Fatalf("the connection was not closed: %v", err)
			}
		})
	}
	m := dial(t, path, full)
	m.hello()
	if got := m.ask(envelope('M', "<a@b.example>")); got != "c" {
		t.Errorf("after the malformed ones: %q", got)
	}
}

func TestSocketReplacedSafely(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Socket: "unix:" + filepath.Join(dir, "s"), Mode: "0600"}
	l, err := cfg.listen()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.listen(); err == nil {
		t.Error("a socket in use was taken away from its listener")
	}
	l.Close()
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close() // as after kill -9: the file stays
	l, err = cfg.listen()
	if err != nil {
		t.Fatalf("a stale socket was not replaced: %v", err)
	}
	l.Close()
	if _, err := net.Dial("unix", filepath.Join(dir, "s")); err == nil {
		t.Error("the socket works after Close")
	}
}

func TestParseSocket(t *testing.T) {
	for _, tt := range []struct{ in, network, address string }{
		{"unix:/run/m.sock", "unix", "/run/m.sock"},
		{"local:/run/m.sock", "unix", "/run/m.sock"},
		{"/run/m.sock", "unix", "/run/m.sock"},
		{"inet:8891@127.0.0.1", "tcp4", "127.0.0.1:8891"},
		{"inet:127.0.0.1:8891", "tcp4", "127.0.0.1:8891"},
		{"inet6:8891@[::1]", "tcp6", "[::1]:8891"},
		{"inet6:8891@::1", "tcp6", "[::1]:8891"},
		{"inet6:[::1]:8891", "tcp6", "[::1]:8891"},
		{"unix:relative", "", ""}, {"inet:host", "", ""}, {"inet:99999@h", "", ""}, {"tcp:1@h", "", ""}, {"", "", ""}, {"unix:", "", ""},
	} {
		network, address, err := ParseSocket(tt.in)
		if network != tt.network || address != tt.address || (err == nil) != (tt.network != "") {
			t.Errorf("%q: %q, %q, %v", tt.in, network, address, err)
		}
	}
}
