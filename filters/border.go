package filters

import (
	"strings"

	"gatepost/internal/mail"
)

// forged returns the edits that remove what only we may have written: the
// fields that we add ourselves, and Authentication-Results and Received-SPF in
// our name (RFC 8601 5). Our Received on top stays.
func forged(h mail.Header, hostname string) []mail.Edit {
	var edits []mail.Edit
	for i, f := range h {
		if isForged(f, hostname) {
			edits = append(edits, mail.DeleteHeader{At: i})
		}
	}
	return edits
}

func isForged(f mail.Field, hostname string) bool {
	name := strings.ToLower(f.Name())
	switch name {
	case "x-quarantine-id":
		return true
	case "authentication-results":
		return claims(f.Value(), hostname)
	case "received-spf": // RFC 7208 9.1: who says it is in a comment, or behind receiver=
		return strings.Contains(strings.ToLower(f.Value()), strings.ToLower(hostname))
	}
	for _, ours := range [...]string{"x-spam", "x-virus", "x-gatepost"} {
		if rest, ok := strings.CutPrefix(name, ours); ok && (rest == "" || rest[0] == '-') {
			return true
		}
	}
	return false
}

// claims reports whether Authentication-Results speak in the name of hostname,
// of a host below it, or of a domain that it is in: whoever trusts us may trust
// any of these. What can't be read is taken for a forgery, too: some reader
// behind us may read our name in it.
func claims(value, hostname string) bool {
	id, ok := authservID(value)
	if !ok {
		return true
	}
	id = strings.ToLower(strings.TrimSuffix(id, "."))
	host := strings.ToLower(strings.TrimSuffix(hostname, "."))
	return id == host || strings.HasSuffix(id, "."+host) || strings.HasSuffix(host, "."+id)
}

// authservID reads the authserv-id of Authentication-Results: a token or a
// quoted string, with comments and blanks around it and perhaps a version
// behind it (RFC 8601 2.2).
func authservID(s string) (id string, ok bool) {
	if s, ok = skipComments(s); !ok || s == "" {
		return "", false
	}
	if s[0] == '"' {
		id, s, ok = cutQuoted(s)
	} else {
		n := 0
		for n < len(s) && isToken(s[n]) {
			n++
		}
		id, s, ok = s[:n], s[n:], n > 0
	}
	if !ok || id == "" {
		return "", false
	}
	if s, ok = skipComments(s); !ok {
		return "", false
	}
	digits := strings.TrimLeft(s, "0123456789")
	if digits != s {
		if s, ok = skipComments(digits); !ok {
			return "", false
		}
	}
	return id, s == "" || s[0] == ';'
}

// skipComments drops blanks and comments, nested ones too (RFC 5322 3.2.2).
func skipComments(s string) (rest string, ok bool) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0:
			i++
		case depth == 0 && strings.IndexByte(" \t\r\n", c) < 0:
			return s[i:], true
		}
	}
	return "", depth == 0
}

// cutQuoted cuts a quoted string from the beginning of s.
func cutQuoted(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			i++
		}
		if i < len(s) {
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}

// isToken is RFC 2045 5.1.
func isToken(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte(`()<>@,;:\"/[]?=`, c) < 0
}
