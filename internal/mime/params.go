package mime

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// structured is a field such as Content-Type as programs read it, the broken
// ones included.
type structured struct {
	raw    string
	first  string  // what stands in front of the parameters, in lower case
	params []param // as the grammar has them
	loose  []param // found wherever "name=" stands, in quotes and without semicolon
}

// param is one parameter, or a section of one (RFC 2231).
type param struct {
	name     string // in lower case, without asterisks
	values   []string
	section  int  // -1 for none
	extended bool // its value is percent-encoded, and may have a charset
}

// parseStructured reads a field. keys are the parameters that are looked for
// with no regard to grammar.
func parseStructured(raw string, keys ...string) structured {
	raw = strings.Trim(raw, " \t\r\n\x00")
	s := structured{raw: raw}
	rest := ""
	s.first, rest = cutFirst(raw)
	s.params = grammatical(rest)
	for _, key := range keys {
		s.loose = append(s.loose, anywhere(raw, key)...)
	}
	return s
}

// cutFirst splits off what stands in front of the parameters.
func cutFirst(raw string) (first, rest string) {
	end := len(raw)
	for i := 0; i < len(raw); i++ {
		if raw[i] == '(' {
			i = skipComment(raw, i) - 1
			continue
		}
		if raw[i] == ';' || raw[i] == ',' {
			end = i
			break
		}
	}
	first = strings.ToLower(strings.Trim(withoutComments(raw[:end]), " \t\r\n\x00\"'"))
	return first, raw[end:]
}

const maxParams = 500

// grammatical reads parameters up to what can't be understood at all.
func grammatical(s string) []param {
	var found []param
	for i := 0; i < len(s) && len(found) < maxParams; {
		for i < len(s) && strings.IndexByte("; \t\r\n,\x00", s[i]) >= 0 {
			i++
		}
		eq := strings.IndexAny(s[i:], "=;")
		if eq < 0 {
			break
		}
		if s[i+eq] == ';' {
			i += eq
			continue
		}
		name := withoutComments(s[i : i+eq])
		values, next := readValue(s, i+eq+1)
		found = append(found, newParam(name, values))
		i = next
	}
	return found
}

// newParam takes the asterisks off a name (RFC 2231).
func newParam(name string, values []string) param {
	p := param{section: -1, values: values}
	name = strings.ToLower(strings.Trim(name, " \t\r\n\x00"))
	if n, ok := strings.CutSuffix(name, "*"); ok {
		name, p.extended = strings.TrimSpace(n), true
	}
	if base, number, ok := strings.Cut(name, "*"); ok {
		if n, err := strconv.Atoi(strings.TrimSpace(number)); err == nil && n >= 0 && n < 10_000 {
			p.section = n
		}
		name = strings.TrimSpace(base)
	}
	p.name = name
	return p
}

// readValue reads the value at s[i:] and returns what programs make of it, most
// of them first, and where the next parameter may begin.
func readValue(s string, i int) (values []string, next int) {
	for i < len(s) && strings.IndexByte(" \t\r\n", s[i]) >= 0 {
		i++
	}
	if i < len(s) && s[i] == '"' {
		return quotedValue(s, i+1)
	}
	end := i
	for end < len(s) && s[end] != ';' {
		end++
	}
	v := strings.Trim(s[i:end], " \t\r\n\x00")
	values = []string{v}
	if strings.Contains(v, "(") {
		values = with(values, strings.TrimSpace(withoutComments(v)))
	}
	if cut := strings.IndexAny(v, " \t\r\n"); cut > 0 {
		values = with(values, v[:cut])
	}
	if t := strings.Trim(v, `"'`); t != v {
		values = with(values, t)
	}
	return values, end
}

// quotedValue reads what stands behind a quotation mark.
func quotedValue(s string, i int) (values []string, next int) {
	var plain strings.Builder // backslashes taken as the grammar has them
	end := i
	for end < len(s) && s[end] != '"' {
		if s[end] == '\\' && end+1 < len(s) {
			end++
		}
		plain.WriteByte(s[end])
		end++
	}
	values = []string{plain.String()}
	raw := s[i:min(end, len(s))]
	values = with(values, raw) // backslashes of a path are often not doubled
	if end >= len(s) {         // no mark at its end
		if cut, _, ok := strings.Cut(raw, ";"); ok {
			values = with(values, strings.TrimSpace(cut))
		}
		return values, len(s)
	}
	end++
	tail := end
	for tail < len(s) && s[tail] != ';' {
		tail++
	}
	if more := strings.TrimSpace(withoutComments(s[end:tail])); more != "" && !strings.Contains(more, "=") {
		values = with(values, plain.String()+strings.Trim(more, `"`))
		return values, tail
	}
	return values, end
}

// with adds a value that is not there yet.
func with(values []string, v string) []string {
	if slices.Contains(values, v) {
		return values
	}
	return append(values, v)
}

// anywhere finds "key=" wherever it stands.
func anywhere(s, key string) []param {
	var found []param
	lower := asciiLower(s)
	for i := 0; len(found) < maxParams; {
		n := strings.Index(lower[i:], key)
		if n < 0 {
			return found
		}
		at := i + n
		i = at + len(key)
		if at > 0 && isTokenByte(lower[at-1]) {
			continue
		}
		j := i
		for j < len(s) && (s[j] == '*' || s[j] >= '0' && s[j] <= '9' || s[j] == ' ') {
			j++
		}
		name := s[at:j]
		for j < len(s) && strings.IndexByte(" \t\r\n\x00", s[j]) >= 0 {
			j++
		}
		if j >= len(s) || s[j] != '=' {
			continue
		}
		values, _ := readValue(s, j+1)
		found = append(found, newParam(name, values))
	}
	return found
}

// asciiLower keeps the length, which strings.ToLower does not.
func asciiLower(s string) string { return string(lowered([]byte(s))) }

func lowered(s []byte) []byte {
	b := bytes.Clone(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}

func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

// maxComment keeps many that don't end from being read to the end again and again.
const maxComment = 512

// skipComment returns the index behind the comment that begins at s[i]; of one
// without end the index behind its first byte.
func skipComment(s string, i int) int {
	depth := 0
	for j := i; j < min(len(s), i+maxComment); j++ {
		switch s[j] {
		case '\\':
			j++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return j + 1
			}
		}
	}
	return i + 1
}

// withoutComments leaves out comments that are not in quotes.
func withoutComments(s string) string {
	if !strings.Contains(s, "(") {
		return s
	}
	var out strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted && i+1 < len(s):
			out.WriteByte(s[i])
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '(' && !quoted:
			if end := skipComment(s, i); end > i+1 {
				i = end - 1
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
