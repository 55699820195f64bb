package config

import (
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
)

// node is a key of the file, or an element of an array, with the place where it
// stands. The tree of nodes has the shape of what the decoder returns.
type node struct {
	at    int // byte offset
	keys  map[string]*node
	items []*node
}

// child returns the node below a key, or nil.
func (n *node) child(key string) *node {
	if n == nil {
		return nil
	}
	return n.keys[key]
}

// item returns the i-th element, or nil.
func (n *node) item(i int) *node {
	if n == nil || i >= len(n.items) {
		return nil
	}
	return n.items[i]
}

// scanner finds the places of keys in a text that the decoder has accepted. It
// is tolerant: text that it doesn't understand costs a position, nothing else.
type scanner struct {
	text string
	at   int
}

// scan returns the tree of all keys in text.
func scan(text string) *node {
	s := &scanner{text: text}
	root := &node{}
	here := root
	for s.blank(); s.at < len(s.text); s.blank() {
		before := s.at
		if s.text[s.at] == '[' {
			here = s.header(root)
		} else {
			s.pair(here)
		}
		if s.at == before {
			s.at++
		}
	}
	return root
}

// header reads [a.b] or [[a.b]] and returns the table that it opens.
func (s *scanner) header(root *node) *node {
	array := strings.HasPrefix(s.text[s.at:], "[[")
	s.at++
	if array {
		s.at++
	}
	n, _ := s.path(root)
	if array {
		n.items = append(n.items, &node{at: n.at})
		n = n.items[len(n.items)-1]
	}
	for s.at < len(s.text) && s.text[s.at] == ']' {
		s.at++
	}
	return n
}

// pair reads key = value.
func (s *scanner) pair(table *node) {
	n, ok := s.path(table)
	s.blanks()
	if ok && s.at < len(s.text) && s.text[s.at] == '=' {
		s.at++
		s.blanks()
		s.value(n)
		return
	}
	s.line()
}

// path reads a dotted key and returns its node below table, which it makes
// where it is new. A name that is an array of tables means its last table.
func (s *scanner) path(table *node) (n *node, ok bool) {
	n = table
	for {
		s.blanks()
		at := s.at
		name, ok := s.name(" \t\r\n.=]#\"'[{},")
		if !ok {
			return n, false
		}
		if len(n.items) > 0 {
			n = n.items[len(n.items)-1]
		}
		next := n.keys[name]
		if next == nil {
			next = &node{at: at}
			if n.keys == nil {
				n.keys = make(map[string]*node)
			}
			n.keys[name] = next
		}
		n = next
		s.blanks()
		if s.at == len(s.text) || s.text[s.at] != '.' {
			return n, true
		}
		s.at++
	}
}

// name reads one part of a key, which ends before one of the bytes of end where
// it has no quotes.
func (s *scanner) name(end string) (string, bool) {
	if s.at == len(s.text) {
		return "", false
	}
	start := s.at
	switch s.text[s.at] {
	case '"', '\'':
		s.quoted()
		var v struct{ K string }
		if _, err := toml.Decode("K = "+s.text[start:s.at], &v); err != nil {
			return "", false
		}
		return v.K, true
	}
	for s.at < len(s.text) && strings.IndexByte(end, s.text[s.at]) < 0 {
		s.at++
	}
	return s.text[start:s.at], s.at > start
}

// value skips a value and notes the elements and keys inside it.
func (s *scanner) value(n *node) {
	if s.at == len(s.text) {
		return
	}
	switch s.text[s.at] {
	case '"', '\'':
		s.quoted()
	case '[':
		s.list(']', func() {
			item := &node{at: s.at}
			n.items = append(n.items, item)
			s.value(item)
		})
	case '{':
		s.list('}', func() { s.pair(n) })
	default:
		for s.at < len(s.text) && strings.IndexByte(",]}#\r\n", s.text[s.at]) < 0 {
			s.at++
		}
	}
}

// list reads what stands between brackets, separated by commas.
func (s *scanner) list(end byte, element func()) {
	s.at++
	for s.blank(); s.at < len(s.text) && s.text[s.at] != end; s.blank() {
		before := s.at
		if s.text[s.at] == ',' {
			s.at++
			continue
		}
		element()
		if s.at == before {
			s.at++
		}
	}
	if s.at < len(s.text) {
		s.at++
	}
}

// quoted skips a string of any of the four kinds.
func (s *scanner) quoted() {
	quote := s.text[s.at : s.at+1]
	escapes := quote == `"`
	if strings.HasPrefix(s.text[s.at:], strings.Repeat(quote, 3)) {
		quote = strings.Repeat(quote, 3)
	}
	s.at += len(quote)
	for s.at < len(s.text) && !strings.HasPrefix(s.text[s.at:], quote) {
		if escapes && s.text[s.at] == '\\' {
			s.at++
		}
		s.at++
	}
	s.at = min(s.at+len(quote), len(s.text))
	// Up to two quotes may stand before the closing three.
	for i := 0; len(quote) == 3 && i < 2 && s.at < len(s.text) && s.text[s.at] == quote[0]; i++ {
		s.at++
	}
}

// blanks skips blanks and tabs; blank also line ends and comments.
func (s *scanner) blanks() {
	for s.at < len(s.text) && (s.text[s.at] == ' ' || s.text[s.at] == '\t') {
		s.at++
	}
}

func (s *scanner) blank() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		case '#':
			s.line()
		default:
			return
		}
	}
}

func (s *scanner) line() {
	if i := strings.IndexByte(s.text[s.at:], '\n'); i >= 0 {
		s.at += i
	} else {
		s.at = len(s.text)
	}
}

// lines turns offsets into positions.
type lines struct{ starts []int }

func newLines(text string) lines {
	starts := []int{0}
	for i := range len(text) {
		if text[i] == '\n' {
			starts = append(starts, i+1)
		}
	}
	return lines{starts}
}

func (l lines) position(offset int) Position {
	i := sort.SearchInts(l.starts, offset+1) - 1
	return Position{Line: i + 1, Column: offset - l.starts[i] + 1}
}
