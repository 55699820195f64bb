package tomltext

import "strings"

// Suggest returns the known word that was probably meant, or "".
func Suggest(word string, known []string) string {
	best, distance := "", max(1, len(word)/3)+1
	for _, k := range known {
		if d := editDistance(strings.ToLower(word), k); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// DidYouMean is the advice for an unknown word.
func DidYouMean(word string, known []string) string {
	if s := Suggest(word, known); s != "" {
		return `did you mean "` + s + `"?`
	}
	if len(known) == 0 {
		return "remove it"
	}
	return "known here: " + strings.Join(known, ", ")
}

// editDistance counts insertions, deletions, changes, and swaps of neighbours.
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
