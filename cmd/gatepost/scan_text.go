package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

// sent is a message as a client would send it.
type sent struct {
	file      *os.File // without a name; Close frees it
	size      int64
	converted bool   // LF became CRLF
	wrong     string // why no client could send it to us
}

// asSent copies a message into a temporary file with CRLF at the ends of lines.
// What the gateway refuses whatever the rules say is noted, not mended. The
// "From " line of a mailbox is dropped.
func asSent(in io.Reader, limit int64) (*sent, error) {
	f, err := os.CreateTemp("", "gatepost-scan-")
	if err != nil {
		return nil, err
	}
	c := &sent{file: f}
	if err = os.Remove(f.Name()); err == nil {
		err = c.copy(in, limit)
	}
	if err != nil {
		_ = f.Close() // it has no name any more
		return nil, err
	}
	return c, nil
}

func (c *sent) copy(in io.Reader, limit int64) error {
	r, w := bufio.NewReaderSize(in, 64<<10), bufio.NewWriterSize(c.file, 64<<10)
	if head, _ := r.Peek(5); string(head) == "From " {
		if _, err := r.ReadString('\n'); err != nil && err != io.EOF {
			return err
		}
	}
	last := byte('\n')
	for c.size <= limit {
		b, err := r.ReadByte()
		if err == io.EOF {
			c.end(w, last)
			return w.Flush()
		}
		if err != nil {
			return err
		}
		c.add(w, last, b)
		last = b
	}
	c.wrong = fmt.Sprintf("larger than max_size, %d bytes", limit)
	return nil
}

// add writes one byte; the writer remembers its error until Flush.
func (c *sent) add(w *bufio.Writer, last, b byte) {
	switch {
	case b == 0:
		c.wrong = "holds a NUL, which is refused"
	case last == '\r' && b != '\n':
		c.wrong = "holds a bare CR, which is refused"
	case b == '\n' && last != '\r':
		_ = w.WriteByte('\r')
		c.size++
		c.converted = true
	}
	_ = w.WriteByte(b)
	c.size++
}

// end gives the last line its end.
func (c *sent) end(w *bufio.Writer, last byte) {
	if last != '\n' {
		c.add(w, last, '\n')
	}
}
