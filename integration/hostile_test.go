package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// hostileHop is a next hop that behaves as a test wants in its first
// connections, and well in all others.
type hostileHop struct {
	Addr   string
	attack func(s *hostileSession) // nil: behaves well
	first  int                     // connections that are attacked
	lmtp   bool
	rcpt   func(to string, n int) string // standing answers to a recipient's n-th RCPT
	kept   func(to string) string        // LMTP: to a recipient after the dot

	mu       sync.Mutex
	mails    []testkit.Mail
	asked    map[string]int
	sessions int
	wg       sync.WaitGroup
}

func (h *hostileHop) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.Addr, h.asked = l.Addr().String(), map[string]int{}
	stop := make(chan struct{})
	h.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			h.mu.Lock()
			h.sessions++
			s := &hostileSession{hop: h, conn: conn.(*net.TCPConn), r: bufio.NewReader(conn), n: h.sessions, stop: stop}
			h.mu.Unlock()
			h.wg.Go(func() { s.serve() })
		}
	})
	t.Cleanup(func() {
		close(stop)
		_ = l.Close()
		h.wg.Wait()
	})
}

// got returns the messages so far, notifications apart.
func (h *hostileHop) got() []testkit.Mail {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.mails)
}

// hostileSession is one connection.
type hostileSession struct {
	hop  *hostileHop
	conn *net.TCPConn
	r    *bufio.Reader
	n    int // from 1
	stop chan struct{}
	mail testkit.Mail
}

func (s *hostileSession) serve() {
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-s.stop:
		case <-done:
		}
		_ = s.conn.Close()
	}()
	if s.hop.attack != nil && s.n <= s.hop.first {
		s.hop.attack(s)
		return
	}
	s.say("220 hostile.test ESMTP")
	s.until("")
}

// say sends lines as they are; CRLF comes behind each.
func (s *hostileSession) say(lines ...string) {
	_, _ = s.conn.Write([]byte(strings.Join(lines, "\r\n") + "\r\n"))
}

// until behaves well up to a command, which is read and not answered. "." is
// the end of a message. It reports whether that came.
func (s *hostileSession) until(verb string) bool {
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return false
		}
		word, _, _ := strings.Cut(strings.TrimSpace(strings.ToUpper(line)), " ")
		if word == verb {
			return true
		}
		_, arg, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch word {
		case "EHLO", "LHLO":
			s.say("250-hostile.test", "250-PIPELINING", "250-8BITMIME", "250 ENHANCEDSTATUSCODES")
		case "MAIL":
			s.mail = testkit.Mail{From: arg, Session: s.n}
			s.say("250 2.1.0 ok")
		case "RCPT":
			s.recipient(strings.Trim(arg, "<> "))
		case "DATA":
			if len(s.mail.To) == 0 { // behind refused ones, PIPELINING
				s.say("554 5.5.1 no recipients")
				continue
			}
			s.say("354 go")
			if verb == "content" {
				return true
			}
			if !s.content() {
				return false
			}
			if verb == "." {
				return true
			}
			s.keep()
		case "QUIT":
			s.say("221 2.0.0 bye")
			return false
		default:
			s.say("250 2.0.0 ok")
		}
	}
}

func (s *hostileSession) recipient(to string) {
	answer := ""
	s.hop.mu.Lock()
	s.hop.asked[to]++
	if s.hop.rcpt != nil {
		answer = s.hop.rcpt(to, s.hop.asked[to])
	}
	s.hop.mu.Unlock()
	if answer == "" {
		answer = "250 2.1.5 ok"
	}
	if answer[0] == '2' {
		s.mail.To = append(s.mail.To, to)
	}
	s.say(answer)
}

// content reads the message to its dot.
func (s *hostileSession) content() bool {
	var b bytes.Buffer
	for {
		line, err := s.r.ReadBytes('\n')
		if err != nil {
			return false
		}
		if string(line) == ".\r\n" {
			s.mail.Data = b.Bytes()
			return true
		}
		b.Write(bytes.TrimPrefix(line, []byte(".")))
	}
}

