package config

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Setting is one key of the configuration as it is in effect.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`            // as TOML; secrets are masked
	File   string `json:"file,omitempty"`   // where it is set; "": it is the default
	Line   int    `json:"line,omitempty"`   // the same
	Masked bool   `json:"masked,omitempty"` // Value does not show it
}

// note remembers the keys that a table has, and those that it could have. What is
// a table again notes itself.
func (t table) note(fields map[string][]field) {
	for key, all := range fields {
		p, f := t.child(key), all[0]
		if v, ok := t.values[key]; ok {
			if !holdsTables(f.value.Type()) && !isTable(f, v) {
				p.noteAs(toTOML(v), true)
			}
			continue
		}
		t.r.noteDefault(p, f)
	}
}

func (r *reader) noteDefault(p place, f field) {
	if opaque(f.value) {
		return
	}
	if f.value.Kind() == reflect.Struct {
		inner := make(map[string][]field)
		collect(f.value, inner)
		for key, all := range inner {
			r.noteDefault(place{r, p.path + "." + quoteKey(key), key, nil}, all[0])
		}
		return
	}
	if text, ok := defaultText(f); ok {
		p.noteAs(text, false)
	}
}

// noteAs remembers one key; one that is noted again replaces it.
func (p place) noteAs(text string, set bool) {
	s := Setting{Key: p.path, Value: text}
	if set {
		s.File, s.Line = p.r.file, p.position().Line
	}
	s.Value, s.Masked = masked(p.key, text)
	if p.r.settings == nil {
		p.r.settings = make(map[string]Setting)
	}
	p.r.settings[p.path] = s
}

// isTable: a field that takes any value has a reader of its own for a table.
func isTable(f field, v any) bool {
	_, is := v.(map[string]any)
	return is && (f.value.Kind() == reflect.Interface || f.value.Kind() == reflect.Struct && !opaque(f.value))
}

// holdsTables: lists and maps of structs are bound one by one.
func holdsTables(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		return holdsTables(t.Elem())
	}
	return (t.Kind() == reflect.Map || t.Kind() == reflect.Slice) && t.Elem().Kind() == reflect.Struct && !opaque(reflect.New(t.Elem()).Elem())
}

// opaque: what reads itself is no table of ours.
func opaque(v reflect.Value) bool {
	if v.Kind() == reflect.Interface {
		return true
	}
	if v.Kind() != reflect.Struct || !v.CanAddr() {
		return false
	}
	switch v.Addr().Interface().(type) {
	case toml.Unmarshaler, interface{ UnmarshalText([]byte) error }:
		return true
	}
	return false
}

// all returns what was noted: keys of the top level first, then the sections in
// the order of the file, then those that it does not have.
func (r *reader) all() []Setting {
	first := make(map[string]int) // line of a section's first key
	for _, s := range r.settings {
		section := sectionOf(s.Key)
		if at, ok := first[section]; s.Line > 0 && (!ok || s.Line < at) {
			first[section] = s.Line
		}
	}
	const last = 1 << 30
	rank := func(s Setting) int {
		section := sectionOf(s.Key)
		if at, ok := first[section]; section != "" && ok {
			return at
		} else if section == "" {
			return 0
		}
		return last
	}
	return slices.SortedFunc(maps.Values(r.settings), func(a, b Setting) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(sectionOf(a.Key), sectionOf(b.Key)), cmp.Compare(a.Key, b.Key))
	})
}

// sectionOf is all of a path before its last key, which may be quoted.
func sectionOf(path string) string {
	quoted := false
	at := 0
	for i, c := range path {
		switch c {
		case '"':
			quoted = !quoted
		case '.':
			if !quoted {
				at = i
			}
		}
	}
	return path[:at]
}

const mask = "********"

// masked hides what opens something: passwords, and addresses with one inside.
func masked(key, text string) (shown string, hidden bool) {
	for _, word := range []string{"password", "secret", "token", "passphrase", "webhook"} {
		if strings.Contains(key, word) && !strings.HasSuffix(key, "_file") && text != `""` && text != "[]" {
			return strconv.Quote(mask), true
		}
	}
	if !strings.Contains(text, "://") {
		return text, false
	}
	var b strings.Builder
	for i, part := range strings.Split(text, `"`) {
		if i > 0 {
			b.WriteByte('"')
		}
		one, was := maskedURL(part)
		hidden = hidden || was
		b.WriteString(one)
	}
	return b.String(), hidden
}

