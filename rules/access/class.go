package access

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Class is a set of names, of the names below names, and of the beginnings of
// addresses. The zero Class is empty.
type Class struct {
	exact map[string]place // "example.com"
	below map[string]place // "example.com", for all below it
	nets  map[string]place // "10.9", "ipv6:2001:db8"
}

// place is where an entry stands; line 0 is the configuration itself.
type place struct {
	file string
	line int
}

func (p place) has(what string) string {
	if p.line == 0 {
		return p.file + " has " + what
	}
	return fmt.Sprintf("%s:%d has %s", p.file, p.line, what)
}

// Listed is where an entry of a class was found.
type Listed struct {
	Entry string
	place
}

func (l Listed) String() string { return l.has(l.Entry) }

// Form is how the entries of a list are meant.
type Form int

const (
	// Domains is our own: "example.com" is that domain alone, ".example.com"
	// what lies below it.
	Domains Form = iota
	// LocalHosts is sendmail's local-host-names: names as they stand.
	LocalHosts
	// RelayDomains is sendmail's relay-domains: names with all below them, and
	// beginnings of addresses.
	RelayDomains
	// RelayHosts is the same file with relay_hosts_only: names as they stand.
	RelayHosts
	// PostfixDomains is Postfix's relay_domains as a text: names with all below
	// them, perhaps with a result behind that does not matter.
	PostfixDomains
)

// Add puts an entry of the configuration into the class; where names the key.
func (c *Class) Add(form Form, where, entry string) error {
	return c.add(form, place{file: where}, entry)
}

// AddFile reads a list, one entry a line, with # comments. Its errors name path
// and line.
func (c *Class) AddFile(form Form, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var errs Problems
	errs.Add(eachLine(path, f, func(number int, line string) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			return
		}
		if form == PostfixDomains {
			line = strings.Fields(line)[0]
		}
		errs.noteLine(path, number, c.add(form, place{path, number}, line))
	}))
	return errs.Join()
}

func (c *Class) add(form Form, at place, entry string) error {
	if strings.ContainsAny(entry, " \t") {
		return fmt.Errorf("%q is more than one entry; write one a line", mail.CleanText(entry))
	}
	clients := form == RelayDomains || form == RelayHosts
	if looksNumeric(entry) || clients && strings.HasPrefix(strings.ToLower(entry), prefixV6) {
		if !clients {
			return fmt.Errorf("%q is an address; write clients into relay.networks", entry)
		}
		key, _, err := parseItem(entry, false)
		if err != nil {
			return fmt.Errorf("%q: %w", mail.CleanText(entry), err)
		}
		put(&c.nets, key, at)
		return nil
	}
	name, below := strings.CutPrefix(entry, ".")
	name, err := CanonicalDomain(name)
	switch {
	case err != nil && form == Domains:
		return fmt.Errorf("%q: %w; write example.com, or .example.com for the domains below it", mail.CleanText(entry), err)
	case err != nil:
		return fmt.Errorf("%q: %w; write example.com", mail.CleanText(entry), err)
	case below && form == PostfixDomains:
		put(&c.below, name, at)
	case below && form != Domains:
		return fmt.Errorf("%q never matches in this file; write %s, or .%s into relay.domains", entry, name, name)
	case below:
		put(&c.below, name, at)
	default:
		put(&c.exact, name, at)
		if form == RelayDomains || form == PostfixDomains {
			put(&c.below, name, at)
		}
	}
	return nil
}

func put(m *map[string]place, key string, at place) {
	if *m == nil {
		*m = make(map[string]place)
	}
	if _, ok := (*m)[key]; !ok {
		(*m)[key] = at
	}
}

// Has looks a name up: in the class itself, or below one of it.
func (c *Class) Has(domain string) (Listed, bool) {
	if c == nil || domain == "" {
		return Listed{}, false
	}
	var space [keySpace]byte
	name := appendLower(space[:0], domain)
	if at, ok := c.exact[string(name)]; ok {
		return Listed{string(name), at}, true
	}
	if len(c.below) == 0 {
		return Listed{}, false
	}
	for {
		dot := bytes.IndexByte(name, '.')
		if dot < 0 {
			return Listed{}, false
		}
		name = name[dot+1:]
		if at, ok := c.below[string(name)]; ok {
			return Listed{"." + string(name), at}, true
		}
	}
}

// HasAddr looks an address up by its beginnings.
func (c *Class) HasAddr(ip netip.Addr) (Listed, bool) {
	if c == nil || len(c.nets) == 0 || !ip.IsValid() {
		return Listed{}, false
	}
	var space [keySpace]byte
	key := appendAddr(space[:0], ip)
	for {
		if at, ok := c.nets[string(key)]; ok {
			return Listed{string(key), at}, true
		}
		i := bytes.LastIndexAny(key, ".:")
		if i < 0 {
			return Listed{}, false
		}
		key = key[:i]
	}
}

// Names lists the names of the class in ASCII form; ".example.com" is what
// lies below that.
func (c *Class) Names() []string {
	names := slices.Collect(maps.Keys(c.exact))
	for name := range c.below {
		names = append(names, "."+name)
	}
	slices.Sort(names)
	return names
}

// Empty reports whether nothing is in the class.
func (c *Class) Empty() bool {
	return c == nil || len(c.exact)+len(c.below)+len(c.nets) == 0
}

// OwnDomain is the class of all names of the domain that hostname is in.
func OwnDomain(hostname string) (*Class, error) {
	_, domain, _ := strings.Cut(hostname, ".")
	if !strings.Contains(domain, ".") {
		return nil, errors.New("relay.relay_entire_domain: hostname has no domain of its own; write one like mx1.example.com")
	}
	c := &Class{}
	return c, c.Add(RelayDomains, "relay.relay_entire_domain", domain)
}

func (c *Class) belowNames() map[string]place {
	if c == nil {
		return nil
	}
	return c.below
}
