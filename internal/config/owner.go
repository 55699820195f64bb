package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
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
		if path, rest, ok := cutKey(text); ok && fields[path[0]] != nil {
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

// step goes to a key or, for "to[1]", to an element.
func (p place) step(key string) place {
	name, index, ok := strings.Cut(strings.TrimSuffix(key, "]"), "[")
	p = p.child(name)
	if i, err := strconv.Atoi(index); ok && err == nil {
		p = p.item(i)
	}
	return p
}

// cutKey cuts a dotted key off the front of a text, where it begins with one.
func cutKey(text string) (path []string, rest string, ok bool) {
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

// among reports whether one of the problems is that of p.
func (p place) among(problems Problems) bool {
	return slices.ContainsFunc(problems, func(o Problem) bool { return o.Key == p.path && o.Position == p.position() })
}
