package testkit

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Mail is one message as the sink took it.
type Mail struct {
	From    string   // "<a@b> SIZE=12": all behind MAIL FROM:
	To      []string // all behind each accepted RCPT TO:
	Data    []byte   // without dot stuffing and the final dot
	Helo    string
	TLS     bool
	Session int // which connection brought it, from 1
}

// Answers that are no reply.
const (
	// Hang gives no answer, and keeps the connection until the sink stops or
	// the client goes.
	Hang = "(hang)"
	// Drop closes the connection without an answer.
	Drop = "(drop)"
	// TakeAndDrop, for Dot only, keeps the message and closes the connection
	// without an answer: the client can't know.
	TakeAndDrop = "(take and drop)"
)

// Verbs that are no command.
const (
	Banner = "BANNER" // the greeting
	Dot    = "."      // the end of a message
)

// Sink is a next hop: an SMTP server that keeps what it gets and answers as it
// is told.
type Sink struct {
	Addr  string                        // host:port; the same after each Start
	Offer []string                      // EHLO keywords; nil for all that it knows
	TLS   *tls.Config                   // offers STARTTLS when set
	Each  func(Mail)                    // gets each message instead of Mails; for long runs
	Rule  func(verb, arg string) string // standing answers; "" for the usual one

	mu       sync.Mutex
	mails    []Mail
	scripts  map[string][]string
	sessions int
	open     map[net.Conn]bool
	listener net.Listener
	stopped  chan struct{}
	wg       sync.WaitGroup
}

// NewSink returns a sink that takes everything.
func NewSink() *Sink { return &Sink{} }

// Start listens.
func (s *Sink) Start() error {
	if s.Addr == "" {
		addr, err := FreeAddr()
		if err != nil {
			return err
		}
		s.Addr = addr
	}
	l, err := listen(s.Addr)
	if err != nil {
		return fmt.Errorf("testkit: sink: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener, s.stopped, s.open = l, make(chan struct{}), make(map[net.Conn]bool)
	s.wg.Go(func() { s.accept(l, s.stopped) })
	return nil
}

// Stop closes the listener and all connections.
func (s *Sink) Stop() error {
	s.mu.Lock()
	if s.listener == nil {
		s.mu.Unlock()
		return nil
	}
	err := s.listener.Close()
	s.listener = nil
	close(s.stopped)
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

// Log is a line for each message.
func (s *Sink) Log() string {
	var b strings.Builder
	for _, m := range s.Mails() {
		fmt.Fprintf(&b, "session %d: from %s to %v, %d octets\n", m.Session, m.From, m.To, len(m.Data))
	}
	return b.String()
}

// Script sets the answers to the next uses of a verb, one each, in order. Lines
// of one answer are separated by "\n".
func (s *Sink) Script(verb string, answers ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scripts == nil {
		s.scripts = make(map[string][]string)
	}
	s.scripts[verb] = append(s.scripts[verb], answers...)
}

// Mails returns what came so far, in order.
func (s *Sink) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// Sessions is how many connections there were.
func (s *Sink) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// Wait returns the messages when there are n of them, or those that there are
// after the time given.
func (s *Sink) Wait(n int, within time.Duration) []Mail {
	poll(within, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.mails) >= n
	})
	return s.Mails()
}

func (s *Sink) accept(l net.Listener, stopped chan struct{}) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		select {
		case <-stopped:
			s.mu.Unlock()
			_ = conn.Close()
			return
		default:
		}
		s.sessions++
		s.open[conn] = true
		c := &sinkConn{sink: s, conn: conn, stopped: stopped, session: s.sessions}
		s.mu.Unlock()
		s.wg.Go(func() {
			c.serve()
			_ = conn.Close()
			s.mu.Lock()
			delete(s.open, conn)
			s.mu.Unlock()
		})
	}
}

// answer is the scripted or standing answer; "" for the usual one.
func (s *Sink) answer(verb, arg string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.scripts[verb]; len(q) > 0 {
		s.scripts[verb] = q[1:]
		return q[0]
	}
	if s.Rule != nil {
		return s.Rule(verb, arg)
	}
	return ""
}

func (s *Sink) take(m Mail) {
	if s.Each != nil {
		s.Each(m)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, m)
}

// sinkConn is one connection.
type sinkConn struct {
	sink    *Sink
	conn    net.Conn
	r       *bufio.Reader
	stopped chan struct{}
	session int
	helo    string
	tls     bool
	mail    *Mail // the transaction
}

var errEnd = errors.New("end of session")

func (c *sinkConn) serve() {
	c.r = bufio.NewReaderSize(c.conn, 64<<10)
	if c.reply(Banner, "", "220 sink.test ESMTP") != nil {
		return
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, arg, _ := strings.Cut(line, " ")
		if err := c.command(strings.ToUpper(verb), arg); err != nil {
			return
		}
	}
}

