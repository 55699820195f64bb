package queue

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// decodeXtext undoes the xtext of RFC 3461 4. ok is false where s is none, or
// where it hides anything but printable ASCII: what is decoded goes into a
// field of ours.
func decodeXtext(s string) (text string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if i+2 >= len(s) {
				return "", false
			}
			high, low := hexDigit(s[i+1]), hexDigit(s[i+2])
			if high < 0 || low < 0 {
				return "", false
			}
			c = byte(high<<4 | low)
			i += 2
		} else if c == '=' {
			return "", false
		}
		if c < ' ' || c > '~' {
			return "", false
		}
		b.WriteByte(c)
	}
	return b.String(), true
}

// hexDigit returns the value of an upper-case digit, which is what xtext has,
// or of a lower-case one, which is what some send.
func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// utf8Xtext writes a as utf-8-addr-xtext (RFC 6533 3): ASCII, for the
// message/delivery-status of the ASCII world.
func utf8Xtext(a string) string {
	var b strings.Builder
	for _, r := range a {
		switch {
		case r == utf8.RuneError:
			b.WriteByte('?')
		case r > ' ' && r < 0x7f && r != '\\' && r != '+' && r != '=':
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\x{%02X}`, r)
		}
	}
	return b.String()
}
