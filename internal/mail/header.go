package mail

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Field is one header field, byte for byte as it came: name, colon, value,
// folding, and the CRLF at its end.
type Field struct {
	raw  []byte
	name int // length of the name
}

// Raw returns the field's bytes, CRLF included. They must not be changed.
func (f Field) Raw() []byte { return f.raw }

// Name returns the name as written, without the blanks that some put before
// the colon ("From :" is From: every client shows it so).
func (f Field) Name() string { return string(f.raw[:f.name]) }

// Is compares the name without regard to case.
func (f Field) Is(name string) bool {
	return len(name) == f.name && strings.EqualFold(string(f.raw[:f.name]), name)
}

// Value returns what stands behind the colon: unfolded, without the blanks
// around it.
func (f Field) Value() string {
	v := f.raw[f.name:]
	v = v[bytes.IndexByte(v, ':')+1:]
	v = bytes.ReplaceAll(v, []byte("\r\n"), nil)
	return string(bytes.Trim(v, " \t"))
}

const (
	foldAt    = 78  // RFC 5322 2.1.1: should
	maxLine   = 998 // RFC 5322 2.1.1: must
	maxInsert = 64 << 10
)

// NewField makes a field of ours. The value comes from anywhere: CR, LF, NUL
// and other controls become blanks, so a value can't begin a new field; the
// line is folded at blanks.
func NewField(name, value string) Field {
	if len(value) > maxInsert {
		value = value[:maxInsert]
	}
	value = CleanText(value)
	var b bytes.Buffer
	b.WriteString(name)
	b.WriteByte(':')
	width := b.Len()
	for i, word := range strings.Fields(value) {
		if i > 0 && width+1+len(word) > foldAt {
			b.WriteString("\r\n")
			width = 0
		}
		for len(word) > maxLine-1-width {
			cut := maxLine - 1 - width
			for cut > 0 && !utf8.RuneStart(word[cut]) {
				cut--
			}
			b.WriteByte(' ')
			b.WriteString(word[:cut])
			b.WriteString("\r\n")
			word, width = word[cut:], 0
		}
		b.WriteByte(' ')
		b.WriteString(word)
		width += 1 + len(word)
	}
	b.WriteString("\r\n")
	return Field{raw: b.Bytes(), name: len(name)}
}

// CleanText makes text of unknown origin fit for a header value, a reply or a
// log line: controls become blanks, broken UTF-8 becomes "?".
func CleanText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r >= 0x7f && r <= 0x9f || r == 0x2028 || r == 0x2029:
			return ' '
		case r == utf8.RuneError:
			return '?'
		}
		return r
	}, s)
}

// Header is the fields of a message in their order.
type Header []Field

// Get returns the value of the first field of that name, "" when there is none.
func (h Header) Get(name string) string {
	for _, f := range h {
		if f.Is(name) {
			return f.Value()
		}
	}
	return ""
}

// Count returns how many fields have that name.
func (h Header) Count(name string) int {
	n := 0
	for _, f := range h {
		if f.Is(name) {
			n++
		}
	}
	return n
}

// Size is the length of the header in bytes, without the empty line.
func (h Header) Size() int64 {
	var n int64
	for _, f := range h {
		n += int64(len(f.raw))
	}
	return n
}

// Bytes returns the header as it goes out, without the empty line.
func (h Header) Bytes() []byte {
	b := make([]byte, 0, h.Size())
	for _, f := range h {
		b = append(b, f.raw...)
	}
	return b
}

// Limits on a header. They stand far above what mail needs and far below what
// makes a filter slow.
const (
	MaxHeaderSize  = 256 << 10
	MaxHeaderField = 64 << 10
	MaxHeaderCount = 1000
)

// ErrHeader is wrapped by all that SplitHeader refuses.
var ErrHeader = errors.New("header")

// SplitHeader splits a message into its header and the offset of its body. b is
// the beginning of the message, at least MaxHeaderSize+2 bytes of it or all.
//
// There is one rule for every consumer: the header ends at the first empty
// line, or before the first line that is neither a field (a name of printable
// ASCII, optional blanks, a colon) nor the continuation of one. What is sent
// on has the empty line in either case, so nobody behind us can split the
// message in another place.
func SplitHeader(b []byte) (Header, int, error) {
	var h Header
	at := 0
	for at < len(b) {
		if bytes.HasPrefix(b[at:], crlf) {
			return h, at + len(crlf), nil
		}
		name, ok := fieldName(b[at:])
		if !ok {
			break
		}
		end := at
		for {
			n := bytes.Index(b[end:], crlf)
			if n < 0 {
				end = len(b)
				break
			}
			end += n + len(crlf)
			if end >= len(b) || b[end] != ' ' && b[end] != '\t' {
				break
			}
		}
		raw := b[at:end:end]
		if !bytes.HasSuffix(raw, crlf) {
			raw = append(raw, crlf...)
		}
		switch {
		case end > MaxHeaderSize:
			return nil, 0, fmt.Errorf("%w: larger than %d bytes", ErrHeader, MaxHeaderSize)
		case end-at > MaxHeaderField:
			return nil, 0, fmt.Errorf("%w: a field larger than %d bytes", ErrHeader, MaxHeaderField)
		case len(h) == MaxHeaderCount:
			return nil, 0, fmt.Errorf("%w: more than %d fields", ErrHeader, MaxHeaderCount)
		}
		h = append(h, Field{raw: raw, name: name})
		at = end
	}
	return h, at, nil
}

var crlf = []byte("\r\n")

// fieldName returns the length of the name at the beginning of line, and
// whether there is one.
func fieldName(line []byte) (int, bool) {
	n := 0
	for n < len(line) && line[n] > ' ' && line[n] < 0x7f && line[n] != ':' {
		n++
	}
	i := n
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	return n, n > 0 && i < len(line) && line[i] == ':'
}

// RawField makes a field of its bytes, which must be one field and nothing
// else: the name, a colon, a value, folded or not, and a CRLF at the end.
func RawField(raw string) (Field, bool) {
	h, at, err := SplitHeader([]byte(raw))
	if err != nil || len(h) != 1 || at != len(raw) || !strings.HasSuffix(raw, "\r\n") {
		return Field{}, false
	}
	return h[0], true
}