func (c *sinkConn) command(verb, arg string) error {
	switch verb {
	case "EHLO", "HELO":
		c.helo, c.mail = arg, nil
		return c.reply(verb, arg, c.ehlo(verb))
	case "STARTTLS":
		return c.startTLS(arg)
	case "MAIL":
		return c.accepted(verb, arg, func() {
			c.mail = &Mail{From: afterColon(arg), Helo: c.helo, TLS: c.tls, Session: c.session}
		})
	case "RCPT":
		if c.mail == nil {
			return c.reply(verb, arg, "503 5.5.1 MAIL first")
		}
		return c.accepted(verb, arg, func() { c.mail.To = append(c.mail.To, afterColon(arg)) })
	case "DATA":
		return c.data(arg)
	case "RSET":
		c.mail = nil
		return c.reply(verb, arg, "250 2.0.0 ok")
	case "NOOP":
		return c.reply(verb, arg, "250 2.0.0 ok")
	case "QUIT":
		if err := c.reply(verb, arg, "221 2.0.0 bye"); err != nil {
			return err
		}
		return errEnd
	}
	return c.reply(verb, arg, "500 5.5.1 what?")
}

// accepted answers and does what the command asks for when the answer is 2xx.
func (c *sinkConn) accepted(verb, arg string, do func()) error {
	answer := c.sink.answer(verb, arg)
	if answer == "" || strings.HasPrefix(answer, "2") {
		do()
	}
	return c.write(answer, "250 2.1.0 ok")
}

func (c *sinkConn) ehlo(verb string) string {
	if verb == "HELO" {
		return "250 sink.test"
	}
	offer := c.sink.Offer
	if offer == nil {
		offer = []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "SIZE 200000000"}
	}
	lines := append([]string{"sink.test"}, offer...)
	if c.sink.TLS != nil && !c.tls {
		lines = append(lines, "STARTTLS")
	}
	return "250 " + strings.Join(lines, "\n250 ")
}

func (c *sinkConn) startTLS(arg string) error {
	if c.sink.TLS == nil || c.tls {
		return c.reply("STARTTLS", arg, "502 5.5.1 no TLS")
	}
	answer := c.sink.answer("STARTTLS", arg)
	if err := c.write(answer, "220 2.0.0 go"); err != nil || answer != "" && !strings.HasPrefix(answer, "220") {
		return err
	}
	conn := tls.Server(c.conn, c.sink.TLS)
	if err := conn.Handshake(); err != nil {
		return err
	}
	c.conn, c.r, c.tls, c.mail = conn, bufio.NewReaderSize(conn, 64<<10), true, nil
	return nil
}

func (c *sinkConn) data(arg string) error {
	if c.mail == nil || len(c.mail.To) == 0 {
		return c.reply("DATA", arg, "503 5.5.1 no recipients")
	}
	answer := c.sink.answer("DATA", arg)
	if err := c.write(answer, "354 go"); err != nil || answer != "" && !strings.HasPrefix(answer, "354") {
		return err
	}
	body, err := readDots(c.r)
	if err != nil {
		return err
	}
	mail := *c.mail
	c.mail, mail.Data = nil, body
	answer = c.sink.answer(Dot, "")
	if answer == "" || answer == TakeAndDrop || strings.HasPrefix(answer, "2") {
		c.sink.take(mail)
	}
	return c.write(answer, "250 2.0.0 kept")
}

// readDots reads to the line that is a single dot. Only CRLF ends a line.
func readDots(r *bufio.Reader) ([]byte, error) {
	var body []byte
	begin := true // of a line
	for {
		part, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if begin && string(part) == ".\r\n" {
			return body, nil
		}
		if begin && len(part) > 0 && part[0] == '.' {
			part = part[1:]
		}
		body = append(body, part...)
		begin = len(body) >= 2 && string(body[len(body)-2:]) == "\r\n"
	}
}

// reply gives the scripted answer to verb, or the usual one.
func (c *sinkConn) reply(verb, arg, usual string) error {
	return c.write(c.sink.answer(verb, arg), usual)
}

func (c *sinkConn) write(answer, usual string) error {
	switch answer {
	case "":
		answer = usual
	case Hang:
		<-c.stopped
		return errEnd
	case Drop, TakeAndDrop:
		return errEnd
	}
	lines := strings.Split(answer, "\n")
	for i, line := range lines {
		if i < len(lines)-1 && len(line) > 3 {
			line = line[:3] + "-" + line[4:]
		}
		lines[i] = line + "\r\n"
	}
	_, err := c.conn.Write([]byte(strings.Join(lines, "")))
	return err
}

func afterColon(arg string) string {
	_, after, _ := strings.Cut(arg, ":")
	return strings.TrimSpace(after)
}
