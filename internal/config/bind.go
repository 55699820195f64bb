package config

import (
	"cmp"
	"encoding"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"gatepost/internal/tomltext"
)

// reader collects what is wrong while one file is read.
type reader struct {
	file     string
	lines    tomltext.Lines
	problems Problems
	warnings Problems
	meant    map[string]bool // paths that unknown keys were probably meant to be
	settings map[string]Setting
}

// place is a key of the file, and where it stands. The node of a key that is
// not in the file is nil: the place is then that of the table around it.
type place struct {
	r    *reader
	path string
	key  string // the last part of path
	node *tomltext.Node
}

func (p place) position() Position {
	if p.node == nil {
		return Position{}
	}
	return p.r.lines.Position(p.node.At)
}

func (p place) at(what, do string) Problem {
	return Problem{File: p.r.file, Position: p.position(), Key: p.path, What: what, Do: do}
}

// problem notes an error at p: what is wrong, and what to do about it.
func (p place) problem(what, do string) { p.r.problems = append(p.r.problems, p.at(what, do)) }

// warn notes something that works but is probably not meant.
func (p place) warn(what, do string) { p.r.warnings = append(p.r.warnings, p.at(what, do)) }

func (p place) child(key string) place {
	path := quoteKey(key)
	if p.path != "" {
		path = p.path + "." + path
	}
	n := p.node.Child(key)
	if n == nil {
		n = p.node
	}
	return place{p.r, path, key, n}
}

func (p place) item(i int) place {
	n := p.node.Item(i)
	if n == nil {
		n = p.node
	}
	return place{p.r, fmt.Sprintf("%s[%d]", p.path, i), p.key, n}
}

// quoteKey writes a key as TOML wants it.
func quoteKey(key string) string {
	bare := func(r rune) bool {
		return r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	if key != "" && strings.TrimLeftFunc(key, bare) == "" {
		return key
	}
	return strconv.Quote(key)
}

// table is a table of the file with the decoder's values.
type table struct {
	place
	values map[string]any
}

func (t table) has(key string) bool { _, ok := t.values[key]; return ok }

// table returns the table below a key: empty when there is none.
func (t table) table(key string) table {
	sub := table{place: t.child(key)}
	v, ok := t.values[key]
	if !ok {
		return sub
	}
	if sub.values, ok = v.(map[string]any); !ok {
		sub.problem("is "+kindOf(v), fmt.Sprintf("write a table: [%s]", sub.path))
	}
	return sub
}

// named is one of the tables [listener.NAME].
type named struct {
	table
	name string
}

// tables returns the tables below a key in the order of the file.
func (t table) tables(key string) []named {
	outer := t.table(key)
	var all []named
	for _, name := range slices.Sorted(maps.Keys(outer.values)) {
		all = append(all, named{outer.table(name), name})
	}
	slices.SortStableFunc(all, func(a, b named) int { return cmp.Compare(a.node.At, b.node.At) })
	return all
}

// field is where the value of a key goes.
type field struct {
	value reflect.Value
	size  bool // option of the tag: a size with its unit
}

// bind sets the fields of the structs that dst points to from the table. A key
// that none of them has is a problem; one that several have is set in all.
func (t table) bind(dst ...any) {
	fields := make(map[string][]field)
	for _, d := range dst {
		collect(reflect.ValueOf(d).Elem(), fields)
	}
	known := slices.Sorted(maps.Keys(fields))
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		p := t.child(key)
		if fields[key] == nil {
			p.problem("unknown key", tomltext.DidYouMean(key, known))
			t.r.meant[t.child(tomltext.Suggest(key, known)).path] = true
		}
		for _, f := range fields[key] {
			p.set(f, t.values[key])
		}
	}
	t.note(fields)
}

// collect notes the fields of a struct by the name in their toml tag. Fields
// without one can't be set.
func collect(v reflect.Value, into map[string][]field) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag, tagged := f.Tag.Lookup("toml")
		name, option, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct:
			collect(v.Field(i), into)
		case f.IsExported() && name != "" && name != "-":
			into[name] = append(into[name], field{v.Field(i), option == "size"})
		}
	}
}

// set puts a value of the file into a field.
func (p place) set(f field, v any) {
	switch dst := f.value.Addr().Interface().(type) {
	case *time.Duration:
		p.setDuration(dst, v)
		return
	case *netip.Prefix:
		p.setPrefix(dst, v)
		return
	case *slog.Level:
		p.setLevel(dst, v)
		return
	case toml.Unmarshaler:
		if err := dst.UnmarshalTOML(v); err != nil {
			what, do, _ := strings.Cut(err.Error(), "; ")
			p.problem(what, do)
		}
		return
	case encoding.TextUnmarshaler:
		if s, ok := p.text(v); ok {
			if err := dst.UnmarshalText([]byte(s)); err != nil {
				p.problem(err.Error(), "")
			}
		}
		return
	}
	switch f.value.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(f.value.Type().Elem())
		if !f.value.IsNil() {
			fresh.Elem().Set(f.value.Elem())
		}
		p.set(field{fresh.Elem(), f.size}, v)
		f.value.Set(fresh)
	case reflect.Struct:
		values, ok := v.(map[string]any)
		if !ok {
			p.problem("is "+kindOf(v), fmt.Sprintf("write a table: [%s]", p.path))
			return
		}
		table{p, values}.bind(f.value.Addr().Interface())
	case reflect.Map:
		p.setMap(f, v)
	case reflect.Slice:
		p.setSlice(f, v)
	default:
		p.setScalar(f, v)
	}
}

func (p place) setMap(f field, v any) {
	values, ok := v.(map[string]any)
	if !ok {
		p.problem("is "+kindOf(v), fmt.Sprintf("write a table: [%s]", p.path))
		return
	}
	m := reflect.MakeMap(f.value.Type())
	for _, key := range slices.Sorted(maps.Keys(values)) {
		elem := reflect.New(f.value.Type().Elem()).Elem()
		p.child(key).set(field{elem, f.size}, values[key])
		m.SetMapIndex(reflect.ValueOf(key).Convert(m.Type().Key()), elem)
	}
	f.value.Set(m)
}

// setSlice takes one value for a list of one, as admins write it.
func (p place) setSlice(f field, v any) {
	list := reflect.ValueOf(v)
	if list.Kind() != reflect.Slice {
		one := reflect.New(f.value.Type().Elem()).Elem()
		p.set(field{one, f.size}, v)
		f.value.Set(reflect.Append(reflect.MakeSlice(f.value.Type(), 0, 1), one))
		return
	}
	s := reflect.MakeSlice(f.value.Type(), list.Len(), list.Len())
	for i := range list.Len() {
		p.item(i).set(field{s.Index(i), f.size}, list.Index(i).Interface())
	}
	f.value.Set(s)
}

// kindOf names the kind of a decoded value for people.
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
