package forward

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// script is what a peer answers to commands that begin so; the longest fitting
// key counts. Keys of its own: "banner", "dot <sender>" ("dot <rcpt>" over LMTP), "body" (in
// place of reading the message). A reply may end in "!close" (then close),
// "!reset" (with RST), "!hang" (then say nothing more), "!junk" (instead of TLS).
type script map[string]string

// peer is a strict next hop that does otherwise only what its script says.
type peer struct {
	t       testing.TB
	ln      net.Listener
	lmtp    bool
	offers  []string // extensions
	cert    *tls.Certificate
	tls     tls.Config    // besides
	smtps   bool          // TLS from the first byte on
	auth    authenticator // of AUTH
	scripts []script      // for the first connection, the second, …; the last for all others

	mu       sync.Mutex
	dialogs  [][]string // commands, by connection
	messages []received
	partial  [][]byte // data that did not end
	open     map[net.Conn]bool
	closed   bool
	wg       sync.WaitGroup
}

type received struct {
	from  string // as in MAIL, with its arguments
	rcpts []string
	data  string
	tls   bool
}

var allOffers = []string{"PIPELINING", "SIZE 10000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"}

func without(offers []string, drop ...string) []string {
	return slices.DeleteFunc(slices.Clone(offers), func(o string) bool {
		word, _, _ := strings.Cut(o, " ")
		return slices.Contains(drop, word)
	})
}

func startPeer(t testing.TB, p *peer) *peer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startPeerOn(t, ln, p)
}

func startPeerOn(t testing.TB, ln net.Listener, p *peer) *peer {
	p.t, p.ln, p.open = t, ln, make(map[net.Conn]bool)
	p.wg.Go(p.accept)
	t.Cleanup(p.stop)
	return p
}

func (p *peer) accept() {
	for n := 0; ; n++ {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.open[c] = true
		p.dialogs = append(p.dialogs, nil)
		closed := p.closed
		p.mu.Unlock()
		if closed {
			c.Close()
		}
		s := &peerSession{peer: p, conn: c, in: bufio.NewReaderSize(c, 64<<10), n: n}
		if len(p.scripts) > 0 {
			s.script = p.scripts[min(n, len(p.scripts)-1)]
		}
		p.wg.Go(s.serve)
	}
}

func (p *peer) stop() {
	p.ln.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// hangUp closes the connections there are, as a restarted server does.
func (p *peer) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.Close()
	}
}

func (p *peer) url() string {
	if p.lmtp {
		return "lmtp://" + p.ln.Addr().String()
	}
	return "smtp://" + p.ln.Addr().String()
}

func (p *peer) got() []received {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.messages)
}

func (p *peer) commands() [][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.dialogs)
}

func (p *peer) broken() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.partial)
}

type peerSession struct {
	*peer
	conn   net.Conn
	in     *bufio.Reader
	n      int
	script script
	mail   string
	rcpts  []string
	tls    bool
}

var errPeerEnds = errors.New("the peer ends the connection")

func (s *peerSession) serve() {
	raw := s.conn
	defer func() {
		s.conn.Close()
		s.peer.mu.Lock()
		delete(s.peer.open, raw)
		s.peer.mu.Unlock()
	}()
	if s.smtps && s.handshake() != nil {
		return
	}
	if s.say(s.lookup("banner", "220 peer.test ready")) != nil {
		return
	}
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return
		}
		line = s.strip(line)
		s.peer.mu.Lock()
		s.dialogs[s.n] = append(s.dialogs[s.n], line)
		s.peer.mu.Unlock()
		if s.command(line) != nil {
			return
		}
	}
}

// strip takes off the CRLF and complains where there is none.
func (s *peerSession) strip(line string) string {
	body, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsAny(body, "\r\n") {
		s.t.Errorf("the peer got a line that does not end in CRLF: %q", line)
	}
	return body
}

func (s *peerSession) lookup(command, otherwise string) string {
	best, reply := -1, otherwise
	for k, v := range s.script {
		if strings.HasPrefix(command, k) && len(k) > best {
			best, reply = len(k), v
		}
	}
	return reply
}

