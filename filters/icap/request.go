package icap

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// object is what is scanned: the message, or a part of it.
type object struct {
	kind string // media type
	open func() io.Reader
	once bool // it can be read one time only
}

// conn is a connection to a server.
type conn struct {
	net.Conn
	r    *bufio.Reader
	keep bool // the server leaves it open, and it is in order
	old  bool // it was used before
	gone bool // the server closes it behind its answer

	limit int64 // of an answer's body
}

func newConn(c net.Conn) *conn { return &conn{Conn: c, r: bufio.NewReaderSize(c, 8<<10)} }

// again makes it ready for another message.
func (c *conn) again() { c.old, c.keep = true, false }

// errStale is that a connection that was used before was closed meanwhile.
var errStale = errors.New("the connection was closed")

const (
	chunkSize = 64 << 10
	agent     = "Gatepost"
)

func (f *Filter) head(method string, more ...string) string {
	host := "localhost"
	for _, a := range f.cfg.Address[:1] {
		if scheme, at, _ := strings.Cut(a, ":"); scheme != "unix" {
			host = at
		}
	}
	lines := append([]string{
		fmt.Sprintf("%s icap://%s/%s ICAP/1.0", method, host, f.cfg.Service), "Host: " + host, "User-Agent: " + agent,
	}, more...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// options is what a server says of a service.
type options struct {
	tag     string
	preview int64 // -1: it wants none
	until   time.Time
}

// askOptions asks (RFC 3507 4.10).
func (f *Filter) askOptions(c *conn) (options, error) {
	if _, err := io.WriteString(c, f.head("OPTIONS")); err != nil {
		return options{}, c.sendError(err)
	}
	r, err := c.readHead()
	if err != nil {
		return options{}, fmt.Errorf("options: %w", err)
	}
	if r.code != 200 {
		return options{}, fmt.Errorf("options of service %s: %s", f.cfg.Service, r.status)
	}
	want := strings.ToUpper(string(f.cfg.Method))
	if methods := strings.ToUpper(r.get("Methods")); !strings.Contains(methods, want) {
		return options{}, fmt.Errorf("service %s has the methods %.100q, not %s", f.cfg.Service, methods, want)
	}
	if err := c.skipBody(r); err != nil {
		return options{}, fmt.Errorf("options: %w", err)
	}
	o := options{tag: r.tag(), preview: -1, until: time.Now().Add(lifetime(r.get("Options-TTL")))}
	if n, err := strconv.ParseUint(r.get("Preview"), 10, 31); err == nil {
		o.preview = int64(n)
	}
	c.gone, c.old = r.closes, true
	return o, nil
}

// lifetime is how long options are good: what the server says within reason.
func lifetime(ttl string) time.Duration {
	n, err := strconv.ParseUint(ttl, 10, 31)
	if err != nil {
		return 10 * time.Minute
	}
	return min(max(time.Duration(n)*time.Second, time.Minute), time.Hour)
}

// modify sends one object and hears what the server makes of it.
func (f *Filter) modify(c *conn, opts options, o object) (verdict, string, error) {
	c.keep, c.limit = false, max(maxBody, f.cfg.MaxSize)
	sent := &sending{c: c, content: o.open(), sum: sha256.New()}
	preview := int64(-1)
	if f.cfg.Preview > 0 && opts.preview >= 0 {
		preview = min(f.cfg.Preview, opts.preview)
	}
	if _, err := io.WriteString(c, f.modHead(o, preview)); err != nil {
		return verdict{}, "", c.sendError(err)
	}
	if preview >= 0 {
		if err := sent.preview(preview); err != nil {
			return verdict{}, "", err
		}
		r, err := c.readHead()
		if err != nil || r.code != 100 || sent.isWhole() {
			return c.judge(r, err, sent)
		}
	}
	// The server may answer while we send, and stop reading until its answer is
	// read.
	sent.ended = make(chan struct{})
	go sent.rest()
	r, err := c.readHead()
	v, tag, err := c.judge(r, err, sent)
	if err != nil || v.result != clean {
		c.keep = false
		_ = c.SetWriteDeadline(time.Unix(1, 0))
	}
	<-sent.ended
	if failed := sent.failed(); err != nil && errors.Is(failed, errContent) {
		err = failed
	}
	return v, tag, err
}

// modHead is all in front of the body.
func (f *Filter) modHead(o object, preview int64) string {
	request := "GET http://mail.invalid/message HTTP/1.1\r\nHost: mail.invalid\r\n\r\n"
	answer := "HTTP/1.1 200 OK\r\nContent-Type: " + o.kind + "\r\nTransfer-Encoding: chunked\r\n\r\n"
	parts := fmt.Sprintf("Encapsulated: req-hdr=0, res-hdr=%d, res-body=%d", len(request), len(request)+len(answer))
	method := "RESPMOD"
	if f.cfg.Method == ReqMod {
		request = "POST http://mail.invalid/message HTTP/1.1\r\nHost: mail.invalid\r\nContent-Type: " + o.kind + "\r\nTransfer-Encoding: chunked\r\n\r\n"
		parts, method, answer = fmt.Sprintf("Encapsulated: req-hdr=0, req-body=%d", len(request)), "REQMOD", ""
	}
	lines := []string{"Allow: 204", parts}
	if preview >= 0 {
		lines = append(lines, "Preview: "+strconv.FormatInt(preview, 10))
	}
	return f.head(method, lines...) + request + answer
}

var errContent = errors.New("read the message")

// sending is the body on its way.
type sending struct {
	c       *conn
	content io.Reader
	sum     hash.Hash
	size    int64
	ended   chan struct{} // closed when rest has ended; nil: it was not begun

	mu    sync.Mutex
	whole bool // all of it was sent
	err   error
}

func (s *sending) isWhole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whole
}

func (s *sending) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *sending) end(whole bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whole, s.err = whole, err
}

