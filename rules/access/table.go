package access

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// Table is an access map. The zero Table is empty.
type Table struct {
	path   string
	slots  [tags]map[string]slot
	values []Value // each once, however many lines have it
	dots   bool    // of a.b.c look for .b.c, too
}

// slot is one line of the map: small, as there may be a million.
type slot struct{ line, value int32 }

// Hit is the line that a search found.
type Hit struct {
	*Value
	Tag  Tag
	Key  string
	Path string
	Line int
}

func (h Hit) String() string {
	return fmt.Sprintf("access %s:%d %s%s %s", h.Path, h.Line, h.Tag, h.Key, h.Text)
}

// Len is the number of lines that say something.
func (t *Table) Len() int {
	n := 0
	for _, m := range t.slots {
		n += len(m)
	}
	return n
}

// Load reads an access map; no path is an empty one. Its error names every
// bad line as "path:line: what is wrong; what to do", the warnings what is
// probably not meant.
func Load(path string, o Options) (*Table, []string, error) {
	if path == "" {
		return &Table{}, nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("relay.access: %w", err)
	}
	defer f.Close()
	return Parse(path, f, o)
}

// Parse reads sendmail's text format: a key, white space, a value. A line that
// begins with # is a comment, and no other is. Keys count without case. Unlike
// with makemap a key that stands twice is an error, not the first of the two.
func Parse(path string, r io.Reader, o Options) (*Table, []string, error) {
	p := parser{table: &Table{path: path, dots: o.LookupDotDomain}, options: o, known: make(map[valueKey]int32)}
	err := eachLine(path, r, p.line)
	p.errs.Add(err)
	p.finish()
	if err := p.errs.Join(); err != nil {
		return nil, nil, err
	}
	return p.table, p.warnings.texts(), nil
}

// parser reads one file.
type parser struct {
	table    *Table
	options  Options
	known    map[valueKey]int32 // what stands in table.values
	keys     arena
	errs     Problems
	warnings Problems
	untagged untagged
}

// valueKey tells values apart: the same text is another value under another
// kind of tag.
type valueKey struct {
	tag  Tag
	text string
}

// maxLines keeps a wrong file from filling the memory: a million lines take
// some 80 MB.
const maxLines = 10_000_000

func (p *parser) line(number int, line string) {
	if number > maxLines {
		if number == maxLines+1 {
			p.errs.noteLine(p.table.path, number, fmt.Errorf("has more than %d lines; is this the right file?", maxLines))
		}
		return
	}
	if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
		return
	}
	p.errs.noteLine(p.table.path, number, p.entry(number, line))
}

// entry reads one line that is neither empty nor a comment.
func (p *parser) entry(number int, line string) error {
	left, right, err := cutLine(line)
	if err != nil {
		return err
	}
	t, item, err := cutTag(left)
	if err != nil {
		return err
	}
	key, k, err := parseItem(item, p.options.LookupDotDomain)
	if err == nil {
		err = k.fits(t)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", left, err)
	}
	value, err := p.value(t, right)
	if err != nil {
		return err
	}
	return p.put(t, key, slot{int32(number), value})
}

func (p *parser) put(t Tag, key string, s slot) error {
	slots := p.table.slots[t]
	if slots == nil {
		slots = make(map[string]slot)
		p.table.slots[t] = slots
	}
	if old, ok := slots[key]; ok {
		return fmt.Errorf("%s%s is already in line %d; remove one of them", t, key, old.line)
	}
	slots[p.keys.keep(key)] = s
	p.doubt(t, key, s)
	return nil
}

// value returns the place of a value in the table.
func (p *parser) value(t Tag, text string) (int32, error) {
	of := valueKey{t, text}
	if t == From || t == To || t == Untagged {
		of.tag = Connect // reads the same
	}
	if i, ok := p.known[of]; ok {
		return i, nil
	}
	v, err := parseValue(t, text, p.options.Skip)
	if err != nil {
		return 0, err
	}
	i := int32(len(p.table.values))
	of.text = strings.Clone(text)
	v.Text = strings.Clone(v.Text)
	p.table.values = append(p.table.values, v)
	p.known[of] = i
	return i, nil
}

// cutLine splits a line behind its key.
func cutLine(line string) (left, right string, err error) {
	if c := line[0]; c == ' ' || c == '\t' {
		return "", "", errors.New("begins with a blank; the key starts the line")
	}
	if strings.ContainsFunc(line, isControl) || !utf8.ValidString(line) {
		return "", "", errors.New("control characters or broken UTF-8; write plain text")
	}
	left = line
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		left, right = line[:i], strings.Trim(line[i:], " \t")
	}
	if right == "" {
		return "", "", fmt.Errorf("%s has no value; write OK, RELAY, REJECT, DISCARD, SKIP, QUARANTINE:text or a reply behind it", left)
	}
	return left, right, nil
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f && r <= 0x9f }

// arena keeps many short strings in few pieces of memory.
type arena struct{ piece strings.Builder }

const arenaPiece = 64 << 10

func (a *arena) keep(s string) string {
	if a.piece.Cap()-a.piece.Len() < len(s) {
		a.piece = strings.Builder{}
		a.piece.Grow(max(arenaPiece, len(s)))
	}
	from := a.piece.Len()
	a.piece.WriteString(s)
	return a.piece.String()[from:]
}
