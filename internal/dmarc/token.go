package dmarc

import "strings"

// token is a word, or one character with a meaning of its own.
type token struct {
	kind kind
	text string // without quotes
	raw  string
}

type kind int

const (
	word kind = iota
	special
)

const maxComments = 20 // in each other

// split takes a value apart: words, quoted strings, and the characters of RFC
// 5322 3.2.3 that have a meaning; comments are left out. An address stays one
// word, with its "@", so that blanks in it, which readers take in different
// ways, show.
func split(s string) (tokens []token, ok bool) {
	for s = strings.TrimLeft(s, " \t"); s != ""; s = strings.TrimLeft(s, " \t") {
		switch c := s[0]; {
		case c == '(':
			rest, ok := comment(s)
			if !ok {
				return nil, false
			}
			s = rest
		case strings.IndexByte(`)<>[]:;,\`, c) >= 0:
			tokens = append(tokens, token{special, s[:1], s[:1]})
			s = s[1:]
		default:
			n, text, ok := oneWord(s)
			if !ok {
				return nil, false
			}
			tokens = append(tokens, token{word, text, s[:n]})
			s = s[n:]
		}
	}
	return tokens, true
}

// oneWord reads up to the next blank or character with a meaning; quoted strings
// are parts of words, as in "john"@example.com.
func oneWord(s string) (n int, text string, ok bool) {
	var b strings.Builder
	for n < len(s) && strings.IndexByte(" \t()<>[]:;,\\", s[n]) < 0 {
		if s[n] != '"' {
			b.WriteByte(s[n])
			n++
			continue
		}
		for n++; ; n++ {
			if n == len(s) {
				return 0, "", false
			}
			if s[n] == '"' {
				n++
				break
			}
			if s[n] == '\\' {
				if n++; n == len(s) {
					return 0, "", false
				}
			}
			b.WriteByte(s[n])
		}
	}
	if n < len(s) && s[n] == '(' { // some read the comment as a part of it
		return 0, "", false
	}
	return n, b.String(), n > 0
}

func comment(s string) (rest string, ok bool) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			if depth++; depth > maxComments {
				return "", false
			}
		case ')':
			if depth--; depth == 0 {
				return s[i+1:], true
			}
		}
	}
	return "", false
}

// unquoted is a value without its quoted strings and comments.
func unquoted(s string) string {
	tokens, _ := split(s)
	var b strings.Builder
	for _, t := range tokens {
		if !strings.Contains(t.raw, `"`) {
			b.WriteString(t.raw + " ")
		}
	}
	return b.String()
}
