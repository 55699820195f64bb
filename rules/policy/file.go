package policy

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"gatepost/internal/tomltext"
)

// source is the text of a rule file.
type source struct {
	path  string
	text  string
	lines tomltext.Lines
	*report
}

// section is a table of a rule file. Its readers note what is wrong.
type section struct {
	*source
	of     string // `rule "x"`
	at     *tomltext.Node
	values map[string]any
}

// parse reads a rule file as TOML.
func parse(path, text string, r *report) (section, bool) {
	s := section{source: &source{path, text, tomltext.NewLines(text), r}, at: tomltext.Scan(text)}
	_, err := toml.Decode(text, &s.values)
	if err == nil {
		return s, true
	}
	p := Problem{File: path, What: "is no TOML: " + err.Error()}
	var bad toml.ParseError
	if errors.As(err, &bad) {
		p.Position = tomltext.Position{Line: bad.Position.Line, Column: bad.Position.Col}
		p.What = "is no TOML: " + bad.Message
	}
	r.problem(p)
	return s, false
}

// node is where a key stands, or the section where it has none.
func (s section) node(key string) *tomltext.Node {
	if n := s.at.Child(key); n != nil {
		return n
	}
	return s.at
}

func (s section) place(n *tomltext.Node) Problem {
	p := Problem{File: s.path, Key: s.of}
	if n != nil {
		p.Position = s.lines.Position(n.At)
	}
	return p
}

// line is "file:line" of the section.
func (s section) line() string { return fmt.Sprintf("%s:%d", s.path, s.place(s.at).Line) }

// wrong notes a mistake at a key.
func (s section) wrong(key, what, do string) {
	p := s.place(s.node(key))
	p.Key, p.What, p.Do = joinKey(s.of, key), what, do
	s.problem(p)
}

// wrongErr notes an error of the form "what; what to do".
func (s section) wrongErr(key string, err error) {
	what, do, _ := strings.Cut(err.Error(), "; ")
	s.wrong(key, what, do)
}

func (s section) strange(key, what, do string) {
	p := s.place(s.node(key))
	p.Key, p.What, p.Do = joinKey(s.of, key), what, do
	s.warn(p)
}

func joinKey(of, key string) string {
	if of == "" || key == "" {
		return of + key
	}
	return of + ": " + key
}

// only refuses keys that are not known.
func (s section) only(known ...string) {
	for _, key := range slices.Sorted(maps.Keys(s.values)) {
		if !slices.Contains(known, key) {
			s.wrong(key, "unknown key", tomltext.DidYouMean(key, known))
		}
	}
}

func (s section) has(key string) bool { _, ok := s.values[key]; return ok }

func (s section) text1(key string) (string, bool) {
	v, ok := s.values[key]
	if !ok {
		return "", false
	}
	t, ok := v.(string)
	if !ok {
		s.wrong(key, "is "+kindOf(v), "write a text in quotes")
	}
	return t, ok
}

// texts reads a list of texts, or one.
func (s section) texts(key string) []string {
	switch v := s.values[key].(type) {
	case nil:
	case string:
		return []string{v}
	case []any:
		var all []string
		for i, e := range v {
			t, ok := e.(string)
			if !ok {
				s.wrong(key, fmt.Sprintf("element %d is %s", i+1, kindOf(e)), "write texts in quotes")
				return nil
			}
			all = append(all, t)
		}
		return all
	default:
		s.wrong(key, "is "+kindOf(v), `write a list of texts: ["a", "b"]`)
	}
	return nil
}

func (s section) number(key string) (float64, bool) {
	switch v := s.values[key].(type) {
	case nil:
	case int64:
		return float64(v), true
	case float64:
		if v-v == 0 { // neither NaN nor Inf
			return v, true
		}
		s.wrong(key, "is no number that can be added", "write one such as 2.5")
	default:
		s.wrong(key, "is "+kindOf(v), "write a number such as 2.5")
	}
	return 0, false
}

func (s section) flag(key string) bool {
	switch v := s.values[key].(type) {
	case nil:
	case bool:
		return v
	default:
		s.wrong(key, "is "+kindOf(v), "write true or false")
	}
	return false
}

