package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/tomltext"
)

// Problem is a mistake in a rule file or a list, or something strange in it.
type Problem struct {
	File string
	tomltext.Position
	Key  string // the rule and the key: `rule "x": when`
	What string // what is wrong
	Do   string // what to do about it; may be empty
	Near string // the line of an expression with a caret below the place; may be empty
}

// Error prints "file:line:column: key: what; what to do", and below it the
// place in the expression.
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

// Problems is all that is wrong with a set of files, in their order. It is the
// error of Load.
type Problems []Problem

// Error prints one after the other.
func (p Problems) Error() string {
	all := make([]string, len(p))
	for i := range p {
		all[i] = p[i].Error()
	}
	return strings.Join(all, "\n")
}

// maxProblems are told of one set: who has more reads the first ones first.
const maxProblems = 200

func (p Problems) sorted() Problems {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	p = slices.Compact(p)
	if len(p) > maxProblems {
		p = append(p[:maxProblems:maxProblems], Problem{File: p[maxProblems].File, What: fmt.Sprintf("%d more problems are not shown", len(p)-maxProblems)})
	}
	return p
}

// errBudget ends the evaluation of a rule.
var errBudget = errors.New("the message is more work than its budget allows")