// take keeps the message for these recipients and says nothing.
func (s *hostileSession) take(to ...string) {
	m := s.mail
	m.To = to
	s.hop.mu.Lock()
	defer s.hop.mu.Unlock()
	s.hop.mails = append(s.hop.mails, m)
}

// keep keeps the message and says so, over LMTP to each recipient.
func (s *hostileSession) keep() {
	if !s.hop.lmtp {
		s.take(s.mail.To...)
		s.say("250 2.0.0 kept")
		return
	}
	var taken []string
	for _, to := range s.mail.To {
		answer := ""
		if s.hop.kept != nil {
			answer = s.hop.kept(to)
		}
		if answer == "" {
			answer = "250 2.0.0 kept"
			taken = append(taken, to)
		}
		s.say(answer)
	}
	s.take(taken...)
}

// reset closes the connection with RST.
func (s *hostileSession) reset() {
	_ = s.conn.SetLinger(0)
	_ = s.conn.Close()
}

// said answers a command with raw lines, and goes on well.
func said(verb string, lines ...string) func(s *hostileSession) {
	return func(s *hostileSession) {
		s.say("220 hostile.test ESMTP")
		if s.until(verb) {
			if verb == "." && strings.HasPrefix(lines[0], "2") {
				s.take(s.mail.To...)
			}
			s.say(lines...)
			s.until("")
		}
	}
}

// hostileRow is a way to be a bad next hop, and what must come of it.
type hostileRow struct {
	name    string
	attack  func(s *hostileSession)
	first   int    // connections that are attacked
	size    int    // of the text
	copies  int    // that arrive in the end
	bounced string // what the notification says; "" for none
}

func hostileRows() []hostileRow {
	return []hostileRow{
		{"slow reader", func(s *hostileSession) {
			_ = s.conn.SetReadBuffer(4096)
			s.say("220 hostile.test ESMTP")
			s.until("content")
			<-s.stop
		}, 2, 8_000_000, 1, ""},
		{"banner of 95 MB", endless("220-"), 2, 0, 1, ""},
		{"banner of one line of 95 MB", func(s *hostileSession) { flood(s, "220 "+strings.Repeat("x", 64<<10), "", "") }, 2, 0, 1, ""},
		{"EHLO of 95 MB", func(s *hostileSession) {
			s.say("220 hostile.test ESMTP")
			_, _ = s.r.ReadString('\n')
			endless("250-")(s)
		}, 2, 0, 1, ""},
		{"no banner", func(s *hostileSession) { <-s.stop }, 2, 0, 1, ""},
		{"surplus reply to MAIL", said("MAIL", "250 2.1.0 ok", "250 2.1.5 ok", "354 go"), 2, 0, 1, ""},
		{"surplus reply to the message", said(".", "250 2.0.0 kept", "550 5.0.0 surplus", "250 2.0.0 surplus"), 1, 0, 1, ""},
		{"250, then reset", func(s *hostileSession) {
			s.say("220 hostile.test ESMTP")
			if s.until(".") {
				s.take(s.mail.To...)
				s.say("250 2.0.0 kept")
				_ = s.conn.CloseWrite()
				_, _ = io.CopyN(io.Discard, s.r, 1) // it has read that when it says something
				s.reset()
			}
		}, 1, 0, 1, ""},
		{"taken, then reset: once more", func(s *hostileSession) {
			s.say("220 hostile.test ESMTP")
			if s.until(".") {
				s.take(s.mail.To...)
				s.reset()
			}
		}, 1, 0, 2, ""},
		{"reset inside of the message", func(s *hostileSession) {
			s.say("220 hostile.test ESMTP")
			s.until("content")
			s.reset()
		}, 2, 3_000_000, 1, ""},
		{"421 to RCPT", said("RCPT", "421 4.3.2 shutting down"), 2, 0, 1, ""},
		{"garbage to MAIL", said("MAIL", "\x00\xff\x1b]0;x\x07"), 2, 0, 1, ""},
		{"garbage to the message", said(".", "kept, honestly"), 1, 0, 1, ""},
		{"bare LF in a reply", said("MAIL", "250 2.1.0 ok\n550 5.1.1 forged"), 2, 0, 1, ""},
		{"5xx after the dot", said(".", "554 5.7.1 not here"), 1, 0, 0, "554 5.7.1 not here"},
		{"a refusal made for terminals", said("RCPT", "550-5.1.1 \x1b]0;owned\x07 \x1b[2J", "550 5.1.1 \u202eforged"), 1, 0, 0, "5.1.1"},
		{"a refusal of 40 kB", said("RCPT", slices.Repeat([]string{"550-5.1.1 " + strings.Repeat("no ", 150)}, 90)...), 1, 0, 1, ""},
	}
}

