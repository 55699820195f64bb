package forward

import (
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// mailCommand is MAIL with the arguments that the next hop understands. Others
// are dropped: the sender asked us, and we answered.
func (t *transaction) mailCommand(b []byte, e extensions) []byte {
	b = append(b, "MAIL FROM:"...)
	b = append(b, t.address(t.sender, e).Path()...)
	if e.size {
		b = append(b, " SIZE="...)
		b = strconv.AppendInt(b, t.content.Size(), 10)
	}
	if body, _ := t.sender.Arg("BODY"); e.eightBit && strings.EqualFold(body, "8BITMIME") {
		b = append(b, " BODY=8BITMIME"...)
	}
	if t.utf8 && e.utf8 {
		b = append(b, " SMTPUTF8"...)
	}
	if t.requireTLS && e.requireTLS {
		b = append(b, " REQUIRETLS"...)
	}
	if e.dsn {
		b = t.copyArg(b, t.sender, "RET", e)
		b = t.copyArg(b, t.sender, "ENVID", e)
	}
	return append(b, "\r\n"...)
}

// rcptCommand is RCPT, likewise.
func (t *transaction) rcptCommand(b []byte, i int, e extensions) []byte {
	r := t.recipients[i]
	b = append(b, "RCPT TO:"...)
	b = append(b, t.address(r, e).Path()...)
	if e.dsn {
		b = t.copyArg(b, r, "NOTIFY", e)
		b = t.copyArg(b, r, "ORCPT", e)
	}
	return append(b, "\r\n"...)
}

// copyArg passes an argument on as it came (RFC 3461 5.2.1 wants no less), if it
// still is one argument.
func (t *transaction) copyArg(b []byte, p mail.Path, keyword string, e extensions) []byte {
	v, ok := argument(p, keyword, t.utf8 && e.utf8)
	if !ok {
		return b
	}
	b = append(b, ' ')
	b = append(b, keyword...)
	b = append(b, '=')
	return append(b, v...)
}

const maxArg = 500 // RFC 3461 4.2: ORCPT

func argument(p mail.Path, keyword string, utf8 bool) (string, bool) {
	v, _ := p.Arg(keyword)
	if v == "" || len(v) > maxArg {
		return "", false
	}
	for i := range len(v) {
		if c := v[i]; c <= ' ' || c == 0x7f || c >= 0x80 && !utf8 {
			return "", false
		}
	}
	return v, true
}

// parseSize reads the argument of SIZE (RFC 1870 3): at most 20 digits.
func parseSize(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
