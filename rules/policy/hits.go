package policy

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
)

// Hits counts what matched, by names: what moves in its file goes on. Any number of goroutines may use
// one.
type Hits struct {
	mu   sync.Mutex
	of   map[string]*Hit
	lost int64
}

// Hit is how often a rule matched, or an entry of a list.
type Hit struct {
	Rule    string    `json:"rule"` // of an entry "list:NAME: ENTRY"
	Where   string    `json:"where"`
	Count   int64     `json:"count"`   // messages, or commands at the envelope
	Skipped int64     `json:"skipped"` // it could not be asked
	Last    time.Time `json:"last"`
	Observe bool      `json:"observe,omitempty"`
}

// maxCounted are the rules and entries that are counted one by one.
const maxCounted = 100_000

// NewHits returns an empty count.
func NewHits() *Hits { return &Hits{of: make(map[string]*Hit)} }

// Restore begins with what was counted before.
func (h *Hits) Restore(all []Hit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, one := range all[:min(len(all), maxCounted)] {
		h.of[one.Rule] = &one
	}
}

// Note counts what a verdict's record has: each rule once.
func (h *Hits) Note(hits []mail.RuleHit, at time.Time) {
	if len(hits) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := make(map[string]bool, len(hits))
	for _, hit := range hits {
		key := hit.Rule
		if seen[key] {
			continue // for another recipient
		}
		seen[key] = true
		one := h.of[key]
		if one == nil {
			if len(h.of) == maxCounted {
				h.lost++
				continue
			}
			one = &Hit{Rule: hit.Rule}
			h.of[key] = one
		}
		one.Where, one.Observe = hit.Where, hit.Observe // where it stands now
		if strings.HasPrefix(hit.Did, skipped) {
			one.Skipped++
			continue
		}
		one.Count++
		one.Last = at
	}
}

// List returns all counts, the greatest first.
func (h *Hits) List() []Hit {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]Hit, 0, len(h.of))
	for _, one := range h.of {
		all = append(all, *one)
	}
	slices.SortFunc(all, func(a, b Hit) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Where, b.Where))
	})
	return all
}
