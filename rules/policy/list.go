package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/tomltext"
)

// ListType says what the entries of a list are.
type ListType string

// The types of lists.
const (
	ListAddress ListType = "address" // user@example.com; @example.com all at it; user@ that name at any
	ListDomain  ListType = "domain"  // example.com itself; .example.com what is below it
	ListHost    ListType = "host"    // example.com and all below it
	ListCIDR    ListType = "cidr"    // 192.0.2.1, 192.0.2.0/24
	ListHash    ListType = "hash"    // SHA-256 in hex
	ListRegexp  ListType = "regexp"  // matches anywhere in the text
	ListString  ListType = "string"  // the text itself, without regard to case
)

var listTypes = []string{"address", "domain", "host", "cidr", "hash", "regexp", "string"}

// list is what a section [list.NAME] makes. It never changes.
type list struct {
	name    string
	kind    ListType
	where   string   // "file:line" of the section
	files   []string // of the entries; entries of the section itself are in its own file
	exact   map[string]spot
	nets    map[netip.Prefix]spot
	bits    map[bool][]int // lengths of prefixes that there are, longest first; true: IPv4
	regexps []regexpEntry
	until   map[spot]time.Time // of those that end
	dynamic *DynamicList       // nil: it is not
	source  Dynamic
	managed bool // its entries come from commands
	used    bool
	size    int
}

// spot is where an entry stands.
type spot struct {
	file uint16 // in files
	line uint32
}

type regexpEntry struct {
	*matcher
	at spot
}

func newList(name string, kind ListType) *list {
	return &list{
		name: name, kind: kind, exact: make(map[string]spot), nets: make(map[netip.Prefix]spot),
		bits: make(map[bool][]int), until: make(map[spot]time.Time),
	}
}

// entryHit is an entry that was found.
type entryHit struct {
	list *list
	key  string
	at   spot
	live bool // of the dynamic part
}

func (h entryHit) where() string {
	if h.live {
		return h.list.where
	}
	return fmt.Sprintf("%s:%d", h.list.files[h.at.file], h.at.line)
}

// find looks for a value at a time. It charges what it costs.
func (l *list) find(value string, now time.Time, charge func(int)) (entryHit, bool) {
	switch l.kind {
	case ListCIDR:
		return l.findAddr(value, now)
	case ListRegexp:
		for _, r := range l.regexps {
			if r.match(value, charge) && l.counts(r.at, now) {
				return entryHit{list: l, key: r.text, at: r.at}, true
			}
		}
		return entryHit{}, false
	}
	for key := range l.keys(value) {
		if at, ok := l.exact[key]; ok && l.counts(at, now) {
			return entryHit{list: l, key: key, at: at}, true
		}
		if l.source != nil && l.source.Has(l.name, key) {
			return entryHit{list: l, key: key, live: true}, true
		}
	}
	return entryHit{}, false
}

func (l *list) counts(at spot, now time.Time) bool {
	if len(l.until) == 0 {
		return true
	}
	end, ends := l.until[at]
	return !ends || now.Before(end)
}

func (l *list) findAddr(value string, now time.Time) (entryHit, bool) {
	ip, err := netip.ParseAddr(value)
	if err != nil {
		return entryHit{}, false
	}
	ip = ip.Unmap().WithZone("")
	if l.source != nil && l.source.Has(l.name, ip.String()) {
		return entryHit{list: l, key: ip.String(), live: true}, true
	}
	for _, n := range l.bits[ip.Is4()] {
		p, _ := ip.Prefix(n)
		if at, ok := l.nets[p]; ok && l.counts(at, now) {
			return entryHit{list: l, key: p.String(), at: at}, true
		}
	}
	return entryHit{}, false
}

// keys are those that a value may be found under, the most exact first.
func (l *list) keys(value string) func(func(string) bool) {
	return func(yield func(string) bool) {
		switch l.kind {
		case ListAddress:
			yieldAddress(value, yield)
		case ListDomain, ListHost:
			yieldDomain(value, l.kind, yield)
		default:
			yield(strings.ToLower(value))
		}
	}
}

// yieldAddress names a mailbox, its domain, and its local part.
func yieldAddress(value string, yield func(string) bool) {
	value = strings.ToLower(value)
	at := strings.LastIndexByte(value, '@')
	if at < 0 {
		yield(value)
		return
	}
	domain := mail.ASCIIDomain(value[at+1:])
	_ = yield(value[:at+1]+domain) && yield("@"+domain) && yield(value[:at+1])
}

