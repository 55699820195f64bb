package state

import (
	"context"
	"slices"
	"time"
)

// write is what a store was not told.
type write struct {
	set     Set
	key     string
	value   string
	expires time.Time // zero: deleted
}

type writeKey struct {
	set Set
	key string
}

// writes keeps the last one of each entry, in the order in which the entries
// came first, up to a bound.
type writes struct {
	max       int
	last      map[writeKey]write
	order     []writeKey
	written   int
	forgotten int
}

func newWrites(max int) writes { return writes{max: max, last: make(map[writeKey]write)} }

func (w *writes) add(one write) {
	k := writeKey{one.set, one.key}
	if _, there := w.last[k]; !there {
		if len(w.last) >= w.max {
			w.forgotten++
			return
		}
		w.order = append(w.order, k)
	}
	w.last[k] = one
}

// list is all of them, in order.
func (w *writes) list() []write {
	list := make([]write, 0, len(w.order))
	for _, k := range w.order {
		list = append(list, w.last[k])
	}
	return list
}

// done takes away what was written, except where there is a newer one.
func (w *writes) done(list []write) {
	for _, one := range list {
		if k := (writeKey{one.set, one.key}); w.last[k] == one {
			delete(w.last, k)
			w.written++
		}
	}
	w.order = slices.DeleteFunc(w.order, func(k writeKey) bool { _, there := w.last[k]; return !there })
}

func (w write) write(ctx context.Context, to Store, now time.Time) error {
	if w.expires.IsZero() {
		_, err := to.Delete(ctx, w.set, w.key)
		return err
	}
	left := w.expires.Sub(now)
	if left < time.Millisecond {
		return nil // it has ended meanwhile
	}
	return to.Put(ctx, w.set, w.key, w.value, left)
}
