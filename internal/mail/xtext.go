package mail

import "fmt"

// Xtext encodes a value for an ESMTP argument (RFC 3461 4).
func Xtext(s string) string {
	var b []byte
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '+' || c == '=' {
			b = fmt.Appendf(b, "+%02X", c)
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}
