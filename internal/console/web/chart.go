package web

import (
	"fmt"
	"strings"
	"time"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// span is a time that a chart shows.
type span struct {
	name  string
	bins  int
	width time.Duration
	label string // of time.Format, for its ends
}

func spans() []span {
	return []span{{"24h", 24, time.Hour, "15:04"}, {"7d", 28, 6 * time.Hour, "Mon 2 Jan"}, {"30d", 30, 24 * time.Hour, "2 Jan"}}
}

func spanOf(name string) span {
	all := spans()
	for _, s := range all {
		if s.name == name {
			return s
		}
	}
	return all[0]
}

// begin is the beginning of the first bin when the last one has now in it.
func (s span) begin(now time.Time) time.Time {
	y, m, d := now.Date()
	last := time.Date(y, m, d, 0, 0, 0, 0, now.Location())
	for !last.Add(s.width).After(now) {
		last = last.Add(s.width)
	}
	return last.Add(-s.width * time.Duration(s.bins-1))
}

// kind is what a chart tells apart, from below.
type kind struct {
	Name  string // in words
	Class string // of the stylesheet
	Total int
}

func kinds() []kind {
	return []kind{{Name: "accepted", Class: "k-good"}, {Name: "held", Class: "k-held"}, {Name: "put off", Class: "k-later"}, {Name: "refused", Class: "k-bad"}, {Name: "dropped", Class: "k-gone"}}
}

// kindOf is the place of an action in kinds.
func kindOf(action string) int {
	switch action {
	case mail.Accept.String(), mail.Continue.String():
		return 0
	case mail.Quarantine.String():
		return 1
	case mail.TempFail.String():
		return 2
	case mail.Reject.String():
		return 3
	}
	return 4
}

// chart is a drawing of bars in thousandths of its width and height.
type chart struct {
	Kinds  []kind
	Bars   []column
	Top    int // what the upper edge stands for
	Labels []string
	Words  string // all of it in a sentence
}

// column is one bar, of several pieces.
type column struct {
	X, Width int
	Title    string
	Time     time.Time
	Counts   []int
	Pieces   []piece
}

type piece struct {
	Class     string
	Y, Height int
}

// newChart sorts hours into bins, and lays them out.
func newChart(hours []history.Bucket, s span, since, now time.Time) *chart {
	c := &chart{Kinds: kinds(), Bars: make([]column, s.bins)}
	for i := range c.Bars {
		at := since.Add(s.width * time.Duration(i))
		c.Bars[i] = column{X: 1000 * i / s.bins, Width: 1000/s.bins - 4, Time: at, Counts: make([]int, len(c.Kinds))}
	}
	most := 0
	for _, h := range hours {
		i := int(h.Hour.Sub(since) / s.width)
		if h.Hour.Before(since) || i >= s.bins {
			continue
		}
		k := kindOf(h.Action)
		c.Bars[i].Counts[k] += h.Count
		c.Kinds[k].Total += h.Count
	}
	for _, b := range c.Bars {
		most = max(most, sum(b.Counts))
	}
	c.Top = roundUp(most)
	for i := range c.Bars {
		c.Bars[i].stack(c.Kinds, c.Top, s)
	}
	for _, at := range []time.Time{since, since.Add(now.Sub(since) / 2), now} {
		c.Labels = append(c.Labels, at.Format(s.label))
	}
	var words []string
	for _, k := range c.Kinds {
		if k.Total > 0 {
			words = append(words, fmt.Sprintf("%d %s", k.Total, k.Name))
		}
	}
	c.Words = "Mail of the last " + s.name + ": " + strings.Join(words, ", ")
	if len(words) == 0 {
		c.Words = "No mail in the last " + s.name
	}
	return c
}

func (b *column) stack(kinds []kind, top int, s span) {
	below := 0
	var words []string
	for i, n := range b.Counts {
		if n == 0 {
			continue
		}
		from, to := 1000*below/top, 1000*(below+n)/top
		b.Pieces = append(b.Pieces, piece{kinds[i].Class, 1000 - to, max(to-from, 4)})
		below += n
		words = append(words, fmt.Sprintf("%d %s", n, kinds[i].Name))
	}
	b.Title = b.Time.Format("Mon 2 Jan 15:04") + ": " + strings.Join(words, ", ")
}

func sum(all []int) (n int) {
	for _, one := range all {
		n += one
	}
	return n
}

// roundUp is the next number that is easy to read: 1, 2 or 5 with zeros.
func roundUp(n int) int {
	for unit := 1; ; unit *= 10 {
		for _, digit := range []int{1, 2, 5} {
			if digit*unit >= n {
				return digit * unit
			}
		}
	}
}