// yieldDomain names a domain and what it is below.
func yieldDomain(value string, kind ListType, yield func(string) bool) {
	name := mail.ASCIIDomain(strings.ToLower(strings.TrimSuffix(value, ".")))
	if !yield(name) {
		return
	}
	for {
		_, above, ok := strings.Cut(name, ".")
		if !ok {
			return
		}
		name = above
		key := name
		if kind == ListDomain {
			key = "." + name
		}
		if !yield(key) {
			return
		}
	}
}

// add takes an entry. The error says what is wrong with it; what to do.
func (l *list) add(entry string, at spot) error {
	switch l.kind {
	case ListCIDR:
		return l.addNet(entry, at)
	case ListRegexp:
		if len(l.regexps) == maxListRegexps {
			return fmt.Errorf("is one of more than %d regular expressions; each is tried on each message: use another type of list", maxListRegexps)
		}
		m, err := newMatcher(entry)
		if err != nil {
			return err
		}
		l.regexps = append(l.regexps, regexpEntry{m, at})
		l.size++
		return nil
	}
	key, err := canonical(l.kind, entry)
	if err != nil {
		return err
	}
	if _, twice := l.exact[key]; !twice {
		l.exact[key] = at
		l.size++
	}
	return nil
}

const maxListRegexps = 1000

func (l *list) addNet(entry string, at spot) error {
	p, err := parsePrefix(entry)
	if err != nil {
		return fmt.Errorf("%q is no address or network; write one such as 192.0.2.1 or 192.0.2.0/24", entry)
	}
	if p != p.Masked() {
		return fmt.Errorf("%q has bits behind its prefix; write %s", entry, p.Masked())
	}
	if _, twice := l.nets[p]; twice {
		return nil
	}
	l.nets[p] = at
	l.size++
	v4 := p.Addr().Is4()
	for i, n := range l.bits[v4] {
		if n == p.Bits() {
			return nil
		}
		if n < p.Bits() {
			l.bits[v4] = append(l.bits[v4][:i], append([]int{p.Bits()}, l.bits[v4][i:]...)...)
			return nil
		}
	}
	l.bits[v4] = append(l.bits[v4], p.Bits())
	return nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Addr().Is4In6() {
			return netip.Prefix{}, fmt.Errorf("no network")
		}
		return p, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("no address")
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}

var hashForm = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// canonical is the key of an entry.
func canonical(kind ListType, entry string) (string, error) {
	entry = strings.ToLower(entry)
	switch kind {
	case ListHash:
		if !hashForm.MatchString(entry) {
			return "", fmt.Errorf("%q is no SHA-256; write its 64 hexadecimal digits", clip(entry))
		}
	case ListDomain, ListHost:
		below, isBelow := strings.CutPrefix(entry, ".")
		if isBelow && kind == ListHost {
			return "", fmt.Errorf("%q begins with a dot; hosts of this list have those below them in any case", entry)
		}
		name, err := mail.ParseDomain(below)
		if err != nil {
			return "", fmt.Errorf("%q is no domain: %s; write example.com", clip(entry), strings.TrimPrefix(err.Error(), "address: "))
		}
		if isBelow {
			return "." + mail.ASCIIDomain(name), nil
		}
		return mail.ASCIIDomain(name), nil
	case ListAddress:
		return canonicalAddress(entry)
	}
	return entry, nil
}

func canonicalAddress(entry string) (string, error) {
	bad := func(err error) error {
		return fmt.Errorf("%q is no address: %s; write user@example.com, @example.com for all there, or user@ for that name anywhere", clip(entry), strings.TrimPrefix(err.Error(), "address: "))
	}
	if domain, ok := strings.CutPrefix(entry, "@"); ok {
		name, err := mail.ParseDomain(domain)
		if err != nil {
			return "", bad(err)
		}
		return "@" + mail.ASCIIDomain(name), nil
	}
	if local, ok := strings.CutSuffix(entry, "@"); ok {
		if _, err := mail.ParseAddress(local+"@example.com", true); err != nil {
			return "", bad(err)
		}
		return entry, nil
	}
	if !strings.Contains(entry, "@") && entry != "" {
		return "", bad(fmt.Errorf("it has no @"))
	}
	a, err := mail.ParseAddress(entry, true)
	if err != nil {
		return "", bad(err)
	}
	return strings.ToLower(a.Local) + "@" + a.ASCIIDomain(), nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

// position is that of an entry in a list.
func (s spot) position() tomltext.Position { return tomltext.Position{Line: int(s.line)} }
