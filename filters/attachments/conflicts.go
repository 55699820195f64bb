package attachments

import (
	"fmt"
	"maps"
	"slices"
)

// conflicts finds what can have no effect: what an earlier list has already for
// the same recipients, and types that are allowed but can't pass.
func (l *loader) conflicts(set *lists) {
	for i, d := range set.deny {
		for _, before := range set.deny[:i] {
			if before.covers(d.scope) && before.action == d.action && len(before.ignore) == 0 {
				l.twice(before, d)
			}
		}
	}
	for _, a := range set.allow {
		for _, d := range set.deny {
			if d.covers(a.scope) && len(d.ignore) == 0 && !a.anyName {
				l.neverPasses(a, d)
			}
		}
	}
}

func (l *loader) twice(before, d denyList) {
	for _, ext := range slices.Sorted(maps.Keys(d.ext)) {
		where := before.ext[ext]
		if where != "" && !isStandard(where) && !isStandard(d.ext[ext]) {
			l.fail(fmt.Errorf("%s: %q never counts; it is at %s for the same recipients", d.ext[ext], ext, where))
		}
	}
}

// isStandard tells entries of ours, which may repeat the operator's.
func isStandard(where string) bool { return len(where) > 8 && where[:9] == "standard[" }

func (l *loader) neverPasses(a allowList, d denyList) {
	for _, name := range slices.Sorted(maps.Keys(a.types)) {
		k := a.types[name]
		banned := len(k.extensions) > 0 && !slices.ContainsFunc(k.extensions, func(e string) bool { return d.ext[e] == "" })
		if banned || slices.ContainsFunc(d.detected, func(p string) bool { return fitsType(p, name) }) {
			l.fail(fmt.Errorf("%s.types: %q can't pass, as the list %q does not want it; remove it from one of them", a.key, name, d.name))
		}
	}
}
