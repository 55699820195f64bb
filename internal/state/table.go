package state

// table is a bounded map of things that end by themselves.
type table[V any] struct {
	max  int
	ends func(V) int64
	m    map[string]V
}

func newTable[V any](max int, ends func(V) int64) table[V] {
	return table[V]{max: max, ends: ends, m: make(map[string]V)}
}

// get finds what has not ended.
func (t *table[V]) get(now int64, key string) (v V, ok bool) {
	if v, ok = t.m[key]; ok && t.ends(v) <= now {
		var none V
		return none, false
	}
	return v, ok
}

// put keeps v, and looks at a few others: those that have ended go, and where
// there is no room, the one of them that would end first.
func (t *table[V]) put(now int64, key string, v V) {
	if _, there := t.m[key]; !there {
		t.makeRoom(now)
	}
	t.m[key] = v
}

const (
	looks     = 4  // at each new one
	fullLooks = 16 // when there is no room
)

func (t *table[V]) makeRoom(now int64) {
	full := len(t.m) >= t.max
	n, first, firstEnds := looks, "", int64(0)
	if full {
		n = fullLooks
	}
	gone := 0
	for key, v := range t.m { // begins anywhere
		ends := t.ends(v)
		if ends <= now {
			delete(t.m, key)
			gone++
		} else if firstEnds == 0 || ends < firstEnds {
			first, firstEnds = key, ends
		}
		if n--; n == 0 {
			break
		}
	}
	if full && gone == 0 {
		delete(t.m, first)
	}
}
