package rewrite

import (
	"bytes"
	"strings"

	"gatepost/internal/mail"
)

// rewriteField changes the addresses of a field and nothing else of it. A field
// that can't be read for sure stays as it is.
func rewriteField(f mail.Field, rewrite func(mail.Address) (mail.Address, bool)) (mail.Field, bool) {
	raw := f.Raw()
	colon := bytes.IndexByte(raw, ':') + 1
	value := string(raw[colon:])
	spans, ok := addressSpans(value)
	if !ok {
		return f, false
	}
	var b strings.Builder
	at, changed := 0, false
	for _, s := range spans {
		a, err := mail.ParseAddress(value[s.from:s.to], true)
		if err != nil {
			continue
		}
		if to, is := rewrite(a); is {
			b.WriteString(value[at:s.from] + to.String())
			at, changed = s.to, true
		}
	}
	if !changed {
		return f, false
	}
	b.WriteString(value[at:])
	return mail.RawField(string(raw[:colon]) + b.String())
}

// span is where an address stands.
type span struct{ from, to int }

// addressSpans finds the addresses of an RFC 5322 address list. ok is false
// where it is not one.
func addressSpans(s string) (spans []span, ok bool) {
	p := lister{text: s}
	for p.at < len(s) {
		if !p.step() {
			return nil, false
		}
	}
	return append(p.spans, p.bare()...), true
}

// lister walks through an address list.
type lister struct {
	text  string
	at    int
	spans []span
	from  int // of the present bare address; to is its end; equal: none
	to    int
	split bool // it has blanks or comments inside, or is a name before "<"
}

func (p *lister) step() bool {
	switch c := p.text[p.at]; c {
	case ' ', '\t', '\r', '\n':
		p.at++
	case '(':
		return p.comment()
	case '"':
		start := p.at
		if !p.quoted() {
			return false
		}
		p.word(start)
	case '<':
		return p.angle()
	case ',', ';', ':':
		if c != ':' {
			p.spans = append(p.spans, p.bare()...)
		}
		p.from, p.to, p.split = 0, 0, false
		p.at++
	case '>', ')':
		return false
	default:
		start := p.at
		for p.at < len(p.text) && !strings.ContainsRune(" \t\r\n(\"<,;:>)", rune(p.text[p.at])) {
			p.at++
		}
		p.word(start)
	}
	return true
}

// word adds what was just read to the present address.
func (p *lister) word(start int) {
	switch {
	case p.from == p.to:
		p.from = start
	case start != p.to:
		p.split = true
	}
	p.to = p.at
}

// bare is the address that ended, if it was one.
func (p *lister) bare() []span {
	if p.split || p.from == p.to || !strings.Contains(p.text[p.from:p.to], "@") {
		return nil
	}
	return []span{{p.from, p.to}}
}

func (p *lister) quoted() bool {
	for p.at++; p.at < len(p.text); p.at++ {
		switch p.text[p.at] {
		case '\\':
			p.at++
		case '"':
			p.at++
			return true
		}
	}
	return false
}

const maxComments = 20 // inside each other

func (p *lister) comment() bool {
	depth := 0
	for ; p.at < len(p.text); p.at++ {
		switch p.text[p.at] {
		case '\\':
			p.at++
		case '(':
			if depth++; depth > maxComments {
				return false
			}
		case ')':
			if depth--; depth == 0 {
				p.at++
				return true
			}
		}
	}
	return false
}

// angle reads "<address>". What stands before it is a name.
func (p *lister) angle() bool {
	start := p.at + 1
	for p.at++; p.at < len(p.text); {
		switch p.text[p.at] {
		case '"':
			if !p.quoted() {
				return false
			}
		case '<':
			return false
		case '>':
			p.spans = append(p.spans, span{start, p.at})
			p.at++
			p.from, p.to, p.split = p.at, p.at, true // nothing more before the comma
			return true
		default:
			p.at++
		}
	}
	return false
}
