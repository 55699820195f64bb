package metrics

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Figure is what was counted of one filter, route or list.
type Figure struct {
	Results map[string]int // by how it ended
	Count   int            // of durations
	Sum     time.Duration
	Buckets []Bucket // of durations, the shortest first
	Down    bool
}

// Bucket counts durations up to Most, those of the buckets before included.
type Bucket struct {
	Most  time.Duration
	Count int
}

// Figures are the same numbers that Prometheus gets, for our own pages.
type Figures struct {
	Time        time.Time
	Filters     map[string]*Figure
	Routes      map[string]*Figure
	Lists       map[string]*Figure
	Messages    map[string]int // answered, by action
	Connections int            // open
}

// of returns the figure of a name.
func of(all map[string]*Figure, name string) *Figure {
	f := all[name]
	if f == nil {
		f = &Figure{Results: make(map[string]int)}
		all[name] = f
	}
	return f
}

// Figures reads what was counted since the start.
func (m *Metrics) Figures() (Figures, error) {
	few := prometheus.NewRegistry()
	few.MustRegister(m.filterDuration, m.filterResults, m.filterUp, m.deliveries, m.deliveryDuration, m.looks, m.listUp, m.connectionsActive, m.messages)
	families, err := few.Gather()
	if err != nil {
		return Figures{}, fmt.Errorf("metrics: %w", err)
	}
	f := Figures{Time: time.Now(), Filters: make(map[string]*Figure), Routes: make(map[string]*Figure), Lists: make(map[string]*Figure), Messages: make(map[string]int)}
	for _, family := range families {
		for _, one := range family.GetMetric() {
			label := make(map[string]string)
			for _, l := range one.GetLabel() {
				label[l.GetName()] = l.GetValue()
			}
			if family.GetName() == prefix+"messages_total" {
				f.Messages[label["action"]] += int(one.GetCounter().GetValue())
				continue
			}
			to, name := f.place(label)
			if to == nil {
				f.Connections += int(one.GetGauge().GetValue())
				continue
			}
			d := of(to, name)
			switch family.GetName() {
			case prefix + "filter_duration_seconds", prefix + "delivery_duration_seconds":
				h := one.GetHistogram()
				d.Count, d.Sum = int(h.GetSampleCount()), seconds(h.GetSampleSum())
				for _, b := range h.GetBucket() {
					d.Buckets = append(d.Buckets, Bucket{seconds(b.GetUpperBound()), int(b.GetCumulativeCount())})
				}
			case prefix + "filter_up", prefix + "dnsbl_list_up":
				d.Down = one.GetGauge().GetValue() == 0
			default:
				d.Results[label["result"]] = int(one.GetCounter().GetValue())
			}
		}
	}
	return f, nil
}

// place is where what has these labels belongs; nil: nowhere.
func (f *Figures) place(label map[string]string) (all map[string]*Figure, name string) {
	for key, all := range map[string]map[string]*Figure{"filter": f.Filters, "route": f.Routes, "list": f.Lists} {
		if name, ok := label[key]; ok {
			return all, name
		}
	}
	return nil, ""
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s, math.MaxInt64/float64(time.Second)-1) * float64(time.Second))
}

// Since is what was counted between an older figure, which may be nil, and f.
func (f *Figure) Since(old *Figure) *Figure {
	if f == nil {
		f = new(Figure)
	}
	d := &Figure{Results: make(map[string]int), Count: f.Count, Sum: f.Sum, Down: f.Down, Buckets: make([]Bucket, len(f.Buckets))}
	for result, n := range f.Results {
		if old != nil {
			n -= old.Results[result]
		}
		if n > 0 {
			d.Results[result] = n
		}
	}
	copy(d.Buckets, f.Buckets)
	if old != nil && len(old.Buckets) == len(f.Buckets) {
		d.Count -= old.Count
		d.Sum -= old.Sum
		for i := range d.Buckets {
			d.Buckets[i].Count -= old.Buckets[i].Count
		}
	}
	return d
}

// Quantile is a time that so many of all (0.95) took at most: the end of their
// bucket. What took longer than the last bucket counts as twice its end.
func (f *Figure) Quantile(q float64) time.Duration {
	if f.Count == 0 || len(f.Buckets) == 0 {
		return 0
	}
	rank := int(math.Ceil(q * float64(f.Count)))
	for _, b := range f.Buckets {
		if b.Count >= rank {
			return b.Most
		}
	}
	return 2 * f.Buckets[len(f.Buckets)-1].Most
}

// Mean of the durations.
func (f *Figure) Mean() time.Duration {
	if f.Count == 0 {
		return 0
	}
	return f.Sum / time.Duration(f.Count)
}

// Recent remembers figures of the last minutes, so that what happens now can be
// told from what happened since the start.
type Recent struct {
	of    *Metrics
	every time.Duration
	keep  int

	mu  sync.Mutex
	old []Figures // the oldest first
}

// NewRecent remembers a quarter of an hour, when Run runs.
func NewRecent(m *Metrics) *Recent { return &Recent{of: m, every: time.Minute, keep: 15} }

// Run takes a sample now and then until ctx ends.
func (r *Recent) Run(ctx context.Context) error {
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for {
		r.sample()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (r *Recent) sample() {
	f, err := r.of.Figures()
	if err != nil {
		return // the next one may be good
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.old = append(r.old, f); len(r.old) > r.keep {
		r.old = r.old[1:]
	}
}

// Now returns the figures of this moment, and those of the beginning of what is
// remembered: without any, of before the start.
func (r *Recent) Now() (now, then Figures, err error) {
	if now, err = r.of.Figures(); err != nil {
		return now, then, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	then = Figures{Time: now.Time}
	if len(r.old) > 0 {
		then = r.old[0]
	}
	return now, then, nil
}
