package alter

import (
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// verify holds what was made against what was wanted: what was taken out is not
// there any more, by its content and by its names, and nothing else is gone.
func (w *work) verify(after *mail.Inside) error {
	before := w.tx.Inside
	switch {
	case after == nil:
		return hold("what was made could not be inspected")
	case len(after.Ambiguous) > 0:
		return hold("what was made could be read in different ways (%s)", after.Ambiguous[0])
	}
	for _, u := range after.Unseen {
		if !slices.Contains(before.Unseen, u) {
			return hold("what was made could not be looked into (%s)", u)
		}
	}
	had, has := contents(before.Parts), contents(after.Parts)
	names, left := nameCounts(before.Parts), nameCounts(after.Parts)
	for _, p := range before.Parts {
		if w.isStripped(p) || w.hasNewText(p) {
			had[p.SHA256]--
		}
		if w.isStripped(p) || w.isRenamed(p) {
			countNames(names, p, -1)
		}
	}
	for sum, n := range had {
		if sum != "" && has[sum] != n {
			return hold("what was made does not have the parts that it should have")
		}
	}
	for _, t := range slices.Concat(w.stripped, w.renamed) {
		for _, n := range t.part.Names {
			if n = strings.ToLower(n); left[n] > names[n] {
				return hold("%s is still there", title(t.part))
			}
		}
	}
	return nil
}

// isStripped reports whether a part was taken out, or lay in one that was.
func (w *work) isStripped(p mail.Part) bool {
	return slices.ContainsFunc(w.stripped, func(t target) bool {
		return p.Path == t.part.Path || strings.HasPrefix(p.Path, t.part.Path+"/") || strings.HasPrefix(p.Path, t.part.Path+".")
	})
}

// hasNewText reports whether text was added to a part: it is another one now.
func (w *work) hasNewText(p mail.Part) bool {
	return p.Depth == 0 && slices.ContainsFunc(w.texted, func(n *node) bool { return n.at == p.At })
}

func (w *work) isRenamed(p mail.Part) bool {
	return slices.ContainsFunc(w.renamed, func(t target) bool { return p.Path == t.part.Path })
}

// contents counts parts by what they hold.
func contents(parts []mail.Part) map[string]int {
	count := make(map[string]int)
	for _, p := range parts {
		count[p.SHA256]++
	}
	return count
}

func nameCounts(parts []mail.Part) map[string]int {
	count := make(map[string]int)
	for _, p := range parts {
		countNames(count, p, 1)
	}
	return count
}

func countNames(count map[string]int, p mail.Part, by int) {
	for _, n := range p.Names {
		count[strings.ToLower(n)] += by
	}
}
