package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

var crlf = []byte("\r\n")

// Content is an open message: header, empty line, body. It can be read from
// several places at a time, and outlives the removal of the message.
type Content struct {
	spool  *Spool
	header []byte
	body   []byte   // where it is in memory
	file   *os.File // where it is not
	large  largeRef
	size   int64
	fresh  *fresh // whose memory this is; nil when it is our own

	mu     sync.RWMutex // a reader holds it, so that memory is not used again under him
	closed bool
}

// openLarge opens the file of a large message, which the caller holds for us.
// Where it comes from an earlier life of ours, it is read through once: nobody
// shall get bytes of another message, whatever happened to the records.
func (c *Content) openLarge(ref largeRef, verify bool) (err error) {
	if ref.name == "" {
		return nil
	}
	if c.file, err = c.spool.large.open(ref); err != nil {
		return err
	}
	c.large = ref
	if verify {
		if _, err = c.copyFile(io.Discard); err != nil {
			_ = c.file.Close()
			return err
		}
	}
	c.spool.large.hold(ref.name)
	return nil
}

// Size is that of the whole content.
func (c *Content) Size() int64 { return c.size }

// ReadAt reads header, empty line and body as one. At the end it returns io.EOF;
// a content that can't be read in full gives another error.
func (c *Content) ReadAt(p []byte, off int64) (int, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := c.usable(); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, errors.New("spool: negative offset")
	}
	n := 0
	for _, part := range [...][]byte{c.header, crlf, c.body} {
		if off < int64(len(part)) {
			m := copy(p[n:], part[off:])
			n += m
			off = 0
		} else {
			off -= int64(len(part))
		}
	}
	if c.file != nil && n < len(p) && off < c.size {
		m, err := c.readFile(p[n:], off)
		if n += m; err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readFile reads the body from offset off of it.
func (c *Content) readFile(p []byte, off int64) (int, error) {
	left := c.large.size - c.large.from - off
	if left <= 0 {
		return 0, nil
	}
	p = p[:min(int64(len(p)), left)]
	n, err := c.file.ReadAt(p, c.large.from+off)
	if n == len(p) {
		return n, nil
	}
	return n, fmt.Errorf("spool: %s: %w", c.large.name, noEOF(err))
}

func (c *Content) usable() error {
	if c.closed {
		return fmt.Errorf("spool: content: %w", ErrClosed)
	}
	if err := c.spool.step(stepRead); err != nil {
		return fmt.Errorf("spool: content: %w", err)
	}
	return nil
}

// WriteTo writes all of the content. An error means that it could not be read,
// or is not what was committed, as much as that it could not be written: what
// w got is not the message.
func (c *Content) WriteTo(w io.Writer) (int64, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := c.usable(); err != nil {
		return 0, err
	}
	var n int64
	for _, part := range [...][]byte{c.header, crlf, c.body} {
		m, err := w.Write(part)
		if n += int64(m); err != nil {
			return n, err
		}
	}
	if c.file == nil {
		return n, nil
	}
	m, err := c.copyFile(w)
	return n + m, err
}

// copyFile writes the body, and checks the sum of the file on the way.
func (c *Content) copyFile(w io.Writer) (int64, error) {
	buf := c.spool.buffers.get(copySize)
	defer c.spool.buffers.put(buf)
	var crc uint32
	var written int64
	for at := int64(0); at < c.large.size; {
		if err := c.usable(); err != nil {
			return written, err
		}
		p := buf.b[:min(copySize, c.large.size-at)]
		if _, err := c.file.ReadAt(p, at); err != nil {
			return written, fmt.Errorf("spool: %s: %w", c.large.name, noEOF(err))
		}
		crc = sum(crc, p)
		from := min(max(c.large.from-at, 0), int64(len(p)))
		at += int64(len(p))
		if at == c.large.size && crc != c.large.sum {
			return written, fmt.Errorf("spool: %s: %w", c.large.name, ErrDamaged)
		}
		m, err := w.Write(p[from:])
		if written += int64(m); err != nil {
			return written, err
		}
	}
	return written, nil
}

const copySize = 128 << 10

// Close gives back what the content holds.
func (c *Content) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	if c.fresh != nil {
		c.fresh.release(&c.spool.buffers)
	}
	if c.file == nil {
		return nil
	}
	c.spool.large.release(c.large.name)
	return c.file.Close()
}
