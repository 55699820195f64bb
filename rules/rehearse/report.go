package rehearse

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Report is what other rules would have made of recorded mail.
type Report struct {
	Old       string    `json:"old"` // generations
	New       string    `json:"new"`
	Since     time.Time `json:"since,omitzero"`
	Records   int       `json:"records"`
	Differing int       `json:"differing"`         // records of which some recipient would see something else
	Groups    []Group   `json:"groups"`            // of them, the largest first
	Omitted   int       `json:"omitted,omitempty"` // recipients in groups that there was no room for
	Hits      []Hit     `json:"hits"`
	Unknown   []Unknown `json:"unknown"`
	Notes     []string  `json:"notes"`
	Took      float64   `json:"took_seconds"`
}

// Group is what one rule would change in one way.
type Group struct {
	Rule       string    `json:"rule"`  // "" where no rule does it: limits after scores, the access map
	Where      string    `json:"where"` // "file:line"
	Old        string    `json:"old"`   // what became of it
	New        string    `json:"new"`   // what would have
	Records    int       `json:"records"`
	Recipients int       `json:"recipients"`
	Examples   []Example `json:"examples"`
}

// Example is one recipient of one message.
type Example struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	Reason  string    `json:"reason,omitempty"` // of the new outcome
}

// Hit counts the records that a rule matches.
type Hit struct {
	Rule    string `json:"rule"`
	Where   string `json:"where"`
	Observe bool   `json:"observe,omitempty"`
	Old     int    `json:"old"`
	New     int    `json:"new"`
}

// Unknown is something that records can't tell.
type Unknown struct {
	What     string   `json:"what"`
	Records  int      `json:"records"`
	Examples []string `json:"examples,omitempty"` // IDs
}

// Bounds of a report.
const (
	maxGroups   = 500
	maxExamples = 5
	maxHits     = 50_000
)

type groupKey struct{ rule, where, old, new string }

// tally is what one worker counts.
type tally struct {
	records, differing, omitted int
	groups                      map[groupKey]*Group
	hits                        map[string]*Hit
	unknown                     map[string]*Unknown
}

func newTally() *tally {
	return &tally{groups: make(map[groupKey]*Group), hits: make(map[string]*Hit), unknown: make(map[string]*Unknown)}
}

func (t *tally) group(k groupKey, recipients int, e Example) {
	g := t.groups[k]
	if g == nil {
		if len(t.groups) == maxGroups {
			t.omitted += recipients
			return
		}
		g = &Group{Rule: k.rule, Where: k.where, Old: k.old, New: k.new}
		t.groups[k] = g
	}
	g.Records++
	g.Recipients += recipients
	g.Examples = earliest(append(g.Examples, e))
}

// earliest keeps the first examples in time, whichever worker saw them.
func earliest(all []Example) []Example {
	slices.SortFunc(all, func(a, b Example) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID)) })
	return all[:min(len(all), maxExamples)]
}

func (t *tally) unknowns(what, id string) {
	u := t.unknown[what]
	if u == nil {
		u = &Unknown{What: what}
		t.unknown[what] = u
	}
	u.Records++
	if len(u.Examples) < maxExamples {
		u.Examples = append(u.Examples, id)
	}
}

// add joins what another worker counted.
func (t *tally) add(o *tally) {
	t.records, t.differing, t.omitted = t.records+o.records, t.differing+o.differing, t.omitted+o.omitted
	for k, g := range o.groups {
		mine := t.groups[k]
		if mine == nil {
			t.groups[k] = g
			continue
		}
		mine.Records, mine.Recipients = mine.Records+g.Records, mine.Recipients+g.Recipients
		mine.Examples = earliest(append(mine.Examples, g.Examples...))
	}
	for name, h := range o.hits {
		if mine := t.hits[name]; mine != nil {
			mine.Old, mine.New = mine.Old+h.Old, mine.New+h.New
		} else {
			t.hits[name] = h
		}
	}
	for what, u := range o.unknown {
		if mine := t.unknown[what]; mine != nil {
			mine.Records += u.Records
		} else {
			t.unknown[what] = u
		}
	}
}

func (t *tally) report() Report {
	r := Report{Records: t.records, Differing: t.differing, Omitted: t.omitted, Groups: []Group{}, Hits: []Hit{}, Unknown: []Unknown{}, Notes: []string{}}
	for _, g := range t.groups {
		r.Groups = append(r.Groups, *g)
	}
	slices.SortFunc(r.Groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Recipients, a.Recipients), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Old, b.Old), cmp.Compare(a.New, b.New))
	})
	if len(r.Groups) > maxGroups {
		for _, g := range r.Groups[maxGroups:] {
			r.Omitted += g.Recipients
		}
		r.Groups = r.Groups[:maxGroups]
	}
	for _, name := range slices.Sorted(maps.Keys(t.hits)) {
		r.Hits = append(r.Hits, *t.hits[name])
	}
	for _, what := range slices.Sorted(maps.Keys(t.unknown)) {
		r.Unknown = append(r.Unknown, *t.unknown[what])
	}
	return r
}
