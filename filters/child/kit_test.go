package child_test

import (
	"bytes"
	"cmp"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/child"
	"gatepost/internal/mail"
	"gatepost/milter/wire"

	gomilter "github.com/emersion/go-milter"
)

// script is a milter that answers by a script, over a real socket. An event is
// the command with its text: "C mx.example.org 4 192.0.2.1:25", "R <a@b> ARG",
// "L Subject= hi", "B 12", "E". What isn't scripted is "continue".
type script struct {
	t      *testing.T
	socket string
	neg    wire.Negotiation
	ln     net.Listener
	conns  sync.WaitGroup

	mu      sync.Mutex
	answer  func(event string) []byte
	seen    []string // events
	macros  []string // "C j=mx"
	body    []byte
	dialled int
	open    map[net.Conn]bool
}

// hang never answers, until the other side goes.
var hang = []byte("hang")

// asleep doesn't even read any more, until the test ends.
var asleep = []byte("asleep")

// closing closes the connection in place of an answer.
var closing = []byte("close")

var (
	cont     = wire.Append(nil, 'c')
	accept   = wire.Append(nil, 'a')
	reject   = wire.Append(nil, 'r')
	tempfail = wire.Append(nil, 't')
	discard  = wire.Append(nil, 'd')
)

func reply(text string) []byte { return wire.AppendText(nil, 'y', text) }

func insert(at uint32, name, value string) []byte {
	return wire.Header{Index: at, Name: name, Value: value}.AppendIndexed(nil, 'i')
}

func add(name, value string) []byte { return wire.Header{Name: name, Value: value}.Append(nil, 'h') }

func change(n uint32, name, value string) []byte {
	return wire.Header{Index: n, Name: name, Value: value}.AppendIndexed(nil, 'm')
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// at answers one event, or all that begin with it and a blank.
func at(event string, answer []byte) func(string) []byte {
	return func(e string) []byte {
		if e == event || strings.HasPrefix(e, event+" ") {
			return answer
		}
		return nil
	}
}

// newScript starts a milter.
func newScript(t *testing.T, answer func(string) []byte) *script {
	t.Helper()
	s := &script{
		t: t, answer: answer, open: map[net.Conn]bool{},
		neg: wire.Negotiation{Version: 6, Actions: wire.AllActions, Protocol: gomilter.OptSkip | gomilter.OptHeaderLeadingSpace},
	}
	path := filepath.Join(t.TempDir(), "m.sock")
	var err error
	if s.ln, err = net.Listen("unix", path); err != nil {
		t.Fatal(err)
	}
	s.socket = "unix:" + path
	s.conns.Go(s.accept)
	t.Cleanup(s.stop)
	return s
}

// stop closes the socket and every connection.
func (s *script) stop() {
	s.ln.Close()
	s.mu.Lock()
	for c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	s.conns.Wait()
}

func (s *script) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.dialled++
		s.open[c] = true
		s.mu.Unlock()
		s.conns.Go(func() { s.serve(c) })
	}
}

func (s *script) serve(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
	}()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	in := wire.Reader{R: c}
	for {
		p, err := in.Next()
		if err != nil {
			return
		}
		out := s.handle(p)
		switch {
		case bytes.Equal(out, closing):
			return
		case bytes.Equal(out, asleep):
			<-s.t.Context().Done()
			return
		case bytes.Equal(out, hang):
			_, _ = io.Copy(io.Discard, c)
			return
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// handle notes a packet and returns the answer.
func (s *script) handle(p wire.Packet) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	event := string(p.Code)
	switch p.Code {
	case 'O':
		offer, _ := wire.DecodeNegotiation(p.Data)
		neg := s.neg
		neg.Actions &= offer.Actions
		neg.Protocol &^= gomilter.OptHeaderLeadingSpace &^ offer.Protocol
		return neg.Append(nil)
	case 'D':
		m, _ := wire.DecodeMacros(p.Data)
		for _, v := range m.Values {
			s.macros = append(s.macros, string(m.For)+" "+v.Name+"="+v.Value)
		}
		return nil
	case 'C':
		c, _ := wire.DecodeConnect(p.Data)
		event += " " + c.Host + " " + string(c.Family) + " " + net.JoinHostPort(c.Address, strconv.Itoa(int(c.Port)))
	case 'H', 'U':
		text, _ := wire.DecodeText(p.Data)
		event += " " + text
	case 'M', 'R':
		e, _ := wire.DecodeEnvelope(p.Data)
		event += " " + strings.Join(append([]string{e.Address}, e.Args...), " ")
	case 'L':
		h, _ := wire.DecodeHeader(p.Data)
		event += " " + h.Name + "=" + h.Value
	case 'B':
		s.body = append(s.body, p.Data...)
		event += " " + strconv.Itoa(len(p.Data))
	}
	s.seen = append(s.seen, event)
	if s.answer != nil {
		if out := s.answer(event); out != nil {
			return out
		}
	}
	if strings.ContainsRune("AKQ", rune(p.Code)) {
		return nil
	}
	return cont
}

// does changes the script.
func (s *script) does(answer func(string) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// log returns the events whose command is one of codes.
func (s *script) log(codes string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, e := range s.seen {
		if strings.Contains(codes, e[:1]) {
			out = append(out, e)
		}
	}
	return strings.Join(out, "; ")
}

func (s *script) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.macros, s.body = nil, nil, nil
}

func (s *script) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialled
}

// eventually waits for a condition that a goroutine of the other side brings.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("never: %s", what) // also of other goroutines
			return
		}
	}
}

// config is one that gives up soon.
func (s *script) config() child.Config { return configFor(s.socket) }

