package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/tomltext"
)

// Position is a place in a file.
type Position = tomltext.Position

// Problem is one thing that is wrong with a configuration, or strange about it.
type Problem struct {
	File string // the configuration, or a list that it names
	Position
	Key  string // dotted path, "" for the whole file
	What string // what is wrong
	Do   string // what to do about it; may be empty
	Near string // the place in an expression; may be empty
}

// Error prints "file:line:column: key: what; what to do".
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Column > 0 {
		fmt.Fprintf(&b, ":%d", p.Column)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.What)
	if p.Do != "" {
		b.WriteString("; " + p.Do)
	}
	if p.Near != "" {
		b.WriteString("\n" + p.Near)
	}
	return b.String()
}

// Problems is all that is wrong with a file, in the order of the file. It is
// the error of Load.
type Problems []Problem

// Error prints one problem on each line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// sorted puts the problems of the main file first, and drops repeated ones.
func (p Problems) sorted(main string) Problems {
	other := func(p Problem) string { return strings.TrimPrefix(p.File, main) }
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(other(a), other(b)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.CompactFunc(p, func(a, b Problem) bool { return a == b })
}

// split takes joined errors apart and returns the text of each. What wraps a
// join stands before each of its parts.
func split(err error) []string {
	for e := err; e != nil; e = errors.Unwrap(e) {
		joined, ok := e.(interface{ Unwrap() []error })
		if !ok {
			continue
		}
		before := strings.TrimSuffix(err.Error(), e.Error())
		var all []string
		for _, part := range joined.Unwrap() {
			for _, text := range split(part) {
				all = append(all, before+text)
			}
		}
		return all
	}
	if err == nil {
		return nil
	}
	return []string{err.Error()}
}