// endless sends 95 MB of lines.
func endless(prefix string) func(*hostileSession) {
	return func(s *hostileSession) { flood(s, prefix+strings.Repeat("x", 76), "\r\n", prefix[:3]+" at last\r\n") }
}

// flood sends 95 MB, and keeps count of what was taken.
func flood(s *hostileSession, piece, between, end string) {
	block := []byte(strings.Repeat(piece+between, 1+(64<<10)/len(piece)))
	sent := 0
	for sent < 95_000_000 {
		n, err := s.conn.Write(block)
		sent += n
		if err != nil {
			break
		}
	}
	if sent >= 95_000_000 {
		_, _ = s.conn.Write([]byte(end))
		s.mail.Data = fmt.Appendf(nil, "it read %d octets of a reply", sent)
		s.take("too much")
	}
}

// Whatever the next hop does, a message arrives, or its sender hears; twice only
// where nobody can know.
func TestHostileNextHop(t *testing.T) {
	for _, tt := range hostileRows() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			hop := &hostileHop{attack: tt.attack, first: tt.first}
			hop.start(t)
			g, senders := hostileGateway(t, "smtp://"+hop.Addr)
			msg := testkit.Message("hostile", "hostile", ".dot\r\n"+testkit.Filler(tt.size))
			sendWant(t, g.Addr, letter(msg), testkit.Dot, 250)
			emptyQueue(t, g)
			checkCopies(t, hop.got(), msg, tt.copies)
			log := g.Log()
			if strings.ContainsAny(log, "\x1b\x07\x00") || strings.Contains(log, "\u202e") {
				t.Error("the log has what is made for a terminal")
			}
			if tt.bounced == "" {
				if n := len(senders.Mails()); n != 0 {
					t.Errorf("%d notifications: %s", n, senders.Mails()[0].Data)
				}
				if !strings.Contains(log, "status=deferred") && tt.first > 1 {
					t.Error("it was never deferred")
				}
				return
			}
			dsn := waitMails(t, senders, 1)[0].Data
			if !bytes.Contains(dsn, []byte(tt.bounced)) || bytes.ContainsAny(dsn, "\x1b\x07\x00") {
				t.Errorf("the notification: %q", dsn)
			}
		})
	}
}

// checkCopies wants so many copies, all as they were sent and with one ID.
func checkCopies(t *testing.T, mails []testkit.Mail, msg []byte, want int) {
	t.Helper()
	if len(mails) != want {
		t.Fatalf("%d copies, want %d", len(mails), want)
	}
	for _, m := range mails {
		head := added(t, m.Data, msg)
		if id, first := field(head, "X-Gatepost-ID"), field(string(mails[0].Data), "X-Gatepost-ID"); id == "" || id != first {
			t.Errorf("ID %q, at first it was %q", id, first)
		}
	}
}

// hostileGateway passes mail on to hop and tells senders, and does not wait long.
func hostileGateway(t *testing.T, hop string) (*testkit.Gateway, *testkit.Sink) {
	t.Helper()
	senders := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.plain)
	route := `route."example.com"`
	g.Config.Set(route, "to", `["`+hop+`"]`)
	for _, limit := range []string{"connect_timeout", "command_timeout", "data_timeout", "write_timeout"} {
		g.Config.Set(route, limit, `"1s"`)
	}
	g.Config.Set(`route."sender.test"`, "to", `["smtp://`+senders.Addr+`"]`)
	return testkit.Up(t, g), senders
}

