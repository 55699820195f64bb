package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	milter "github.com/d--j/go-milter"

	"gatepost/internal/testkit"
)

// scripted is a milter on d--j's server, somebody else's reading of the
// protocol. What a script doesn't answer is "continue".
type scripted struct {
	socket string // "/path"

	mu     sync.Mutex
	script script
	next   chan struct{} // closed when there is another script
	seen   []string
}

// script answers events: "connect HOST FAMILY ADDRESS", "helo NAME", "mail ADDRESS",
// "rcpt ADDRESS", "data", "unknown LINE", "end". m takes edits at "end" only.
type script func(event string, m milter.Modifier) (*milter.Response, error)

// newScripted starts a milter that other users may connect to.
func newScripted(t *testing.T, s script) *scripted {
	t.Helper()
	dir, err := os.MkdirTemp(testkit.Dir(t), "child-")
	if err != nil {
		t.Fatal(err)
	}
	c := &scripted{socket: filepath.Join(dir, "s"), script: s, next: make(chan struct{})}
	ln, err := net.Listen("unix", c.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := milter.NewServer(
		milter.WithMilter(func() milter.Milter { return &scriptedSession{c: c} }),
		milter.WithActions(milter.AllClientSupportedActionMasks),
		milter.WithNegotiationCallback(func(version, _ uint32, actions, wanted milter.OptAction, protocol, _ milter.OptProtocol, size milter.DataSize) (uint32, milter.OptAction, milter.OptProtocol, milter.DataSize, error) {
			return min(version, 6), actions & wanted, protocol & milter.OptHeaderLeadingSpace, size, nil
		}))
	var running sync.WaitGroup
	running.Go(func() {
		if err := srv.Serve(ln); err != nil && !errors.Is(err, milter.ErrServerClosed) {
			t.Errorf("scripted milter: %v", err)
		}
	})
	t.Cleanup(func() {
		c.does(nil)
		if err := srv.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("scripted milter: %v", err)
		}
		running.Wait()
	})
	return c
}

// does changes the script, and forgets what was seen. What hangs goes on.
func (c *scripted) does(s script) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.next)
	c.script, c.seen, c.next = s, nil, make(chan struct{})
}

func (c *scripted) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = nil
}

// saw are the events that begin with a word, or all for "".
func (c *scripted) saw(word string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, e := range c.seen {
		if strings.HasPrefix(e, word) {
			all = append(all, e)
		}
	}
	return strings.Join(all, "; ")
}

// hangs does not answer an event before there is another script.
func (c *scripted) hangs(event string) {
	c.does(func(e string, _ milter.Modifier) (*milter.Response, error) {
		if e == event {
			c.mu.Lock()
			next := c.next
			c.mu.Unlock()
			<-next
		}
		return nil, nil
	})
}

// answers gives one answer to the events that begin with a word.
func answers(word string, r *milter.Response) script {
	return func(e string, _ milter.Modifier) (*milter.Response, error) {
		if strings.HasPrefix(e, word) {
			return r, nil
		}
		return nil, nil
	}
}

// edits makes changes at the end of a message.
func edits(change func(m milter.Modifier) error) script {
	return func(e string, m milter.Modifier) (*milter.Response, error) {
		if e != "end" {
			return nil, nil
		}
		return milter.RespContinue, change(m)
	}
}

// says is a reply in words.
func says(code uint16, text string) *milter.Response {
	r, err := milter.RejectWithCodeAndReason(code, text)
	if err != nil {
		panic(err)
	}
	return r
}

// scriptedSession is one connection.
type scriptedSession struct {
	milter.NoOpMilter
	c *scripted
}

func (s *scriptedSession) event(m milter.Modifier, format string, args ...any) (*milter.Response, error) {
	e := fmt.Sprintf(format, args...)
	s.c.mu.Lock()
	s.c.seen = append(s.c.seen, e)
	answer := s.c.script
	s.c.mu.Unlock()
	r, err := (*milter.Response)(nil), error(nil)
	if answer != nil {
		r, err = answer(e, m)
	}
	if r == nil && e != "end" {
		r = milter.RespContinue
	}
	return r, err
}

func (s *scriptedSession) Connect(host, family string, _ uint16, address string, m milter.Modifier) (*milter.Response, error) {
	return s.event(m, "connect %s %s %s", host, family, address)
}
func (s *scriptedSession) Helo(name string, m milter.Modifier) (*milter.Response, error) {
	return s.event(m, "helo %s", name)
}
func (s *scriptedSession) MailFrom(from, args string, m milter.Modifier) (*milter.Response, error) {
	return s.event(m, "mail %s", from)
}
func (s *scriptedSession) RcptTo(to, args string, m milter.Modifier) (*milter.Response, error) {
	return s.event(m, "rcpt %s", to)
}
func (s *scriptedSession) Data(m milter.Modifier) (*milter.Response, error) {
	return s.event(m, "data")
}
func (s *scriptedSession) Header(name, value string, m milter.Modifier) (*milter.Response, error) {
	return s.event(m, "header %s:%s", name, value)
}
func (s *scriptedSession) EndOfMessage(m milter.Modifier) (*milter.Response, error) {
	return s.event(m, "end")
}
func (s *scriptedSession) Unknown(line string, m milter.Modifier) (*milter.Response, error) {
	return s.event(m, "unknown %s", line)
}
func (s *scriptedSession) Abort(m milter.Modifier) error {
	_, err := s.event(m, "abort")
	return err
}