// say sends a reply of the script.
func (s *peerSession) say(reply string) error {
	reply, then, _ := strings.Cut(reply, "!")
	if reply != "" {
		if _, err := io.WriteString(s.conn, reply+"\r\n"); err != nil {
			return err
		}
	}
	switch then {
	case "close":
		return errPeerEnds
	case "reset":
		s.conn.(*net.TCPConn).SetLinger(0)
		return errPeerEnds
	case "hang":
		_, _ = io.Copy(io.Discard, s.in) // until the connection is closed
		return errPeerEnds
	case "stall":
		for { // keep it open and read nothing
			s.peer.mu.Lock()
			closed := s.closed
			s.peer.mu.Unlock()
			if closed {
				return errPeerEnds
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nil
}

func (s *peerSession) command(line string) error {
	verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
	switch verb {
	case "EHLO", "LHLO":
		return s.say(s.lookup(line, s.offer()))
	case "STARTTLS":
		return s.startTLS(s.lookup(line, "220 2.0.0 go"))
	case "MAIL":
		reply := s.lookup(line, "250 2.1.0 ok")
		if reply[:1] == "2" {
			s.mail, s.rcpts = strings.TrimPrefix(line, "MAIL FROM:"), nil
		}
		return s.say(reply)
	case "RCPT":
		reply := s.lookup(line, "250 2.1.5 ok")
		if s.mail == "" {
			reply = s.lookup(line, "503 5.5.1 MAIL first")
		}
		if reply[:1] == "2" {
			s.rcpts = append(s.rcpts, strings.TrimPrefix(line, "RCPT TO:"))
		}
		return s.say(reply)
	case "DATA":
		return s.data(line)
	case "RSET":
		s.mail, s.rcpts = "", nil
		return s.say(s.lookup(line, "250 2.0.0 ok"))
	case "QUIT":
		if err := s.say(s.lookup(line, "221 2.0.0 bye")); err != nil {
			return err
		}
		return errPeerEnds
	case "XCLIENT":
		s.mail, s.rcpts = "", nil
		return s.say(s.lookup(line, "220 peer.test ready again"))
	case "AUTH":
		return s.login(line)
	case "HELO", "NOOP", "XFORWARD":
		return s.say(s.lookup(line, "250 ok"))
	}
	return s.say(s.lookup(line, "500 5.5.2 what?"))
}

func (s *peerSession) offer() string {
	lines := append([]string{"peer.test"}, s.offers...)
	if s.cert != nil && !s.tls {
		lines = append(lines, "STARTTLS")
	}
	for i := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		lines[i] = "250" + sep + lines[i]
	}
	return strings.Join(lines, "\r\n")
}

func (s *peerSession) startTLS(reply string) error {
	if strings.HasSuffix(reply, "!junk") {
		reply = strings.TrimSuffix(reply, "!junk") + "\r\nthis is no TLS"
	}
	if err := s.say(reply); err != nil || reply[:3] != "220" {
		return err
	}
	return s.handshake()
}

func (s *peerSession) handshake() error {
	cfg := s.peer.tls.Clone()
	cfg.Certificates = []tls.Certificate{*s.cert}
	tc := tls.Server(s.conn, cfg)
	if err := tc.Handshake(); err != nil {
		return err
	}
	s.conn, s.in, s.tls = tc, bufio.NewReader(tc), true
	return nil
}

// authenticator answers one line of a login: the reply, "334 …" for more.
type authenticator func(session, line string) string

func (s *peerSession) login(line string) error {
	if s.auth == nil {
		return s.say(s.lookup(line, "502 5.5.1 what?"))
	}
	id := s.conn.RemoteAddr().String()
	for {
		reply := s.auth(id, line)
		if err := s.say(reply); err != nil || reply[:3] != "334" {
			return err
		}
		next, err := s.in.ReadString('\n')
		if err != nil {
			return err
		}
		line = s.strip(next)
	}
}

func (s *peerSession) data(line string) error {
	otherwise := "354 go"
	if len(s.rcpts) == 0 {
		otherwise = "503 5.5.1 no valid recipients"
	}
	reply := s.lookup(line, otherwise)
	if err := s.say(reply); err != nil || reply[:1] != "3" {
		return err
	}
	if body, ok := s.script["body"]; ok {
		if _, err := s.in.Peek(1); err != nil {
			return err
		}
		return s.say(body)
	}
	data, err := s.readData()
	s.peer.mu.Lock()
	if err != nil {
		s.partial = append(s.partial, data)
	} else if len(s.rcpts) > 0 {
		s.messages = append(s.messages, received{s.mail, s.rcpts, string(data), s.tls})
	}
	s.peer.mu.Unlock()
	if err != nil {
		return err
	}
	from, rcpts := s.mail, s.rcpts
	s.mail, s.rcpts = "", nil
	if !s.lmtp {
		return s.say(s.lookup("dot "+from, "250 2.0.0 queued"))
	}
	for _, r := range rcpts {
		if err := s.say(s.lookup("dot "+r, "250 2.0.0 queued")); err != nil {
			return err
		}
	}
	return nil
}

func (s *peerSession) readData() ([]byte, error) {
	var data []byte
	for {
		line, err := s.in.ReadBytes('\n')
		if err != nil {
			return append(data, line...), err
		}
		if bytes.Equal(line, []byte(".\r\n")) {
			return data, nil
		}
		s.strip(string(line))
		data = append(data, bytes.TrimPrefix(line, []byte("."))...)
	}
}

// text is a message in memory.
type text []byte

func (m text) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}

func (m text) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(m)
	return int64(n), err
}
func (m text) Size() int64 { return int64(len(m)) }