// Each recipient has his own fate, over SMTP and over LMTP: taken once, refused
// and told, put off and taken then.
func TestHostilePerRecipient(t *testing.T) {
	to := []string{"a@example.com", "late@example.com", "gone@example.com", "full@example.com", "b@example.com"}
	atRcpt := func(to string, n int) string {
		switch {
		case strings.HasPrefix(to, "late") && n <= 2:
			return "450 4.2.0 later"
		case strings.HasPrefix(to, "gone"):
			return "550 5.1.1 nobody of that name"
		case strings.HasPrefix(to, "full"):
			return "552 5.2.2 no room"
		}
		return ""
	}
	afterDot := func() func(string) string {
		seen := map[string]int{}
		return func(to string) string {
			seen[to]++
			return atRcpt(to, seen[to])
		}
	}
	for name, hop := range map[string]*hostileHop{
		"smtp": {rcpt: atRcpt}, "lmtp at RCPT": {rcpt: atRcpt, lmtp: true}, "lmtp after the dot": {kept: afterDot(), lmtp: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hop.start(t)
			scheme, _, _ := strings.Cut(name, " ")
			g, senders := hostileGateway(t, scheme+"://"+hop.Addr)
			msg := testkit.Message("mix", "mix", "x")
			l := letter(msg)
			l.To = to
			sendWant(t, g.Addr, l, testkit.Dot, 250)
			emptyQueue(t, g)
			copies := map[string]int{}
			for _, m := range hop.got() {
				added(t, m.Data, msg)
				for _, to := range m.To {
					copies[to]++
				}
			}
			for _, to := range to {
				want := 1
				if strings.HasPrefix(to, "gone") || strings.HasPrefix(to, "full") {
					want = 0
				}
				if copies[to] != want {
					t.Errorf("%s: %d copies, want %d", to, copies[to], want)
				}
			}
			dsn := string(waitMails(t, senders, 1)[0].Data)
			if strings.Count(dsn, "Final-Recipient:") != 2 || !strings.Contains(dsn, "Status: 5.1.1") || !strings.Contains(dsn, "Status: 5.2.2") {
				t.Errorf("the notification:\n%s", dsn)
			}
		})
	}
}

// Q10: a message that can't be read to its end goes nowhere, not even in part,
// and stands in nobody's way.
func TestHalfAMessage(t *testing.T) {
	hop := &hostileHop{rcpt: func(string, int) string { return "450 4.2.0 not yet" }}
	hop.start(t)
	g, senders := hostileGateway(t, "smtp://"+hop.Addr)
	large := testkit.Message("large", "large", testkit.Filler(3_000_000))
	sendWant(t, g.Addr, letter(large), testkit.Dot, 250)
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(g.Spool, "large", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if info, err := os.Stat(name); err == nil && info.Size() > 2_000_000 {
			if err := damage(name, 1_500_000); err != nil {
				t.Fatal(err)
			}
		}
	}
	hop.mu.Lock()
	hop.rcpt = nil
	hop.mu.Unlock()
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	small := testkit.Message("small", "small", "x")
	sendWant(t, g.Addr, letter(small), testkit.Dot, 250)
	testkit.Eventually(t, 60*time.Second, "the message behind it", func() bool { return len(hop.got()) > 0 })
	testkit.Eventually(t, 60*time.Second, "a word of the damage in the log", func() bool {
		return strings.Contains(g.Log(), "damaged") || strings.Contains(g.Log(), "corrupt") || strings.Contains(g.Log(), "checksum")
	})
	checkCopies(t, hop.got(), small, 1)
	if n := len(senders.Mails()); n != 0 {
		t.Errorf("%d notifications", n)
	}
}

// damage turns one octet of a file around.
func damage(name string, at int64) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 0x40
	_, err = f.WriteAt(b, at)
	return err
}
