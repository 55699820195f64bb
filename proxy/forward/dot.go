package forward

import (
	"bytes"
	"io"
)

const (
	blockSize  = 16 << 10                   // of content that is looked at in one go
	flushAt    = 64 << 10                   // bytes that are written at once
	bufferSize = flushAt + 2*blockSize + 16 // a block may double
)

// dotWriter writes a message as the data of SMTP: each line that begins with a
// dot gets another one (RFC 5321 4.5.2), each line ends in CRLF, and the whole
// ends in CRLF. A CR or LF that stands alone becomes CRLF: left alone, it might
// end a line for the next hop, and with a dot behind it the message.
type dotWriter struct {
	w    io.Writer
	dots bool   // false: somebody else does the dots
	buf  []byte // bufferSize large
	mid  bool   // in the middle of a line
	cr   bool   // the last byte was a CR, which is not written yet
	err  error  // of w
}

// Write takes content.
func (d *dotWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if d.err != nil {
			return len(p) - len(rest), d.err
		}
		n := min(len(rest), blockSize)
		if !d.plain(rest[:n]) {
			d.repair(rest[:n])
		}
		rest = rest[n:]
		if len(d.buf) >= flushAt {
			d.flush()
		}
	}
	return len(p), d.err
}

func (d *dotWriter) flush() {
	if d.err == nil {
		_, d.err = d.w.Write(d.buf)
	}
	d.buf = d.buf[:0]
}

// plain takes a block in which every CR and LF is part of a CRLF. Of another it
// takes nothing, and returns false.
func (d *dotWriter) plain(p []byte) bool {
	start, mid := len(d.buf), d.mid
	if d.cr {
		d.buf = append(d.buf, '\r')
	}
	lines, from, prev := 0, 0, d.cr
	for at := 0; at < len(p); {
		if p[at] == '.' && !mid && !prev && d.dots {
			d.buf = append(d.buf, p[from:at]...)
			d.buf = append(d.buf, '.')
			from = at
		}
		n := bytes.IndexByte(p[at:], '\n')
		if n < 0 {
			mid = true
			break
		}
		if n > 0 {
			prev = p[at+n-1] == '\r'
		}
		if !prev {
			d.buf = d.buf[:start]
			return false
		}
		at += n + 1
		lines++
		mid, prev = false, false
	}
	// Each LF has its CR. Each CR has its LF if there are as many.
	crs := bytes.Count(p, []byte{'\r'})
	last := p[len(p)-1] == '\r'
	if d.cr {
		crs++
	}
	if last {
		crs--
	}
	if crs != lines {
		d.buf = d.buf[:start]
		return false
	}
	if last {
		p = p[:len(p)-1]
	}
	d.buf = append(d.buf, p[from:]...)
	d.mid, d.cr = mid, last
	return true
}

// repair takes a block byte by byte.
func (d *dotWriter) repair(p []byte) {
	for _, c := range p {
		switch {
		case c == '\n':
			d.newline()
			continue
		case d.cr:
			d.newline()
		}
		if c == '\r' {
			d.cr = true
			continue
		}
		if c == '.' && !d.mid && d.dots {
			d.buf = append(d.buf, '.')
		}
		d.buf = append(d.buf, c)
		d.mid = true
	}
}

func (d *dotWriter) newline() {
	d.buf = append(d.buf, '\r', '\n')
	d.mid, d.cr = false, false
}

// end completes the last line and, where the dots are ours, ends the data.
func (d *dotWriter) end() error {
	if d.mid || d.cr {
		d.newline()
	}
	if d.dots {
		d.buf = append(d.buf, '.', '\r', '\n')
	}
	d.flush()
	return d.err
}