var hello = text("Subject: hello\r\n\r\nHello.\r\n.\r\n..two\r\n")

func mailPath(t testing.TB, s string, args ...string) mail.Path {
	t.Helper()
	a, err := mail.ParseAddress(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return mail.Path{Address: a, Args: args}
}

func envelope(t testing.TB, rcpts ...string) mail.Envelope {
	t.Helper()
	env := mail.Envelope{Sender: mailPath(t, "sender@example.org")}
	for _, r := range rcpts {
		env.Recipients = append(env.Recipients, mailPath(t, r))
	}
	return env
}

func quick(to ...string) Route {
	return Route{
		To:             to,
		TLS:            TLSNone,
		ConnectTimeout: 5 * time.Second,
		CommandTimeout: 5 * time.Second,
		DataTimeout:    5 * time.Second,
		WriteTimeout:   5 * time.Second,
	}
}

func newForwarder(t testing.TB, r Route) *Forwarder {
	t.Helper()
	f, err := New(Config{Hostname: "mx.example.net", Routes: map[string]Route{".": r}}, quietLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// quietLog keeps the log for a failing test.
func quietLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// brief is an outcome on one line.
func brief(outs []mail.Outcome) []string {
	var lines []string
	for _, o := range outs {
		lines = append(lines, o.Status.String()+" "+o.Reply.String())
	}
	return lines
}

func deliver(t testing.TB, f *Forwarder, env mail.Envelope, m mail.Content) []mail.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	outs := f.Deliver(ctx, ".", mail.Facts{ID: "TESTID"}, env, m)
	if len(outs) != len(env.Recipients) {
		t.Fatalf("%d outcomes for %d recipients", len(outs), len(env.Recipients))
	}
	for i, o := range outs {
		if o.Recipient != env.Recipients[i].Address {
			t.Errorf("outcome %d is for %s, want %s", i, o.Recipient, env.Recipients[i])
		}
	}
	return outs
}

// check compares outcomes; a want that ends in "…" fits what begins so.
func check(t testing.TB, outs []mail.Outcome, want ...string) {
	t.Helper()
	got := brief(outs)
	ok := len(got) == len(want)
	for i := 0; ok && i < len(want); i++ {
		begin, open := strings.CutSuffix(want[i], "…")
		ok = got[i] == want[i] || open && strings.HasPrefix(got[i], begin)
	}
	if !ok {
		t.Errorf("outcomes\n got  %s\n want %s", strings.Join(got, "\n      "), strings.Join(want, "\n      "))
	}
}

// until waits for something that another goroutine does.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// idle is how many connections are kept to the first host.
func idle(f *Forwarder) int {
	h := firstHost(f)
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.idle)
}

// firstHost is where the route "." leads first.
func firstHost(f *Forwarder) *host {
	table := f.current.Load()
	r := table.byDest["."]
	h := table.use(r.targets[0].endpoint, r.settings)
	table.giveBack([]hop{{host: h}})
	return h
}

func testCert(t testing.TB) (*tls.Certificate, *httptest.Server) {
	t.Helper()
	s := httptest.NewTLSServer(nil) // its certificate is for 127.0.0.1 and example.com
	t.Cleanup(s.Close)
	return &s.TLS.Certificates[0], s
}
