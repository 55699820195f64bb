package tomltext

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with a file, or strange about it.
type Problem struct {
	File string
	Position
	Key  string // dotted path or name, "" for the whole file
	What string // what is wrong
	Do   string // what to do about it; may be empty
	Near string // the line of an expression with a caret below the place; may be empty
}

// Error prints "file:line:column: key: what; what to do", and below it the place
// in the expression.
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

// Problems is all that is wrong with some files, in their order. It is the error
// of whoever loads them.
type Problems []Problem

// Error prints one after the other.
func (p Problems) Error() string {
	all := make([]string, len(p))
	for i := range p {
		all[i] = p[i].Error()
	}
	return strings.Join(all, "\n")
}
