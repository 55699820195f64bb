// Package tomltext tells where the keys of a TOML text stand, which the decoder
// does not, and which of the known words was meant by an unknown one.
package tomltext

import (
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
)

// Node is a key of the file, or an element of an array, with the place where it
// stands. The tree of nodes has the shape of what the decoder returns.
type Node struct {
	At    int // byte offset of the key, or of the element
	Value int // byte offset of the value of a key; 0 for a table
	keys  map[string]*Node
	items []*Node
}

// Child returns the node below a key, or nil.
func (n *Node) Child(key string) *Node {
	if n == nil {
		return nil
	}
	return n.keys[key]
}

// Item returns the i-th element, or nil.
func (n *Node) Item(i int) *Node {
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

// Scan returns the tree of all keys in text.
func Scan(text string) *Node {
	s := &scanner{text: text}
	root := &Node{}
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
func (s *scanner) header(root *Node) *Node {
	array := strings.HasPrefix(s.text[s.at:], "[[")
	s.at++
	if array {
		s.at++
	}
	s.blanks()
	at := s.at
	n, _ := s.path(root)
	if array {
		n.items = append(n.items, &Node{At: at})
		n = n.items[len(n.items)-1]
	}
	for s.at < len(s.text) && s.text[s.at] == ']' {
		s.at++
	}
	return n
}

// pair reads key = value.
func (s *scanner) pair(table *Node) {
	n, ok := s.path(table)
	s.blanks()
	if ok && s.at < len(s.text) && s.text[s.at] == '=' {
		s.at++
		s.blanks()
		n.Value = s.at
		s.value(n)
		return
	}
	s.line()
}

// path reads a dotted key and returns its node below table, which it makes
// where it is new. A name that is an array of tables means its last table.
func (s *scanner) path(table *Node) (n *Node, ok bool) {
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
			next = &Node{At: at}
			if n.keys == nil {
				n.keys = make(map[string]*Node)
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
func (s *scanner) value(n *Node) {
	if s.at == len(s.text) {
		return
	}
	switch s.text[s.at] {
	case '"', '\'':
		s.quoted()
	case '[':
		s.list(']', func() {
			item := &Node{At: s.at}
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

// Position is a place in a file. Lines and columns count from one, columns in
// bytes, as compilers do; 0 is unknown.
type Position struct{ Line, Column int }

// Lines turns offsets into positions.
type Lines struct{ starts []int }

// NewLines reads where lines begin.
func NewLines(text string) Lines {
	starts := []int{0}
	for i := range len(text) {
		if text[i] == '\n' {
			starts = append(starts, i+1)
		}
	}
	return Lines{starts}
}

// Position is that of a byte.
func (l Lines) Position(offset int) Position {
	i := sort.SearchInts(l.starts, offset+1) - 1
	return Position{Line: i + 1, Column: offset - l.starts[i] + 1}
}

// CutKey cuts a dotted key off the front of a text, where it begins with one.
func CutKey(text string) (path []string, rest string, ok bool) {
	s := &scanner{text: text}
	for {
		name, ok := s.name(" \t.:")
		if !ok {
			return nil, "", false
		}
		path = append(path, name)
		if s.at == len(text) || text[s.at] != '.' {
			break
		}
		s.at++
	}
	rest, ok = text[s.at:], s.at < len(text) && (text[s.at] == ':' || text[s.at] == ' ')
	if strings.HasPrefix(rest, " and ") { // two keys that don't fit each other
		return path, text, ok
	}
	return path, strings.TrimLeft(rest, ": "), ok
}
