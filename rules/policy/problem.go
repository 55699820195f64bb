package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"gatepost/internal/tomltext"
)

// Problem is a mistake in a rule file or a list, or something strange in it. Its
// key is the rule and the key: `rule "x": when`.
type Problem = tomltext.Problem

// Problems is all that is wrong with a set of files, in their order. It is the
// error of Load.
type Problems = tomltext.Problems

// maxProblems are told of one set: who has more reads the first ones first.
const maxProblems = 200

func sorted(p Problems) Problems {
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
