package config

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"gatepost/internal/tomltext"
)

// Position is a place in a file.
type Position = tomltext.Position

// Problem is one thing that is wrong with a configuration, or strange about it.
// Its file is that of the configuration, or a list that it names.
type Problem = tomltext.Problem

// Problems is all that is wrong with a file, in the order of the file. It is
// the error of Load.
type Problems = tomltext.Problems

// sorted puts the problems of the main file first, and drops repeated ones.
func sorted(p Problems, main string) Problems {
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
