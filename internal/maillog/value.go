package maillog

import (
	"fmt"
	"log/slog"
	"strconv"
	"time"
	"unicode/utf8"
)

const (
	maxValue = 1 << 10 // bytes of a value, before quoting
	maxStack = 8 << 10 // of a stack trace
)

func limitOf(key string) int {
	if key == "stack" {
		return maxStack
	}
	return maxValue
}

// isAddress tells the keys whose values stand in angle brackets.
func isAddress(key string) bool {
	switch key {
	case "from", "to", "sender", "rcpt", "recipient", "orig_to":
		return true
	}
	return false
}

// appendValue writes a value in the form that its kind and key ask for.
func appendValue(b []byte, key string, v slog.Value) []byte {
	v = v.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return appendString(b, key, v.String())
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindFloat64:
		return strconv.AppendFloat(b, v.Float64(), 'g', -1, 64)
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindDuration:
		return appendSeconds(b, v.Duration())
	case slog.KindTime:
		return v.Time().UTC().AppendFormat(b, timeLayout)
	}
	switch x := v.Any().(type) {
	case []string:
		return appendList(b, key, x)
	case error:
		return appendString(b, key, errorText(x))
	}
	return appendString(b, key, fmt.Sprint(v.Any())) // Sprint survives what panics
}

// errorText asks an error for its text; one that panics must not end us.
func errorText(err error) (s string) {
	defer func() {
		if p := recover(); p != nil {
			s = fmt.Sprintf("error text panicked: %v", p)
		}
	}()
	return err.Error()
}

// appendSeconds writes 0.123.
func appendSeconds(b []byte, d time.Duration) []byte {
	if d < 0 {
		b, d = append(b, '-'), -d
	}
	ms := d.Round(time.Millisecond).Milliseconds()
	b = strconv.AppendInt(b, ms/1000, 10)
	b = append(b, '.')
	for _, unit := range [...]int64{100, 10, 1} {
		b = append(b, byte('0'+ms/unit%10))
	}
	return b
}

// appendList writes the values with commas, up to the limit of one.
func appendList(b []byte, key string, list []string) []byte {
	start := len(b)
	for i, s := range list {
		if len(b)-start > maxValue {
			return fmt.Appendf(b, ",...(%d more)", len(list)-i)
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, key, s)
	}
	return b
}

func appendString(b []byte, key, s string) []byte {
	s = cut(s, limitOf(key))
	if isAddress(key) {
		return appendAddress(b, s)
	}
	if s == "" || needsQuotes(s, false) {
		return appendQuoted(b, s)
	}
	return append(b, s...)
}

func appendAddress(b []byte, s string) []byte {
	if n := len(s); n > 1 && s[0] == '<' && s[n-1] == '>' {
		s = s[1 : n-1]
	}
	if needsQuotes(s, true) {
		return appendQuoted(b, "<"+s+">")
	}
	b = append(b, '<')
	b = append(b, s...)
	return append(b, '>')
}

// cut bounds s at the beginning of a rune.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	n := limit
	for n > limit-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return fmt.Sprintf("%s...(%d more bytes)", s[:n], len(s)-n)
}

// needsQuotes reports whether s could be taken for something else than one
// value, or is not printable.
func needsQuotes(s string, address bool) bool {
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 || !strconv.IsPrint(r) {
				return true
			}
			i += n
			continue
		}
		if c <= ' ' || c == 0x7f || c == '"' || c == ',' || c == '\\' || address && (c == '<' || c == '>') {
			return true
		}
		i++
	}
	return false
}

// appendQuoted writes s between quotes, on one line and printable.
func appendQuoted(b []byte, s string) []byte { return strconv.AppendQuote(b, s) }

// appendText writes the message of an event: as it is, if that is one line.
func appendText(b []byte, s string) []byte {
	s = cut(s, maxValue)
	for _, r := range s {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			return appendQuoted(b, s)
		}
	}
	return append(b, s...)
}
