package filters

import (
	"slices"

	"gatepost/internal/mail"
)

// ledger follows each header field through the edits of several filters, so
// that edits made on an edited header can be told in terms of the one that was
// given.
type ledger struct {
	fields []entry
	others []mail.Edit // of envelope and body, in order
}

// entry is a field of the header as given, also a deleted one, or one of ours.
type entry struct {
	at      int // in the header as given; -1: ours
	field   mail.Field
	changed bool
	deleted bool
}

func newLedger(h mail.Header) *ledger {
	l := &ledger{fields: make([]entry, len(h))}
	for i, f := range h {
		l.fields[i] = entry{at: i, field: f}
	}
	return l
}

// add takes edits of the header as it stands after all edits before. Together
// they mean what mail.Apply makes of them.
func (l *ledger) add(edits []mail.Edit) {
	standing := 0
	for _, e := range l.fields {
		if !e.deleted {
			standing++
		}
	}
	inserts := make(map[int][]entry)
	changes := make(map[int]mail.Field)
	deletes := make(map[int]bool)
	for _, e := range edits {
		switch e := e.(type) {
		case mail.InsertHeader:
			at := min(max(e.At, 0), standing)
			inserts[at] = append(inserts[at], entry{at: -1, field: e.Field})
		case mail.ChangeHeader:
			changes[e.At] = e.Field
		case mail.DeleteHeader:
			deletes[e.At] = true
		default:
			l.others = append(l.others, e)
		}
	}
	var fields []entry
	i := 0 // in the standing header
	for _, e := range l.fields {
		if e.deleted {
			fields = append(fields, e)
			continue
		}
		fields = append(fields, inserts[i]...)
		if f, ok := changes[i]; ok {
			e.field, e.changed = f, true
		}
		e.deleted = deletes[i]
		i++
		if e.deleted && e.at < 0 {
			continue
		}
		fields = append(fields, e)
	}
	l.fields = append(fields, inserts[i]...)
}

// edits returns all that was added, as edits of the header as given.
func (l *ledger) edits() []mail.Edit {
	var edits []mail.Edit
	next := 0 // place in the header as given
	for _, e := range l.fields {
		if e.at < 0 {
			edits = append(edits, mail.InsertHeader{At: next, Field: e.field})
			continue
		}
		next = e.at + 1
		switch {
		case e.deleted:
			edits = append(edits, mail.DeleteHeader{At: e.at})
		case e.changed:
			edits = append(edits, mail.ChangeHeader{At: e.at, Field: e.field})
		}
	}
	return append(edits, l.others...)
}

// with returns what edits would be after one more addition.
func (l *ledger) with(edits []mail.Edit) []mail.Edit {
	if len(edits) == 0 {
		return l.edits()
	}
	more := &ledger{fields: l.fields, others: slices.Clip(l.others)}
	more.add(edits)
	return more.edits()
}
