package proxy

import (
	"bytes"
	"errors"
)

// Why a message's text is refused (RFC 5321 2.3.8, RFC 5322 2.3). What one
// reader takes for a line end and the next does not is how a second message is
// smuggled inside the first.
var (
	errBareCR = errors.New("a CR without LF")
	errBareLF = errors.New("an LF without CR")
	errNUL    = errors.New("a NUL byte")
)

// scanner walks over the text of a message as it comes in, block by block in
// any division. With dots set it undoes the dot stuffing and finds the end,
// which is CRLF.CRLF and nothing else (RFC 5321 4.1.1.4, 4.5.2).
type scanner struct {
	dots   bool
	inLine bool // not at the beginning of a line
	cr     bool // the last byte was a CR
	nul    bool
	lf     bool  // a bare LF was seen
	crs    int64 // all CRs
	pairs  int64 // CRs with their LF
}

var endOfData = []byte(".\r\n")

// scan uses n bytes of b, which it may change, and returns the text in them;
// done when that is the last. What it leaves, at most two bytes, it wants to see
// again with more behind it.
func (s *scanner) scan(b []byte) (text []byte, n int, done bool) {
	w, i := 0, 0
	for i < len(b) {
		if s.dots && !s.inLine && b[i] == '.' {
			rest := b[i:]
			if bytes.HasPrefix(rest, endOfData) {
				i += len(endOfData)
				done = true
				break
			}
			if bytes.HasPrefix(endOfData, rest) {
				break
			}
			i++
		}
		end := len(b)
		if lf := bytes.IndexByte(b[i:], '\n'); lf >= 0 {
			end = i + lf + 1
		}
		s.line(b[i:end])
		if w != i {
			copy(b[w:], b[i:end])
		}
		w += end - i
		i = end
	}
	text = b[:w]
	s.crs += int64(bytes.Count(text, []byte{'\r'}))
	s.nul = s.nul || bytes.IndexByte(text, 0) >= 0
	return text, i, done
}

// line notes how b, a line or a part of one, ends.
func (s *scanner) line(b []byte) {
	last := len(b) - 1
	if b[last] != '\n' {
		s.inLine, s.cr = true, b[last] == '\r'
		return
	}
	if last > 0 && b[last-1] == '\r' || last == 0 && s.cr {
		s.pairs++
		s.inLine = false
	} else {
		s.lf = true
		s.inLine = true // a bare LF ends no line
	}
	s.cr = false
}

// fault is what is wrong with the text so far, nil for nothing. A CR that stands
// last may still get its LF.
func (s *scanner) fault() error {
	crs := s.crs
	if s.cr {
		crs--
	}
	switch {
	case s.nul:
		return errNUL
	case s.lf:
		return errBareLF
	case crs != s.pairs:
		return errBareCR
	}
	return nil
}

// finish tells that nothing follows.
func (s *scanner) finish() { s.cr = false }
