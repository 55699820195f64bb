package rules

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// tag says what the key of a line is compared with.
type tag int

const (
	tagConnect tag = iota // names and addresses of clients
	tagFrom               // senders
	tagTo                 // recipients
	tagNone               // no tag: all three
	tags
)

var tagNames = [tags]string{"Connect:", "From:", "To:", ""}

// keyword is what the value of a line says.
type keyword int8

const (
	saysOK keyword = iota
	saysRelay
	saysReject
	saysDiscard
	saysSkip // ends the search for this item: nothing found
	saysQuarantine
	saysReply // ERROR: or plain text
)

// entry is one line of the map.
type entry struct {
	says  keyword
	line  int32
	value string      // as written
	reply *mail.Reply // of saysReply
}

// access is an access map. The zero access is empty.
type access struct {
	path    string
	entries [tags]map[string]entry
}

// hit is the line that a search found.
type hit struct {
	entry
	tag  tag
	key  string
	path string
}

func (h hit) String() string {
	return fmt.Sprintf("access %s:%d %s%s %s", h.path, h.line, tagNames[h.tag], h.key, h.value)
}

// found asks for one key, with the tag and without.
func (a *access) found(t tag, key []byte) (hit, bool) {
	if e, ok := a.entries[t][string(key)]; ok {
		return hit{e, t, string(key), a.path}, true
	}
	if e, ok := a.entries[tagNone][string(key)]; ok {
		return hit{e, tagNone, string(key), a.path}, true
	}
	return hit{}, false
}

// unlessSkip turns SKIP into "not found": the search of this item has ended.
func unlessSkip(h hit) (hit, bool) {
	if h.says == saysSkip {
		return hit{}, false
	}
	return h, true
}

// keySpace holds the longest key that mail's grammar allows; a longer one
// costs an allocation.
const keySpace = 336

// domain walks from a name to its parents: a.b.c, b.c, c. An address literal
// is walked as the address in brackets.
func (a *access) domain(t tag, name string) (hit, bool) {
	if ip, ok := literal(name); ok {
		return a.address(t, ip, "[", "]")
	}
	var space [keySpace]byte
	key := appendLower(space[:0], name)
	for len(key) > 0 {
		if h, ok := a.found(t, key); ok {
			return unlessSkip(h)
		}
		dot := bytes.IndexByte(key, '.')
		if dot < 0 {
			break
		}
		key = key[dot+1:]
	}
	return hit{}, false
}

// address walks from an address to shorter prefixes: 1.2.3.4, 1.2.3, 1.2, 1.
func (a *access) address(t tag, ip netip.Addr, open, end string) (hit, bool) {
	var space [keySpace]byte
	key := append(space[:0], open...)
	key = appendAddr(key, ip)
	sep := byte('.')
	first := len(open)
	if !ip.Is4() {
		sep = ':'
		first += len(prefixV6)
	}
	for {
		n := len(key)
		if h, ok := a.found(t, append(key, end...)); ok {
			return unlessSkip(h)
		}
		i := bytes.LastIndexByte(key[first:n], sep)
		if i < 0 {
			return hit{}, false
		}
		key = key[:first+i]
	}
}

// mailbox asks for u+d@domain, u+*@domain, u@domain; with an empty domain this
// is the search for a user at any domain.
func (a *access) mailbox(t tag, local, domain string) (hit, bool) {
	var space [keySpace]byte
	key := append(appendLower(space[:0], local), '@')
	at := len(key) - 1
	key = appendLower(key, domain)
	if h, ok := a.found(t, key); ok {
		return unlessSkip(h)
	}
	plus := bytes.IndexByte(key[:at], '+')
	if plus <= 0 {
		return hit{}, false
	}
	var space2 [keySpace]byte
	other := append(append(space2[:0], key[:plus+1]...), '*')
	if h, ok := a.found(t, append(other, key[at:]...)); ok {
		return unlessSkip(h)
	}
	if h, ok := a.found(t, append(space2[:plus], key[at:]...)); ok {
		return unlessSkip(h)
	}
	return hit{}, false
}

const prefixV6 = "ipv6:"

// appendAddr writes an address as the keys have it: IPv6 with all eight groups,
// so that every prefix ends before a colon.
func appendAddr(b []byte, ip netip.Addr) []byte {
	if ip = ip.Unmap(); ip.Is4() {
		return ip.AppendTo(b)
	}
	b = append(b, prefixV6...)
	raw := ip.As16()
	for i := 0; i < len(raw); i += 2 {
		if i > 0 {
			b = append(b, ':')
		}
		b = strconv.AppendUint(b, uint64(raw[i])<<8|uint64(raw[i+1]), 16)
	}
	return b
}

// literal reads [192.0.2.1] and [IPv6:2001:db8::1].
func literal(name string) (netip.Addr, bool) {
	if !strings.HasPrefix(name, "[") || !strings.HasSuffix(name, "]") {
		return netip.Addr{}, false
	}
	in := name[1 : len(name)-1]
	if len(in) > len(prefixV6) && strings.EqualFold(in[:len(prefixV6)], prefixV6) {
		in = in[len(prefixV6):]
	}
	ip, err := netip.ParseAddr(in)
	return ip.Unmap(), err == nil
}

// appendLower folds case as the keys were folded.
func appendLower(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x80 {
			return append(b[:len(b)-i], strings.ToLower(s)...)
		}
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}
