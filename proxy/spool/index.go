package spool

import (
	"cmp"
	"slices"
)

// record is the place of a content record. Nothing of what it says is kept in
// memory once it is no longer fresh.
type record struct {
	seg   *segment
	first *entry // of the messages in it; nil when all are removed
	fresh *fresh // nil when it must be read from disk
	at    uint32
	size  uint32
	meta  uint32 // bytes from the frame to the end of meta
}

// before reports whether r was written before o.
func (r *record) before(o *record) bool {
	return r.seg.num < o.seg.num || r.seg == o.seg && r.at < o.at
}

// entry is what we remember of each message.
type entry struct {
	id         string
	rec        *record
	next       *entry // in the same record
	received   int64
	recipients uint32
	state      uint8
	tried      bool // at least once

	// The place of its last progress record; seg is nil when there is none.
	progress place
}

// place is where a progress record lies.
type place struct {
	seg  *segment
	at   uint32
	size uint32
}

// index knows all messages. Guarded by Spool.mu.
type index struct {
	entries map[string]*entry
	counts  [len(states)]int
	large   map[*record]string // the files of those records that have one
	// copies are the segments that still hold an older copy of a message that
	// was moved on.
	copies map[string][]*segment
}

func newIndex() index {
	return index{entries: map[string]*entry{}, large: map[*record]string{}, copies: map[string][]*segment{}}
}

// part is what the index wants to know of a message.
type part struct {
	id         string
	received   int64
	recipients uint32
	state      uint8
}

func (c *content) parts() []part {
	parts := make([]part, len(c.entries))
	for i := range c.entries {
		e := &c.entries[i]
		n, _ := e.State.number()
		parts[i] = part{id: e.ID, received: e.Received.UnixNano(), recipients: uint32(len(e.Envelope.Recipients)), state: n}
	}
	return parts
}

// put adds the messages of a record. Where one is known already, this is its
// newer copy.
func (x *index) put(rec *record, parts []part, large string) {
	rec.seg.live++
	rec.seg.bytes += int64(rec.size)
	rec.seg.records[rec] = struct{}{}
	if large != "" {
		x.large[rec] = large
	}
	for _, p := range parts {
		e := x.entries[p.id]
		if e == nil {
			e = &entry{id: p.id, received: p.received, recipients: p.recipients, state: p.state}
			x.entries[p.id] = e
			x.counts[p.state]++
		} else {
			x.copies[p.id] = append(x.copies[p.id], e.rec.seg)
			x.detach(e)
		}
		e.rec, e.next, rec.first = rec, rec.first, e
	}
}

// detach takes e out of its record, and returns the name of a large file that
// nothing refers to any more.
func (x *index) detach(e *entry) (large string) {
	rec := e.rec
	for p := &rec.first; *p != nil; p = &(*p).next {
		if *p == e {
			*p = e.next
			break
		}
	}
	e.rec, e.next = nil, nil
	if rec.first != nil {
		return ""
	}
	rec.seg.live--
	rec.seg.bytes -= int64(rec.size)
	delete(rec.seg.records, rec)
	large = x.large[rec]
	delete(x.large, rec)
	return large
}

// progressed notes the newest progress record of e.
func (x *index) progressed(e *entry, p place, how *Progress) {
	x.forgetProgress(e)
	p.seg.live++
	p.seg.bytes += int64(p.size)
	e.progress = p
	n, _ := how.State.number()
	x.counts[e.state]--
	x.counts[n]++
	e.state, e.tried = n, how.Attempts > 0
}

func (x *index) forgetProgress(e *entry) {
	if sg := e.progress.seg; sg != nil {
		sg.live--
		sg.bytes -= int64(e.progress.size)
		e.progress = place{}
	}
}

// remove drops a message. saying is the number of the progress segment that
// says so: its record must stay as long as the content can be found.
func (x *index) remove(e *entry, saying uint32) (large string) {
	for _, sg := range append(x.copies[e.id], e.rec.seg) {
		sg.gone[saying] = append(append(sg.gone[saying], byte(len(e.id))), e.id...)
	}
	return x.forget(e)
}

func (x *index) forget(e *entry) (large string) {
	delete(x.copies, e.id)
	delete(x.entries, e.id)
	x.counts[e.state]--
	x.forgetProgress(e)
	return x.detach(e)
}

// drop forgets all messages of a record as if they had never been.
func (x *index) drop(rec *record) {
	for rec.first != nil {
		x.forget(rec.first)
	}
}

// mentions reports whether content is left that the progress segment num says
// is removed.
func mentions(content []*segment, num uint32) bool {
	return slices.ContainsFunc(content, func(sg *segment) bool { return len(sg.gone[num]) > 0 })
}

// retired forgets a segment that is no more.
func (x *index) retired(sg *segment) {
	for id, list := range x.copies {
		list = slices.DeleteFunc(list, func(c *segment) bool { return c == sg })
		if x.copies[id] = list; len(list) == 0 {
			delete(x.copies, id)
		}
	}
}

// sorted returns all messages, oldest first.
func (x *index) sorted() []string {
	type key struct {
		received int64
		id       string
	}
	keys := make([]key, 0, len(x.entries))
	for _, e := range x.entries {
		keys = append(keys, key{e.received, e.id})
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.received, b.received), cmp.Compare(a.id, b.id))
	})
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.id
	}
	return ids
}

// eachGone iterates over a list of IDs in segment.gone.
func eachGone(list []byte, visit func(id []byte)) {
	for len(list) > 0 {
		n := int(list[0])
		visit(list[1 : 1+n])
		list = list[1+n:]
	}
}
