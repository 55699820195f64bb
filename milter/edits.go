package milter

import (
	"cmp"
	"slices"
	"strings"

	"gatepost/internal/mail"

	"github.com/emersion/go-milter"
)

// dialect is how an MTA counts header fields.
type dialect int

const (
	postfix  dialect = iota
	sendmail         // a deleted field keeps its place in the count (milter_changeheader)
)

// dialectOf tells the MTAs apart by the macro v: "Postfix 3.7.11", "8.17.1.9".
func dialectOf(version string) dialect {
	if strings.HasPrefix(version, "8.") {
		return sendmail
	}
	return postfix
}

// headerCommand is one edit in the MTA's terms.
type headerCommand struct {
	code        byte
	needs       milter.OptAction
	index       uint32
	name, value string
}

// headerCommands turns edits of fields with identity (places in the header that
// was judged) into commands that count. Changes and deletions name the n-th
// field of a name, so they go first and from the bottom up: none shifts the
// count of the next. Insertions name a place among all fields, so they come
// then, again from the bottom up; the MTA counts its own Received, which it
// never showed us, as the first.
func headerCommands(h mail.Header, edits []mail.Edit, d dialect) []headerCommand {
	w := newWish(h, edits, d)
	if d == sendmail {
		w.outward()
	}
	var out []headerCommand
	for at, f := range descending(w.changes) {
		c := headerCommand{code: byte(milter.ActChangeHeader), needs: milter.OptChangeHeader, index: occurrence(h, at), name: h[at].Name()}
		if f != nil {
			c.name, c.value = f.name, f.value
		}
		out = append(out, c)
	}
	for at, fields := range descending(w.inserts) {
		c := headerCommand{code: byte(milter.ActInsertHeader), needs: milter.OptAddHeader, index: w.index(at)}
		if at < len(h) {
			slices.Reverse(fields) // each pushes the former down
		} else if d == sendmail {
			c.index = behindAll // it adds a field above the first of its name
		} else {
			c.code = byte(milter.ActAddHeader)
		}
		for _, f := range fields {
			c.name, c.value = f.name, f.value
			out = append(out, c)
		}
	}
	return out
}

// behindAll is a place behind the last field of any header.
const behindAll = 1 << 30

// wish is what the header is to become.
type wish struct {
	h       mail.Header
	inserts map[int][]newField // before the field of h at that place
	changes map[int]*newField  // nil: deleted
}

// newField is a field in the protocol's terms.
type newField struct{ name, value string }

func newWish(h mail.Header, edits []mail.Edit, d dialect) *wish {
	w := &wish{h: h, inserts: map[int][]newField{}, changes: map[int]*newField{}}
	for _, e := range edits {
		switch e := e.(type) {
		case mail.InsertHeader:
			w.insert(min(max(e.At, 0), len(h)), e.Field)
		case mail.DeleteHeader:
			w.changes[e.At] = nil
		case mail.ChangeHeader:
			name := e.Field.Name() // Postfix takes its spelling, too
			if d == sendmail {
				name = h[e.At].Name()
			}
			w.changes[e.At] = &newField{name, fieldValue(e.Field)}
			if !e.Field.Is(h[e.At].Name()) { // the protocol can't change a name
				w.changes[e.At] = nil
				w.insert(e.At, e.Field)
			}
		}
	}
	return w
}

func (w *wish) insert(at int, f mail.Field) {
	w.inserts[at] = append(w.inserts[at], newField{f.Name(), fieldValue(f)})
}

// index is the place as Postfix counts when all changes are done.
func (w *wish) index(at int) uint32 {
	index := uint32(1)
	for i := range at {
		if f, changed := w.changes[i]; !changed || f != nil {
			index++
		}
	}
	return index
}

// outward leaves insertions at the top and at the end only. sendmail counts the
// fields of its configuration (H?D?Date, …), too, which stand unseen between
// its Received and the first field of the message, so that no index is sure to
// hit a place in the midst. The fields on the shorter side of it are taken out
// and put in again, as they were.
func (w *wish) outward() {
	first, last := len(w.h), 0
	for at := range w.inserts {
		if at > 0 && at < len(w.h) {
			first, last = min(first, at), max(last, at)
		}
	}
	switch end := len(w.h); {
	case last == 0:
	case end-first <= last:
		w.inserts[end] = w.taken(first, end)
	default:
		w.inserts[0] = w.taken(0, last)
	}
}

// taken takes out the fields of h from one place to another, with what is to be
// inserted there.
func (w *wish) taken(from, to int) []newField {
	var all []newField
	for at := from; at <= to; at++ {
		all = append(all, w.inserts[at]...)
		delete(w.inserts, at)
		if at == to {
			break
		}
		f, changed := w.changes[at]
		if !changed {
			f = &newField{w.h[at].Name(), fieldValue(w.h[at])}
		}
		if f != nil {
			all = append(all, *f)
		}
		w.changes[at] = nil
	}
	return all
}

// occurrence is the number of the field at among those of its name, from 1.
func occurrence(h mail.Header, at int) uint32 {
	var n uint32
	for _, f := range h[:at+1] {
		if f.Is(h[at].Name()) {
			n++
		}
	}
	return n
}

// descending iterates over a map from its greatest key to its least.
func descending[V any](m map[int]V) func(yield func(int, V) bool) {
	keys := make([]int, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b int) int { return cmp.Compare(b, a) })
	return func(yield func(int, V) bool) {
		for _, k := range keys {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
