package config

import (
	"cmp"
	"encoding"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reader collects what is wrong while one file is read.
type reader struct {
	file     string
	lines    lines
	problems Problems
	warnings Problems
	meant    map[string]bool // paths that unknown keys were probably meant to be
}

// place is a key of the file, and where it stands. The node of a key that is
// not in the file is nil: the place is then that of the table around it.
type place struct {
	r    *reader
	path string
	key  string // the last part of path
	node *node
}

func (p place) position() Position {
	if p.node == nil {
		return Position{}
	}
	return p.r.lines.position(p.node.at)
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
	n := p.node.child(key)
	if n == nil {
		n = p.node
	}
	return place{p.r, path, key, n}
}

func (p place) item(i int) place {
	n := p.node.item(i)
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
	slices.SortStableFunc(all, func(a, b named) int { return cmp.Compare(a.node.at, b.node.at) })
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
			p.problem("unknown key", didYouMean(key, known))
			t.r.meant[t.child(suggest(key, known)).path] = true
		}
		for _, f := range fields[key] {
			p.set(f, t.values[key])
		}
	}
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

func (p place) setScalar(f field, v any) {
	switch f.value.Kind() {
	case reflect.String:
		p.setString(f.value, v)
	case reflect.Bool:
		b, ok := v.(bool)
		if !ok {
			p.problem("is "+kindOf(v), "write true or false, without quotes")
			return
		}
		f.value.SetBool(b)
	case reflect.Int, reflect.Int32, reflect.Int64:
		p.setInt(f, v)
	case reflect.Float64:
		p.setFloat(f, v)
	case reflect.Interface:
		f.value.Set(reflect.ValueOf(v))
	default:
		// A field of a kind that no configuration needs: our own mistake.
		p.problem("can't be set: "+f.value.Type().String(), "report this as a bug")
	}
}

func (p place) text(v any) (string, bool) {
	s, ok := v.(string)
	if !ok {
		p.problem("is "+kindOf(v), "write text in quotes")
	}
	return s, ok
}

// setString asks types with a closed set of values, and leaves the default
// where they refuse.
func (p place) setString(dst reflect.Value, v any) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	fresh := reflect.New(dst.Type()).Elem()
	fresh.SetString(s)
	if c, ok := fresh.Interface().(interface{ Validate() error }); ok {
		if err := c.Validate(); err != nil {
			what, do, _ := strings.Cut(strings.TrimLeft(strings.TrimPrefix(err.Error(), p.key), ": "), "; ")
			p.problem(what, do)
			return
		}
	}
	dst.Set(fresh)
}

func (p place) setInt(f field, v any) {
	if f.size {
		p.setSize(f.value, v)
		return
	}
	n, ok := v.(int64)
	switch {
	case !ok:
		p.problem("is "+kindOf(v), "write a whole number, without quotes")
	case n < 0:
		p.problem("is negative", "write a number of 0 or more")
	case f.value.OverflowInt(n):
		p.problem(fmt.Sprintf("%d is too large", n), "write a smaller number")
	default:
		f.value.SetInt(n)
	}
}

func (p place) setFloat(f field, v any) {
	switch n := v.(type) {
	case int64:
		f.value.SetFloat(float64(n))
	case float64:
		if math.IsNaN(n) || math.IsInf(n, 0) {
			p.problem("is not a finite number", "write a number like 5.0")
			return
		}
		f.value.SetFloat(n)
	default:
		p.problem("is "+kindOf(v), "write a number like 5.0, without quotes")
	}
}

func (p place) setSize(dst reflect.Value, v any) {
	if n, ok := v.(int64); ok {
		p.problem("has no unit", fmt.Sprintf("write \"%dB\" or \"25MB\" (units: %s)", n, sizeUnits))
		return
	}
	s, ok := p.text(v)
	if !ok {
		return
	}
	n, err := parseSize(s)
	if err != nil {
		p.problem(err.Error(), fmt.Sprintf("write a size like \"25MB\" (units: %s)", sizeUnits))
		return
	}
	dst.SetInt(n)
}

func (p place) setDuration(dst *time.Duration, v any) {
	if n, ok := v.(int64); ok {
		p.problem("has no unit", fmt.Sprintf("write \"%ds\" or \"%dm\" (units: %s)", n, n, durationUnits))
		return
	}
	s, ok := p.text(v)
	if !ok {
		return
	}
	d, err := parseDuration(s)
	if err != nil {
		p.problem(err.Error(), fmt.Sprintf("write a duration like \"60s\" or \"5m\" (units: %s)", durationUnits))
		return
	}
	*dst = d
}

// setPrefix reads a network; a single address is one, too.
func (p place) setPrefix(dst *netip.Prefix, v any) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		*dst = netip.PrefixFrom(a, a.BitLen())
		return
	}
	n, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		p.problem(fmt.Sprintf("%q is no network", s), `write one like "10.0.0.0/8" or "2001:db8::/32"`)
	case n != n.Masked():
		p.problem(fmt.Sprintf("%q names a host, not a network", s), fmt.Sprintf("write %q for the network or \"%s\" for the host", n.Masked(), n.Addr()))
	default:
		*dst = n
	}
}

// setLevel reads the level of a log by the words that people use.
func (p place) setLevel(dst *slog.Level, v any) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	if *dst, ok = levels[s]; !ok {
		p.problem(fmt.Sprintf("%q is no level", s), "write debug, info, warning or error")
	}
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