// maskedURL hides the password of an address, and what it carries behind "?".
func maskedURL(s string) (string, bool) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s, false
	}
	end := len(rest)
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		end = slash
	}
	at := strings.LastIndexByte(rest, '@') // a password may hold a slash
	hidden := false
	if at >= 0 && strings.Contains(rest[:at], ":") {
		user, _, _ := strings.Cut(rest[:at], ":")
		rest, hidden = user+":"+mask+rest[at:], true
	} else if at >= 0 && at < end {
		return scheme + "://" + rest, false
	}
	if before, query, ok := strings.Cut(rest, "?"); ok && query != "" {
		if values, err := url.ParseQuery(query); err != nil || secretIn(values) {
			rest, hidden = before+"?"+mask, true
		}
	}
	return scheme + "://" + rest, hidden
}

func secretIn(values url.Values) bool {
	for key := range values {
		for _, word := range []string{"password", "pass", "secret", "token", "key", "auth"} {
			if strings.Contains(strings.ToLower(key), word) && !strings.HasSuffix(key, "_file") {
				return true
			}
		}
	}
	return false
}

// toTOML writes a value of the file as it could stand there.
func toTOML(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case time.Time:
		return v.Format(time.RFC3339)
	case map[string]any:
		var all []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			text, _ := masked(key, toTOML(v[key]))
			all = append(all, quoteKey(key)+" = "+text)
		}
		return "{ " + strings.Join(all, ", ") + " }"
	}
	if list := reflect.ValueOf(v); list.Kind() == reflect.Slice {
		all := make([]string, list.Len())
		for i := range list.Len() {
			all[i] = toTOML(list.Index(i).Interface())
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	return fmt.Sprint(v)
}

// defaultText writes a default as it could stand in the file; ok is false for
// what nobody could write there.
func defaultText(f field) (text string, ok bool) {
	switch v := f.value.Interface().(type) {
	case time.Duration:
		return strconv.Quote(durationText(v)), true
	case slog.Level:
		return strconv.Quote(strings.ToLower(v.String())), true
	case fmt.Stringer:
		if f.value.IsZero() {
			return "", false
		}
		return strconv.Quote(v.String()), true
	}
	switch f.value.Kind() {
	case reflect.String:
		return strconv.Quote(f.value.String()), true
	case reflect.Bool:
		return strconv.FormatBool(f.value.Bool()), true
	case reflect.Int, reflect.Int32, reflect.Int64:
		if f.size {
			return strconv.Quote(sizeText(f.value.Int())), true
		}
		return strconv.FormatInt(f.value.Int(), 10), true
	case reflect.Float64:
		return strconv.FormatFloat(f.value.Float(), 'f', -1, 64), true
	case reflect.Pointer:
		if f.value.IsNil() {
			return "", false
		}
		return defaultText(field{f.value.Elem(), f.size})
	case reflect.Slice:
		all := make([]string, f.value.Len())
		for i := range all {
			if all[i], ok = defaultText(field{f.value.Index(i), f.size}); !ok {
				return "", false
			}
		}
		return "[" + strings.Join(all, ", ") + "]", true
	}
	return "", false
}

func durationText(d time.Duration) string {
	if day := 24 * time.Hour; d > 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}

func sizeText(n int64) string {
	for _, u := range []struct {
		name string
		n    int64
	}{{"GB", 1e9}, {"GiB", 1 << 30}, {"MB", 1e6}, {"MiB", 1 << 20}, {"kB", 1e3}, {"KiB", 1 << 10}} {
		if n > 0 && n%u.n == 0 {
			return fmt.Sprintf("%d%s", n/u.n, u.name)
		}
	}
	return fmt.Sprintf("%dB", n)
}
