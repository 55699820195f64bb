package maillog

import (
	"log/slog"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Parts of a line of RFC 5424. The number behind @ is the one that RFC 5612 has
// for documents: we have none of our own.
const (
	facilityMail   = 2
	structuredName = "gatepost@32473"
	longestName    = 32 // of MSGID and of a parameter (RFC 5424 6.2.7, 6.3.3)
)

// syslogFrame writes the header of RFC 5424 with all attributes as structured
// data, and what message makes behind it.
func syslogFrame(host string, message render) render {
	pid := strconv.Itoa(os.Getpid())
	return func(b []byte, e *event) []byte {
		b = append(b, '<')
		b = strconv.AppendInt(b, int64(facilityMail*8+severity(e.level)), 10)
		b = append(b, ">1 "...)
		if e.time.IsZero() {
			b = append(b, '-')
		} else {
			b = e.time.UTC().AppendFormat(b, timeLayout)
		}
		for _, s := range []string{host, "gatepost", pid, e.message} {
			b = append(append(b, ' '), syslogName(s, longestName)...)
		}
		b = appendStructured(append(b, ' '), e)
		return message(append(b, ' '), e)
	}
}

// severity is that of RFC 5424 6.2.1.
func severity(l slog.Level) int {
	switch {
	case l < slog.LevelInfo:
		return 7
	case l < slog.LevelWarn:
		return 6
	case l < slog.LevelError:
		return 4
	}
	return 3
}

// syslogName keeps what may stand in a field of the header: printable ASCII.
func syslogName(s string, longest int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r < '!' || r > '~' || r == '=' || r == ']' || r == '"':
			return -1
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), longest)]
}

func appendStructured(b []byte, e *event) []byte {
	if len(e.pairs) == 0 {
		return append(b, '-')
	}
	b = append(append(b, '['), structuredName...)
	for _, p := range e.pairs {
		b = append(append(b, ' '), syslogName(p.key, longestName)...)
		b = append(b, '=', '"')
		b = appendEscaped(b, p.value, `"\]`)
		b = append(b, '"')
	}
	return append(b, ']')
}

// appendEscaped writes s with a backslash before each of the special bytes, and
// with what is not printable as Go would write it: one line stays one line.
func appendEscaped(b []byte, s, special string) []byte {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, `\x`...)
			b = append(b, "0123456789abcdef"[s[i]>>4], "0123456789abcdef"[s[i]&15])
		case strings.ContainsRune(special, r):
			b = append(append(b, '\\'), s[i:i+n]...)
		case !strconv.IsPrint(r):
			quoted := strconv.QuoteRuneToASCII(r)
			b = append(b, quoted[1:len(quoted)-1]...)
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return b
}
