package config

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/tomltext"
)

// attach gives what the owner of dst found wrong with it to the keys in the
// table, unless something is known to be wrong there. The owner's texts are
// "prefix: key: what; what to do"; without a key they belong to the table.
func (t table) attach(texts []string, dst any, prefixes ...string) {
	fields := make(map[string][]field)
	collect(reflect.ValueOf(dst).Elem(), fields)
	known := t.r.problems
	for _, text := range texts {
		for _, prefix := range prefixes {
			text = strings.TrimPrefix(text, prefix)
		}
		p, what := t.place, text
		if path, rest, ok := tomltext.CutKey(text); ok && fields[cutIndex(path[0])] != nil {
			for _, key := range path {
				p = p.step(key)
			}
			what = rest
		}
		if !p.among(known) {
			what, do, _ := strings.Cut(what, "; ")
			p.problem(what, do)
		}
	}
}

// notZero refuses numbers of 0 and empty lists of an owner that takes them for
// its defaults: whoever writes a 0 means something else.
func (t table) notZero(dst any) {
	fields := make(map[string][]field)
	collect(reflect.ValueOf(dst).Elem(), fields)
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		p := t.child(key)
		for _, f := range fields[key] {
			empty := f.value.Kind() == reflect.Slice && f.value.Len() == 0
			if (empty || f.value.CanInt() && f.value.IsZero()) && !p.among(t.r.problems) {
				p.problem("is 0 or empty", "leave the key out for the default")
			}
		}
	}
}

// step goes to a key or, for "to[1]", to an element.
func (p place) step(key string) place {
	name, index, ok := strings.Cut(strings.TrimSuffix(key, "]"), "[")
	p = p.child(name)
	if i, err := strconv.Atoi(index); ok && err == nil {
		p = p.item(i)
	}
	return p
}

func cutIndex(key string) string {
	name, _, _ := strings.Cut(key, "[")
	return name
}

// among reports whether one of the problems is that of p.
func (p place) among(problems Problems) bool {
	return slices.ContainsFunc(problems, func(o Problem) bool { return o.Key == p.path && o.Position == p.position() })
}