func configFor(socket string) child.Config {
	c := child.DefaultConfig()
	c.Address, c.Timeout, c.ConnectTimeout = socket, 10*time.Second, 5*time.Second
	c.Hostname, c.Version = "gw.example.org", "1.0"
	return c
}

// policy accepts all, and rejects from a score of 10 on.
type policy struct {
	refuse func(tx *mail.Transaction) mail.Verdict
}

func (p policy) Decide(tx *mail.Transaction, _ *mail.Path) mail.Verdict {
	if p.refuse != nil {
		if v := p.refuse(tx); v.Action != mail.Continue {
			return v
		}
	}
	if tx.Stage == mail.StageMessage && tx.Score() >= 10 {
		return mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "7.1", Text: "spam"}}
	}
	return mail.Verdict{Action: mail.Accept}
}

func (policy) Settled(*mail.Transaction, []mail.Finding) bool { return false }

// lines collects what is logged.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// named is a child in its place.
type named struct {
	name string
	cfg  child.Config
}

// multiplexer puts children behind each other.
func multiplexer(t *testing.T, children ...named) (*filters.Multiplexer, *lines) {
	t.Helper()
	return multiplexerWith(t, policy{}, children...)
}

func multiplexerWith(t *testing.T, p filters.Policy, children ...named) (*filters.Multiplexer, *lines) {
	t.Helper()
	var steps []filters.Step
	for _, c := range children {
		f, err := child.New(c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		s := f.Step()
		s.Name = c.name
		steps = append(steps, s)
	}
	log := &lines{}
	m, err := filters.New(filters.Config{Hostname: "gw.example.org"}, steps, p, nil, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return m, log
}

// smtp is one SMTP session with the proxy in front of the multiplexer.
type smtp struct {
	t    *testing.T
	h    mail.Handler
	tx   *mail.Transaction
	base mail.Session
	id   string // of the messages; "": T1, T2, …
	n    int
}

func session(t *testing.T, m *filters.Multiplexer) *smtp {
	t.Helper()
	s := &smtp{t: t, h: m.Handler(), base: mail.Session{
		ID: "S1", Listener: "mx", Via: mail.ViaSMTP, Client: netip.MustParseAddrPort("192.0.2.1:4025"), Name: "client.example.net",
		Helo: "helo.example.net", ESMTP: true, Start: time.Now(),
	}}
	s.tx = &mail.Transaction{Session: &s.base}
	t.Cleanup(s.h.Close)
	return s
}

func path(address string) mail.Path {
	text, args, _ := strings.Cut(address, " ")
	a, err := mail.ParseAddress(text, true)
	if err != nil {
		panic(err)
	}
	return mail.Path{Address: a, Args: strings.Fields(args)}
}

// greet is CONNECT and HELO.
func (s *smtp) greet() mail.Verdict {
	s.tx.Stage = mail.StageConnect
	if v := s.h.Connect(s.t.Context(), s.tx); v.Action >= mail.TempFail {
		return v
	}
	s.tx.Stage = mail.StageHelo
	return s.h.Helo(s.t.Context(), s.tx)
}

func (s *smtp) mail(from string) mail.Verdict {
	s.n++
	s.tx = &mail.Transaction{ID: cmp.Or(s.id, "T"+strconv.Itoa(s.n)), Stage: mail.StageMail, Session: &s.base, Envelope: mail.Envelope{Sender: path(from)}}
	v := s.h.Mail(s.t.Context(), s.tx)
	if v.Action >= mail.TempFail {
		s.h.Abort(s.tx)
	}
	return v
}

func (s *smtp) rcpt(to string) mail.Verdict {
	s.tx.Stage = mail.StageRcpt
	r := path(to)
	v := s.h.Rcpt(s.t.Context(), s.tx, r)
	if v.Action < mail.TempFail {
		s.tx.Envelope.Recipients = append(s.tx.Envelope.Recipients, r)
	}
	return v
}

// data is DATA and the message: our Received on top, then text.
func (s *smtp) data(text string) mail.Verdict {
	s.tx.Stage = mail.StageData
	if v := s.h.Data(s.t.Context(), s.tx); v.Action >= mail.TempFail {
		s.h.Abort(s.tx)
		return v
	}
	text = strings.ReplaceAll(text, "\n", "\r\n")
	if s.base.Via == mail.ViaSMTP {
		text = "Received: ours\r\n" + text // a message with the ID "ours" is named in it
	}
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.tx.Stage, s.tx.Message = mail.StageMessage, m
	return s.h.Message(s.t.Context(), s.tx)
}

const plain = "From: a@example.net\nSubject: hi\n\nbody\n"

// send is one message to one recipient.
func (s *smtp) send(text string) mail.Verdict {
	s.t.Helper()
	if v := s.mail("a@example.net"); v.Action >= mail.TempFail {
		return v
	}
	if v := s.rcpt("r@example.com"); v.Action >= mail.TempFail {
		return v
	}
	return s.data(text)
}

// outcome is what goes on after a verdict.
func (s *smtp) outcome(v mail.Verdict) string {
	s.t.Helper()
	_, m := mail.Apply(s.tx.Envelope, s.tx.Message, v.Edits)
	b, err := io.ReadAll(m.Reader())
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

func (s *smtp) found() string {
	var out []string
	for _, f := range s.tx.Findings {
		out = append(out, f.Filter+"/"+f.Name+"="+f.Value)
	}
	return strings.Join(out, "; ")
}

func want(t *testing.T, what string, got mail.Verdict, action mail.Action, reply string) {
	t.Helper()
	if got.Action != action || got.Reply.String() != reply && !(reply == "" && got.Reply.IsZero()) {
		t.Errorf("%s: %s %q (%s), want %s %q", what, got.Action, got.Reply, got.Reason, action, reply)
	}
}

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