// day reads a date, with or without quotes.
func (s section) day(key string, end bool) time.Time {
	switch v := s.values[key].(type) {
	case nil:
	case time.Time:
		if v.Location().String() == "date-local" {
			v, _ = parseDay(v.Format(time.DateOnly), end)
		}
		return v
	case string:
		t, err := parseDay(v, end)
		if err == nil {
			return t
		}
		s.wrong(key, fmt.Sprintf("%q is no date", clip(v)), "write 2026-12-31")
	default:
		s.wrong(key, "is "+kindOf(v), "write a date: 2026-12-31")
	}
	return time.Time{}
}

// span reads a time such as "24h" or "7d".
func (s section) span(key string) time.Duration {
	t, ok := s.text1(key)
	if !ok {
		return 0
	}
	d, err := parseSpan(t)
	if err != nil || d <= 0 {
		s.wrong(key, fmt.Sprintf("%q is no time", clip(t)), `write "90m", "24h" or "7d"`)
	}
	return d
}

func parseSpan(t string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(t, "d"); ok {
		d, err := time.ParseDuration(days + "h")
		return 24 * d, err
	}
	return time.ParseDuration(t)
}

// table is the table below a key.
func (s section) table(key string) (section, bool) {
	v, ok := s.values[key]
	if !ok {
		return section{}, false
	}
	values, ok := v.(map[string]any)
	if !ok {
		s.wrong(key, "is "+kindOf(v), "write a table: { … }")
	}
	return section{s.source, joinKey(s.of, key), s.node(key), values}, ok
}

// tables are those of [[key]].
func (s section) tables(key string) []section {
	var all []section
	switch v := s.values[key].(type) {
	case nil:
	case []map[string]any:
		for i, values := range v {
			at := s.node(key).Item(i)
			if at == nil {
				at = s.node(key)
			}
			all = append(all, section{s.source, joinKey(s.of, key), at, values})
		}
	case []any:
		for i, e := range v {
			values, ok := e.(map[string]any)
			if !ok {
				s.wrong(key, fmt.Sprintf("element %d is %s", i+1, kindOf(e)), "write tables")
				continue
			}
			at := s.node(key).Item(i)
			all = append(all, section{s.source, joinKey(s.of, key), at, values})
		}
	default:
		s.wrong(key, "is "+kindOf(v), "write [["+key+"]]")
	}
	return all
}

// near is the place of a byte of a text value: where it stands in the file, and
// its line with a caret.
func (s section) near(key, value string, offset int) (tomltext.Position, string) {
	offset = min(max(offset, 0), len(value))
	from := strings.LastIndexByte(value[:offset], '\n') + 1
	to := len(value)
	if i := strings.IndexByte(value[from:], '\n'); i >= 0 {
		to = from + i
	}
	column := utf8.RuneCountInString(value[from:offset])
	line := strings.ReplaceAll(value[from:to], "\t", " ")
	if runes := []rune(line); len(runes) > 160 { // a window around the place
		start := min(max(column-80, 0), len(runes)-160)
		line, column = string(runes[start:start+160]), column-start
	}
	snippet := "    " + line + "\n    " + strings.Repeat(" ", column) + "^"

	n := s.node(key)
	at := n.At
	if n.Value > 0 && n.Value < len(s.text) {
		quote := s.text[n.Value:]
		start := n.Value + 1
		if strings.HasPrefix(quote, `"""`) || strings.HasPrefix(quote, "'''") {
			start = n.Value + 3
			if rest := s.text[start:]; strings.HasPrefix(rest, "\r\n") {
				start += 2
			} else if strings.HasPrefix(rest, "\n") {
				start++
			}
		}
		if at = start + offset; at > len(s.text) || s.text[start:at] != value[:offset] {
			at = start // there are escapes before it
		}
	}
	return s.lines.Position(at), snippet
}

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case int64, float64:
		return "a number"
	case bool:
		return "true or false"
	case time.Time:
		return "a date"
	case map[string]any:
		return "a table"
	}
	if reflect.ValueOf(v).Kind() == reflect.Slice {
		return "a list"
	}
	return fmt.Sprintf("a %T", v)
}

// beside is a path as seen from the rule file.
func (s section) beside(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(s.path), path)
}