// outcome reports whether the server had all of the content when it said that
// this was good. It waits for what is still on its way. Before that a good word
// is an error, but behind a preview.
func (s *sending) outcome(code int) (whole bool, err error) {
	if s.ended == nil {
		return s.isWhole(), nil
	}
	<-s.ended
	if !s.isWhole() {
		return false, fmt.Errorf("%d before the server had everything: %w", code, s.failed())
	}
	return true, nil
}

// preview sends the first n octets, and says so when these are all.
func (s *sending) preview(n int64) error {
	head := make([]byte, n+1)
	got, err := io.ReadFull(s.content, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: %w", errContent, err)
	}
	last := "0\r\n\r\n"
	if int64(got) <= n {
		last = "0; ieof\r\n\r\n"
		s.end(true, nil)
	} else {
		s.content = io.MultiReader(strings.NewReader(string(head[n:got])), s.content)
		got = int(n)
	}
	if err := s.chunk(head[:got]); err != nil {
		return s.c.sendError(err)
	}
	if _, err := io.WriteString(s.c, last); err != nil {
		return s.c.sendError(err)
	}
	return nil
}

func (s *sending) chunk(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	s.sum.Write(b)
	s.size += int64(len(b))
	buffers := net.Buffers{[]byte(strconv.FormatInt(int64(len(b)), 16) + "\r\n"), b, []byte("\r\n")}
	_, err := buffers.WriteTo(s.c.Conn)
	return err
}

// rest sends what is left.
func (s *sending) rest() {
	defer close(s.ended)
	chunk := make([]byte, chunkSize)
	for {
		n, err := io.ReadFull(s.content, chunk)
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			// Without its last chunk the server can't take it for whole.
			s.end(false, fmt.Errorf("%w: %w", errContent, err))
			_ = s.c.SetDeadline(time.Unix(1, 0))
			return
		}
		if err := s.chunk(chunk[:n]); err != nil {
			s.end(false, err)
			return
		}
		if last {
			break
		}
	}
	_, err := io.WriteString(s.c, "0\r\n\r\n")
	s.end(err == nil, err)
}

// sendError tells a server that hung up between two messages from one that
// fails.
func (c *conn) sendError(err error) error {
	if c.old {
		return fmt.Errorf("%w: %w", errStale, err)
	}
	return fmt.Errorf("send: %w", err)
}
