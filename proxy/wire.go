package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	idleBuffer = 1 << 10  // until a longer line comes
	bigBuffer  = 64 << 10 // while a message comes in
	flushAbove = 4 << 10  // replies that may gather while a client pipelines
	lingerTime = time.Second
	lingerSize = 1 << 20
)

// Why a command line could not be read, besides errors of the connection.
var (
	errStopping   = errors.New("the server stops")
	errLineLength = errors.New("line too long")
	errNotSMTP    = errors.New("not SMTP")
)

// wire is the two directions of one connection. It reads into a small buffer
// while the client is idle and into a big one inside a message; it gathers
// replies and writes them before it would wait for input (RFC 2920 3.2).
type wire struct {
	raw          net.Conn // the socket; deadlines are set here
	conn         net.Conn // raw, or TLS over it
	replyTimeout time.Duration
	buffers      *sync.Pool // of *[bigBuffer]byte

	small []byte
	big   *[bigBuffer]byte // nil while idle
	buf   []byte           // small or big; buf[r:w] was read and is not used yet
	r, w  int
	out   []byte

	mu       sync.Mutex
	waiting  bool // for a command
	stopping bool // no more commands
	over     bool // nothing more at all
}

func newWire(conn net.Conn, buffers *sync.Pool, l Limits) *wire {
	small := make([]byte, min(idleBuffer, l.MaxLine))
	return &wire{raw: conn, conn: conn, replyTimeout: l.ReplyTimeout, buffers: buffers, small: small, buf: small}
}

func (w *wire) buffered() []byte { return w.buf[w.r:w.w] }

func (w *wire) advance(n int) {
	w.r += n
	if w.r == w.w {
		w.r, w.w = 0, 0
	}
}

// enlarge takes a big buffer from the pool.
func (w *wire) enlarge() {
	if w.big == nil {
		w.big = w.buffers.Get().(*[bigBuffer]byte)
		w.moveTo(w.big[:])
	}
}

// shrink gives the big buffer back as soon as what is left in it fits.
func (w *wire) shrink() {
	if w.big != nil && w.w-w.r <= len(w.small) {
		big := w.big
		w.moveTo(w.small)
		w.big = nil
		w.buffers.Put(big)
	}
}

func (w *wire) moveTo(buf []byte) {
	w.w = copy(buf, w.buf[w.r:w.w])
	w.r = 0
	w.buf = buf
}

// fill reads once, after the replies are out, unless cut interrupts it. There
// must be room.
func (w *wire) fill(deadline time.Time) error {
	if err := w.prepare(); err != nil {
		return err
	}
	w.mu.Lock()
	if w.over {
		w.mu.Unlock()
		return errStopping
	}
	err := w.raw.SetReadDeadline(deadline)
	w.mu.Unlock()
	if err == nil {
		err = w.read()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over && errors.Is(err, os.ErrDeadlineExceeded) {
		return errStopping
	}
	return err
}

// fillIdle is fill between two commands, when stop may interrupt it.
func (w *wire) fillIdle(deadline time.Time) error {
	if err := w.prepare(); err != nil {
		return err
	}
	w.mu.Lock()
	if w.stopping {
		w.mu.Unlock()
		return errStopping
	}
	w.waiting = true
	err := w.raw.SetReadDeadline(deadline)
	w.mu.Unlock()
	if err == nil {
		err = w.read()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = false
	if w.stopping && errors.Is(err, os.ErrDeadlineExceeded) {
		return errStopping
	}
	return err
}

// stop makes fillIdle return errStopping, now or the next time.
func (w *wire) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopping = true
	if w.waiting {
		_ = w.raw.SetReadDeadline(time.Unix(1, 0)) // fails on a closed connection only
	}
}

// cut makes every read return errStopping, now or the next time.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopping, w.over = true, true
	_ = w.raw.SetReadDeadline(time.Unix(1, 0)) // fails on a closed connection only
}

func (w *wire) prepare() error {
	if w.r > 0 {
		w.w = copy(w.buf, w.buf[w.r:w.w])
		w.r = 0
	}
	return w.flush()
}

func (w *wire) read() error {
	n, err := w.conn.Read(w.buf[w.w:])
	w.w += n
	if n > 0 {
		return nil
	}
	return err
}

// exactly reads n bytes and not one more: what follows may be for somebody else,
// as a TLS handshake is.
func (w *wire) exactly(n int, deadline time.Time) ([]byte, error) {
	b, own := make([]byte, n), w.buf
	w.buf, w.r, w.w = b, 0, 0
	defer func() { w.buf, w.r, w.w = own, 0, 0 }()
	for w.w < n {
		if err := w.fillIdle(deadline); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// line returns the next line with its LF; it stays valid until the next fill.
// The whole line must come before the deadline.
func (w *wire) line(limit int, timeout time.Duration) ([]byte, error) {
	w.shrink()
	var deadline time.Time
	for {
		b := w.buffered()
		if i := bytes.IndexByte(b[:min(len(b), limit)], '\n'); i >= 0 {
			w.advance(i + 1)
			return b[:i+1], nil
		}
		switch {
		case len(b) > 0 && isForeign(b[0]):
			return nil, errNotSMTP
		case len(b) >= limit:
			return nil, errLineLength
		case len(b) == len(w.buf):
			w.small = make([]byte, limit)
			w.moveTo(w.small)
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(timeout)
		}
		if err := w.fillIdle(deadline); err != nil {
			return nil, err
		}
	}
}

// isForeign tells a TLS ClientHello and other binary protocols, which may never
// send a line end, by their first byte.
func isForeign(c byte) bool { return c < ' ' && c != '\r' && c != '\n' && c != '\t' || c > '~' }

// send queues a reply.
func (w *wire) send(reply []byte) error {
	w.out = append(w.out, reply...)
	if len(w.out) > flushAbove {
		return w.flush()
	}
	return nil
}

func (w *wire) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	if err := w.raw.SetWriteDeadline(time.Now().Add(w.replyTimeout)); err != nil {
		return err
	}
	_, err := w.conn.Write(w.out)
	w.out = w.out[:0]
	if cap(w.out) > flushAbove {
		w.out = nil
	}
	return err
}

// upgrade puts TLS under what is read and written from now on.
func (w *wire) upgrade(conn net.Conn) {
	w.conn = conn
	w.r, w.w = 0, 0
}

// close gives the buffer back and closes. With linger it first reads a little
// of what the client still sends: to close on unread input resets the
// connection, and the reset may overtake our last reply.
func (w *wire) close(linger bool) {
	if w.flush() == nil && linger {
		if c, ok := w.raw.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
			_ = w.raw.SetReadDeadline(time.Now().Add(lingerTime))
			_, _ = io.Copy(io.Discard, io.LimitReader(w.raw, lingerSize))
		}
	}
	if w.big != nil {
		w.buffers.Put(w.big)
		w.big = nil
	}
	_ = w.conn.Close()
}
