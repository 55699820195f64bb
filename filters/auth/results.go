package auth

import (
	"strings"

	"gatepost/internal/dmarc"
)

// properties prints pairs of name and value as they stand in
// Authentication-Results. What has no value, or one that is not of the plain
// characters that domain names, selectors and addresses have, is left out:
// nothing that a sender writes can end a property and begin another.
func properties(pairs ...string) string {
	var list []string
	for i := 0; i+1 < len(pairs); i += 2 {
		if v := pairs[i+1]; isPlain(v) {
			list = append(list, pairs[i]+"="+v)
		}
	}
	return strings.Join(list, " ")
}

const maxValue = 255

func isPlain(s string) bool {
	return s != "" && len(s) <= maxValue && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789.-_:+/=") == ""
}

// saysPass reports whether results of somebody else (RFC 8601 2.2) say dmarc=pass
// of a domain. Anything that two readers could take apart in different ways is
// not read: quoted strings stand for nothing, and one word too many ends it.
func saysPass(results, domain string) bool {
	parts, ok := plainParts(results)
	if !ok || len(parts) < 2 {
		return false
	}
	verdicts := 0
	passed := false
	for _, words := range parts[1:] {
		if len(words) == 0 || !strings.HasPrefix(words[0], "dmarc=") {
			continue
		}
		verdicts++
		from := ""
		for _, w := range words[1:] {
			if d, ok := strings.CutPrefix(w, "header.from="); ok {
				if from != "" {
					return false
				}
				from = d
			}
		}
		passed = words[0] == "dmarc=pass" && from != "" && dmarc.ASCII(from) == domain
	}
	return verdicts == 1 && passed
}

// plainParts splits results at semicolons, and each part into words in lower
// case, without comments and without blanks around "=". A quoted string becomes
// a word that fits nothing.
func plainParts(s string) (parts [][]string, ok bool) {
	var b strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case (quoted || depth > 0) && c == '\\':
			i++
		case quoted:
			quoted = c != '"'
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth < 0 {
				return nil, false
			}
			b.WriteByte(' ')
		case depth > 0:
		case c == '"':
			quoted = true
			b.WriteByte('?')
		case c == '\\' || c < ' ' && c != '\t' && c != '\r' && c != '\n' || c > '~':
			return nil, false
		default:
			b.WriteByte(c)
		}
	}
	if depth != 0 || quoted {
		return nil, false
	}
	for part := range strings.SplitSeq(strings.ToLower(b.String()), ";") {
		words := strings.Fields(strings.ReplaceAll(part, "=", " = "))
		parts = append(parts, strings.Fields(strings.ReplaceAll(strings.Join(words, " "), " = ", "=")))
	}
	return parts, true
}
