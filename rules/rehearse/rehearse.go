package rehearse

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// Source gives records in their order. history.Finder is one.
type Source interface {
	Each(ctx context.Context, q history.Query, yield func(history.Record) error) error
}

// Run replays all records since a time. progress, if there is one, is told how
// many there were, now and then.
func Run(ctx context.Context, old, fresh Rules, from Source, since time.Time, progress func(records int)) (Report, error) {
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := make(chan []history.Record, 2*runtime.NumCPU())
	tallies := make([]*tally, runtime.NumCPU())
	var working sync.WaitGroup
	var failed sync.Once
	var wrong error
	for i := range tallies {
		tallies[i] = newTally()
		working.Go(func() {
			for batch := range batches {
				if err := tallies[i].batch(batch, old, fresh); err != nil {
					failed.Do(func() { wrong = err; cancel() })
				}
			}
		})
	}
	err := feed(ctx, from, since, batches, progress)
	close(batches)
	working.Wait()
	if wrong != nil {
		return Report{}, wrong
	}
	if err != nil {
		return Report{}, err
	}
	for _, t := range tallies[1:] {
		tallies[0].add(t)
	}
	r := tallies[0].report()
	r.Old, r.New, r.Since, r.Took = old.Generation(), fresh.Generation(), since, time.Since(began).Seconds()
	return r, nil
}

// atOnce is how many records a worker gets.
const atOnce = 64

func feed(ctx context.Context, from Source, since time.Time, to chan<- []history.Record, progress func(int)) error {
	var batch []history.Record
	n := 0
	send := func() error {
		if len(batch) == 0 {
			return nil
		}
		select {
		case to <- batch:
		case <-ctx.Done():
			return ctx.Err()
		}
		n += len(batch)
		batch = nil
		if progress != nil {
			progress(n)
		}
		return nil
	}
	err := from.Each(ctx, history.Query{Since: since}, func(r history.Record) error {
		if batch = append(batch, r); len(batch) == atOnce {
			return send()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return send()
}

var errPanic = errors.New("rehearse: a mistake of ours")

func (t *tally) batch(all []history.Record, old, fresh Rules) (err error) {
	id := ""
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w, at message %s: %v", errPanic, id, p)
		}
	}()
	for i := range all {
		id = all[i].ID
		t.record(&all[i], old, fresh)
	}
	return nil
}

// record compares what becomes of one.
func (t *tally) record(r *history.Record, old, fresh Rules) {
	t.records++
	before, after := replay(r, old), replay(r, fresh)
	t.count(before.hits, true)
	t.count(after.hits, false)
	t.doubts(r, before, after, old)
	if blind(after.hits) != blind(before.hits) {
		return // doubts has told
	}
	type found struct {
		recipients int
		example    Example
	}
	groups := make(map[groupKey]*found)
	for i := range after.ends {
		was, is := before.ends[i], after.ends[i]
		if was.same(is) {
			continue
		}
		to := mail.Address{}
		name := ""
		if i < len(r.Recipients) {
			name = r.Recipients[i].Address
			to, _ = mail.ParseAddress(strings.Trim(name, "<>"), true) // hits of no address are of all
		}
		hit := cause(before.hits, after.hits, to, is.verdict.Reason)
		k := groupKey{hit.Rule, hit.Where, word(was), word(is)}
		if groups[k] == nil {
			groups[k] = &found{example: Example{ID: r.ID, Time: r.Time, From: r.Sender.Address, To: name, Subject: r.Subject, Reason: is.verdict.Reason}}
		}
		groups[k].recipients++
	}
	for k, f := range groups {
		t.group(k, f.recipients, f.example)
	}
	if len(groups) > 0 {
		t.differing++
	}
}

// word is what became of it, in a word.
func word(e end) string {
	switch a := e.action(); {
	case a == mail.Continue:
		return "goes on"
	case a.Delivers() && len(e.verdict.Alter) > 0:
		return "deliver, altered"
	case a.Delivers():
		return "deliver"
	default:
		return a.String()
	}
}

// cause is the rule that makes the difference for a recipient: one that matches
// now, or one that does no more, or the one that decides.
func cause(before, after []mail.RuleHit, to mail.Address, reason string) mail.RuleHit {
	for _, sides := range [][2][]mail.RuleHit{{after, before}, {before, after}} {
		for _, h := range sides[0] {
			if !h.Observe && concerns(h, to) && !strings.HasPrefix(h.Rule, "list:") && !has(sides[1], h, to) {
				return h
			}
		}
	}
	for _, h := range after { // it does the same in another way
		if concerns(h, to) && strings.Contains(reason, "rule "+h.Rule+" (") {
			return h
		}
	}
	return mail.RuleHit{}
}

func concerns(h mail.RuleHit, to mail.Address) bool { return h.Rcpt.IsNull() || h.Rcpt == to }

func has(all []mail.RuleHit, h mail.RuleHit, to mail.Address) bool {
	for _, o := range all {
		if o.Rule == h.Rule && o.Did == h.Did && o.Observe == h.Observe && concerns(o, to) {
			return true
		}
	}
	return false
}

// count notes each rule once.
func (t *tally) count(hits []mail.RuleHit, old bool) {
	seen := make(map[string]bool, len(hits))
	for _, h := range hits {
		if seen[h.Rule] || strings.HasPrefix(h.Did, skipped) {
			continue
		}
		seen[h.Rule] = true
		one := t.hits[h.Rule]
		if one == nil {
			if len(t.hits) == maxHits {
				continue
			}
			one = &Hit{Rule: h.Rule}
			t.hits[h.Rule] = one
		}
		if old {
			one.Old++
			if one.Where == "" {
				one.Where, one.Observe = h.Where, h.Observe
			}
			continue
		}
		one.Where, one.Observe = h.Where, h.Observe
		one.New++
	}
}
