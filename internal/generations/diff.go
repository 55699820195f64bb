package generations

import (
	"fmt"
	"maps"
	"slices"
)

// maxChanges are named.
const maxChanges = 30

// Diff says in words what is different from old.
func Diff(old, fresh Generation) []string {
	changes := []string{}
	add := func(text string, args ...any) { changes = append(changes, fmt.Sprintf(text, args...)) }
	was, is := filesOf(old), filesOf(fresh)
	for _, path := range slices.Sorted(maps.Keys(is)) {
		switch before, there := was[path]; {
		case !there:
			add("new: %s", path)
		case before != is[path]:
			add("changed: %s", path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(was)) {
		if _, there := is[path]; !there {
			add("gone: %s", path)
		}
	}
	before, now := countsOf(old), countsOf(fresh)
	for _, list := range slices.Sorted(maps.Keys(now)) {
		if b, there := before[list]; there && b != now[list] {
			add("list %s: %d → %d entries", list, b, now[list])
		}
	}
	if old.Access != fresh.Access {
		add("access map: %d → %d entries", old.Access, fresh.Access)
	}
	if more := len(changes) - maxChanges; more > 0 {
		changes = append(changes[:maxChanges], fmt.Sprintf("and %d more", more))
	}
	return changes
}

func filesOf(g Generation) map[string]string {
	all := make(map[string]string)
	for _, f := range g.Files {
		all[f.Path] = f.SHA256
	}
	return all
}

func countsOf(g Generation) map[string]int {
	all := make(map[string]int)
	for _, c := range g.Lists {
		all[c.List] = c.Entries
	}
	return all
}

// few is how many entries a list may lose in any case: short lists are edited by
// people, and long ones get lost by machines.
const few = 10

// Shrunk names the lists that became empty, or lost more of their entries than
// may be: least is the share that has to stay.
func Shrunk(old, fresh Generation, least float64) []string {
	var all []string
	before := countsOf(old)
	before["\x00access"] = old.Access
	check := func(list, what string, now int) {
		b, known := before[list]
		switch {
		case now == 0 && (b > 0 || !known):
			all = append(all, what+" is empty")
		case b-now > few && float64(now) < least*float64(b):
			all = append(all, fmt.Sprintf("%s has %d of %d entries", what, now, b))
		}
	}
	for _, c := range fresh.Lists {
		if c.Live {
			continue
		}
		check(c.List, fmt.Sprintf("the list %q", c.List), c.Entries)
	}
	check("\x00access", "the access map", fresh.Access)
	return all
}
