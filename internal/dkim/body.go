package dkim

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// BodyHash returns the SHA-256 of a body as it is signed. It reads the body once
// and keeps no more of it than a buffer: memory does not depend on its lines. A
// body that ends before its size is an error.
func BodyHash(body *io.SectionReader, c Canon) ([]byte, error) {
	hash := sha256.New()
	w := &bodyWriter{out: bufio.NewWriterSize(hash, 32<<10), relaxed: c == Relaxed}
	if _, err := io.CopyN(w, body, body.Size()); err != nil {
		return nil, fmt.Errorf("dkim: reading the body: %w", noEOF(err))
	}
	w.end()
	if err := w.out.Flush(); err != nil {
		return nil, fmt.Errorf("dkim: hashing the body: %w", err)
	}
	return hash.Sum(nil), nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// bodyWriter writes a body in canonical form (RFC 6376 3.4.3, 3.4.4). What may
// turn out to stand at the end of a line or of the body is counted, not kept.
type bodyWriter struct {
	out     *bufio.Writer
	relaxed bool
	lines   int  // line ends, empty lines among them, that are owed
	blank   bool // a run of blanks is owed (relaxed)
	cr      bool // a CR was read and not written
	written bool // anything at all
}

func (w *bodyWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		w.add(rest[0])
		rest = rest[1:]
		if w.cr || w.blank || w.lines > 0 {
			continue
		}
		plain := bytes.IndexAny(rest, "\r \t") // most of a body, at once
		if plain < 0 {
			plain = len(rest)
		}
		w.out.Write(rest[:plain])
		rest = rest[plain:]
	}
	return len(p), nil // the hash never fails
}

func (w *bodyWriter) add(c byte) {
	if w.cr {
		w.cr = false
		if c == '\n' {
			w.endLine()
			return
		}
		w.text('\r')
	}
	switch {
	case c == '\r':
		w.cr = true
	case w.relaxed && (c == ' ' || c == '\t'):
		w.blank = true
	default:
		w.text(c)
	}
}

// endLine drops the blanks before it.
func (w *bodyWriter) endLine() {
	w.blank = false
	w.lines++
}

func (w *bodyWriter) text(c byte) {
	for ; w.lines > 0; w.lines-- {
		w.out.WriteString("\r\n")
	}
	if w.blank {
		w.out.WriteByte(' ')
		w.blank = false
	}
	w.out.WriteByte(c)
	w.written = true
}

// end drops the empty lines at the end. A body that has nothing else is empty
// in the relaxed form, and one line end in the simple one.
func (w *bodyWriter) end() {
	if w.cr {
		w.cr = false
		w.text('\r')
	}
	if w.written || !w.relaxed {
		w.out.WriteString("\r\n")
	}
}
