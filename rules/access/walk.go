package access

import (
	"bytes"
	"net/netip"
)

// Trace records the keys that searches tried, in order. A nil Trace records
// nothing.
type Trace struct{ Tried []Try }

// Try is one key that was looked up.
type Try struct {
	Key   string // with its tag, or with the name of the list before it
	Path  string // where it was found; "" for not
	Line  int
	Value string
}

func (tr *Trace) note(t Tag, key []byte, h Hit, ok bool) {
	if tr == nil {
		return
	}
	try := Try{Key: t.String() + string(key)}
	if ok {
		try.Path, try.Line, try.Value = h.Path, h.Line, h.Text
	}
	tr.Tried = append(tr.Tried, try)
}

// Names of the classes in a Trace.
const (
	localNames = "our domains (class w)"
	relayNames = "relay domains (class R)"
	ownNames   = "our whole domain (class m)"
)

// list notes that a list was asked.
func (tr *Trace) list(name, key string, l Listed, ok bool) {
	if tr == nil {
		return
	}
	try := Try{Key: name + ": " + key}
	if ok {
		try.Path, try.Line, try.Value = l.file, l.line, l.Entry
	}
	tr.Tried = append(tr.Tried, try)
}

// traced is Has, noted under the name of the class.
func (c *Class) traced(name, domain string, tr *Trace) (Listed, bool) {
	l, ok := c.Has(domain)
	if tr != nil && !c.Empty() && domain != "" {
		tr.list(name, domain, l, ok)
	}
	return l, ok
}

// found asks for one key, with the tag and, where it has a twin, without.
func (t *Table) found(tag Tag, key []byte, tr *Trace) (Hit, bool) {
	if h, ok := t.get(tag, key, tr); ok || !tag.hasTwin() {
		return h, ok
	}
	return t.get(Untagged, key, tr)
}

func (t *Table) get(tag Tag, key []byte, tr *Trace) (h Hit, ok bool) {
	if s, there := t.slots[tag][string(key)]; there {
		h, ok = Hit{&t.values[s.value], tag, string(key), t.path, int(s.line)}, true
	}
	tr.note(tag, key, h, ok)
	return h, ok
}

// unlessSkip turns SKIP into "not found": the search of this item has ended.
func unlessSkip(h Hit) (Hit, bool) {
	if h.Says == SKIP {
		return Hit{}, false
	}
	return h, true
}

// keySpace holds the longest key that mail's grammar allows; a longer one
// costs an allocation.
const keySpace = 336

// Domain is walk D, from a name to its parents: a.b.c, b.c, c. An address
// literal is walked as the address in brackets.
func (t *Table) Domain(tag Tag, name string, tr *Trace) (Hit, bool) {
	if ip, ok := literal(name); ok {
		return t.bracket(tag, ip, tr)
	}
	var space [keySpace]byte
	key := appendLower(space[:0], name)
	for len(key) > 0 {
		if h, ok := t.found(tag, key, tr); ok {
			return unlessSkip(h)
		}
		dot := bytes.IndexByte(key, '.')
		if dot < 0 {
			break
		}
		if t.dots {
			if h, ok := t.found(tag, key[dot:], tr); ok {
				return unlessSkip(h)
			}
		}
		key = key[dot+1:]
	}
	return Hit{}, false
}

// Address is walk A, from an address to shorter prefixes: 1.2.3.4, 1.2.3, 1.2,
// 1; that of IPv6 ends with IPv6, which is all of them.
func (t *Table) Address(tag Tag, ip netip.Addr, tr *Trace) (Hit, bool) {
	return t.prefixes(tag, ip, "", "", tr)
}

// bracket is walk D for the name of a client that has none: [1.2.3.4],
// [1.2.3], [1.2], [1].
func (t *Table) bracket(tag Tag, ip netip.Addr, tr *Trace) (Hit, bool) {
	return t.prefixes(tag, ip, "[", "]", tr)
}

func (t *Table) prefixes(tag Tag, ip netip.Addr, open, end string, tr *Trace) (Hit, bool) {
	var space [keySpace]byte
	key := append(space[:0], open...)
	key = appendAddr(key, ip.Unmap())
	sep := byte('.')
	if !ip.Unmap().Is4() {
		sep = ':'
	}
	for {
		n := len(key)
		if h, ok := t.found(tag, append(key, end...), tr); ok {
			return unlessSkip(h)
		}
		i := bytes.LastIndexByte(key[:n], sep)
		if i < 0 {
			return Hit{}, false
		}
		key = key[:i]
	}
}

// Full is walk F, for a mailbox: u+d@domain, u+*@domain, u@domain. What SKIP
// means here is for its caller to say: only walks D and A end with it.
func (t *Table) Full(tag Tag, m Mailbox, tr *Trace) (Hit, bool) {
	return t.mailbox(tag, m.Local, m.Domain, tr)
}

// User is walk U, for a user at any domain: u+d@, u+*@, u@. It knows no SKIP
// either.
func (t *Table) User(tag Tag, local string, tr *Trace) (Hit, bool) {
	return t.mailbox(tag, local, "", tr)
}

func (t *Table) mailbox(tag Tag, local, domain string, tr *Trace) (Hit, bool) {
	var space [keySpace]byte
	key := append(appendLower(space[:0], local), '@')
	at := len(key) - 1
	key = appendLower(key, domain)
	if h, ok := t.found(tag, key, tr); ok {
		return h, true
	}
	plus := -1
	if at > 0 {
		plus = 1 + bytes.IndexByte(key[1:at], '+') // a user has a first letter
	}
	if plus <= 0 {
		return Hit{}, false
	}
	var space2 [keySpace]byte
	other := append(append(space2[:0], key[:plus+1]...), '*')
	if h, ok := t.found(tag, append(other, key[at:]...), tr); ok {
		return h, true
	}
	return t.found(tag, append(other[:plus], key[at:]...), tr)
}

// Exact is walk E, for one key and no other. "" is what holds for all others.
// It knows no SKIP either.
func (t *Table) Exact(tag Tag, item string, tr *Trace) (Hit, bool) {
	var space [keySpace]byte
	if ip, ok := literal(item); ok {
		return t.found(tag, append(appendAddr(append(space[:0], '['), ip), ']'), tr)
	}
	return t.found(tag, appendLower(space[:0], item), tr)
}
