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
	var out []headerCommand
	inserts := map[int][]mail.Field{}
	deleted := map[int]bool{}
	changes := map[int]*mail.Field{}
	for _, e := range edits {
		switch e := e.(type) {
		case mail.InsertHeader:
			at := min(max(e.At, 0), len(h))
			inserts[at] = append(inserts[at], e.Field)
		case mail.DeleteHeader:
			changes[e.At], deleted[e.At] = nil, true
		case mail.ChangeHeader:
			f := e.Field
			if !f.Is(h[e.At].Name()) { // the protocol can't change a name
				changes[e.At], deleted[e.At] = nil, true
				inserts[e.At] = append(inserts[e.At], f)
				continue
			}
			changes[e.At] = &f
		}
	}
	for at, f := range descending(changes) {
		c := headerCommand{code: byte(milter.ActChangeHeader), needs: milter.OptChangeHeader, index: occurrence(h, at), name: h[at].Name()}
		if f != nil {
			c.name, c.value = f.Name(), fieldValue(*f) // Postfix takes the name's spelling, too
		}
		out = append(out, c)
	}
	for at, fields := range descending(inserts) {
		if at == len(h) {
			for _, f := range fields { // in order: each goes behind the last
				out = append(out, headerCommand{code: byte(milter.ActAddHeader), needs: milter.OptAddHeader, name: f.Name(), value: fieldValue(f)})
			}
			continue
		}
		index := uint32(1)
		for i := range at {
			if d == sendmail || !deleted[i] {
				index++
			}
		}
		for _, f := range slices.Backward(fields) { // each pushes the former down
			out = append(out, headerCommand{code: byte(milter.ActInsertHeader), needs: milter.OptAddHeader, index: index, name: f.Name(), value: fieldValue(f)})
		}
	}
	return out
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
