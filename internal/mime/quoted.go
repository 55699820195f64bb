package mime

// quotedDecoder decodes quoted-printable (RFC 2045 6.7): blanks at the end of a
// line go, an escape may be in small letters, what is none stays as it is.
type quotedDecoder struct {
	strict bool // only what the RFC allows is an escape

	state   quotedState
	digit   byte   // the first of an escape
	blanks  []byte // which may be at the end of a line
	strange bool
}

type quotedState int

const (
	quotedText  quotedState = iota
	quotedEqual             // behind =
	quotedHex               // behind = and one digit
	quotedSoft              // behind = and blanks
	quotedCR                // behind = and CR
)

// maxBlanks at the end of a line are kept back; more are content.
const maxBlanks = 1000

func (d *quotedDecoder) clone() decoder {
	c := *d
	c.blanks = append([]byte(nil), d.blanks...)
	return &c
}

func (d *quotedDecoder) odd() bool { return d.strange }

func (d *quotedDecoder) decode(dst, src []byte) []byte {
	for _, c := range src {
		dst = d.one(dst, c)
	}
	return dst
}

func (d *quotedDecoder) one(dst []byte, c byte) []byte {
	switch d.state {
	case quotedEqual:
		return d.escape(dst, c)
	case quotedHex:
		d.state = quotedText
		lo := hexDigit(c)
		if lo < 0 || d.strict && c >= 'a' {
			d.strange = true
			return d.one(append(dst, '=', d.digit), c)
		}
		if c >= 'a' {
			d.strange = true
		}
		return append(dst, byte(hexDigit(d.digit)<<4|lo))
	case quotedSoft:
		switch c {
		case ' ', '\t':
			if len(d.blanks) < maxBlanks {
				d.blanks = append(d.blanks, c)
			}
		case '\r':
			d.state = quotedCR
		case '\n':
			d.blanks, d.state = d.blanks[:0], quotedText
		default:
			d.strange, d.state = true, quotedText
			dst = append(append(dst, '='), d.blanks...)
			d.blanks = d.blanks[:0]
			return d.one(dst, c)
		}
		return dst
	case quotedCR:
		d.blanks, d.state = d.blanks[:0], quotedText
		if c == '\n' {
			return dst
		}
		d.strange = true // a CR alone was the end of the line
		return d.one(dst, c)
	}
	return d.text(dst, c)
}

func (d *quotedDecoder) text(dst []byte, c byte) []byte {
	switch {
	case c == ' ' || c == '\t':
		if len(d.blanks) < maxBlanks {
			d.blanks = append(d.blanks, c)
			return dst
		}
	case c == '\r' || c == '\n':
		d.blanks = d.blanks[:0]
		return append(dst, c)
	}
	if len(d.blanks) > 0 {
		dst = append(dst, d.blanks...)
		d.blanks = d.blanks[:0]
	}
	if c == '=' {
		d.state = quotedEqual
		return dst
	}
	return append(dst, c)
}

// escape takes the byte behind "=".
func (d *quotedDecoder) escape(dst []byte, c byte) []byte {
	switch {
	case hexDigit(c) >= 0 && !(d.strict && c >= 'a'):
		if c >= 'a' {
			d.strange = true
		}
		d.digit, d.state = c, quotedHex
		return dst
	case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		d.state = quotedSoft
		return d.one(dst, c)
	}
	d.strange, d.state = true, quotedText
	return d.one(append(dst, '='), c)
}

func (d *quotedDecoder) end(dst []byte) []byte {
	switch d.state {
	case quotedHex:
		d.strange = true
		dst = append(dst, '=', d.digit)
	}
	d.state, d.blanks = quotedText, d.blanks[:0]
	return dst
}

func (d *quotedDecoder) others() []decoder { return []decoder{&quotedDecoder{strict: true}} }
