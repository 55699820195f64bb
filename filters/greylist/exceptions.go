package greylist

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"gatepost/internal/mail"
)

// exceptions are never greylisted.
type exceptions struct {
	networks                         networks
	clients, senders, spf, receivers map[string]bool // "user@example.com", "example.com", ".example.com"
}

// exceptions reads the lists; read returns the lines of a file with their
// numbers, nil leaves files out.
func (c Config) exceptions(read func(path string) (lines []string, err error)) (e exceptions, err error) {
	var errs []error
	each := func(key string, entries []string, add func(string) error) {
		for i, entry := range entries {
			path, isFile := strings.CutPrefix(entry, "file:")
			if !isFile {
				if err := add(entry); err != nil {
					errs = append(errs, fmt.Errorf("%s[%d]: %w", key, i, err))
				}
				continue
			}
			if read == nil {
				continue
			}
			lines, err := read(path)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s[%d]: %w", key, i, err))
			}
			for n, line := range lines {
				line, _, _ = strings.Cut(line, "#")
				if line = strings.TrimSpace(line); line == "" {
					continue
				}
				if err := add(line); err != nil {
					errs = append(errs, fmt.Errorf("%s:%d: %w", path, n+1, err))
				}
			}
		}
	}
	names := func(into *map[string]bool, mailboxes bool) func(string) error {
		*into = make(map[string]bool)
		return func(s string) error {
			name, err := canonical(s, mailboxes)
			(*into)[name] = true
			return err
		}
	}
	each("networks", c.Networks, e.networks.add)
	each("clients", c.Clients, names(&e.clients, false))
	each("senders", c.Senders, names(&e.senders, true))
	each("spf", c.SPF, names(&e.spf, false))
	each("recipients", c.Recipients, names(&e.receivers, true))
	return e, errors.Join(errs...)
}

// canonical is an entry as it is looked up.
func canonical(s string, mailboxes bool) (string, error) {
	if strings.Contains(s, "@") && mailboxes {
		a, err := mail.ParseAddress(s, true)
		if err != nil || a.Domain == "" {
			return "", fmt.Errorf("%q is no address; write user@example.com", mail.CleanText(s))
		}
		return strings.ToLower(a.Local) + "@" + a.ASCIIDomain(), nil
	}
	name, below := strings.CutPrefix(s, ".")
	name, err := mail.ParseDomain(name)
	if err != nil {
		return "", fmt.Errorf("%q is no domain; write example.com, or .example.com for all below it", mail.CleanText(s))
	}
	if name = mail.ASCIIDomain(name); below {
		name = "." + name
	}
	return name, nil
}

// hasDomain reports whether a domain, or one above it with a dot, is listed.
func hasDomain(list map[string]bool, domain string) bool {
	if list[domain] {
		return true
	}
	for {
		_, parent, ok := strings.Cut(domain, ".")
		if !ok {
			return false
		}
		if list["."+parent] {
			return true
		}
		domain = parent
	}
}

func hasAddress(list map[string]bool, a mail.Address) bool {
	if len(list) == 0 || a.Domain == "" {
		return false
	}
	domain := a.ASCIIDomain()
	return list[strings.ToLower(a.Local)+"@"+domain] || hasDomain(list, domain)
}

// networks are prefixes by their length: a look-up is one for each length that
// there is, however many there are.
type networks struct {
	all  map[netip.Prefix]bool
	bits map[int]bool // of IPv4 and IPv6 together
}

func (n *networks) add(s string) error {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, errAddr := netip.ParseAddr(s)
		if errAddr != nil || a.Zone() != "" {
			return fmt.Errorf("%q is no network; write 192.0.2.0/24 or 2001:db8::1", mail.CleanText(s))
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p != p.Masked() {
		return fmt.Errorf("%q names a host, not a network; write %v or %v", s, p.Masked(), p.Addr())
	}
	if n.all == nil {
		n.all, n.bits = make(map[netip.Prefix]bool), make(map[int]bool)
	}
	n.all[p], n.bits[p.Bits()] = true, true
	return nil
}

func (n networks) contain(a netip.Addr) bool {
	for bits := range n.bits {
		if p, err := a.Prefix(bits); err == nil && n.all[p] {
			return true
		}
	}
	return false
}

const maxList = 10_000_000 // lines

func readLines(path string) (lines []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if lines = append(lines, s.Text()); len(lines) > maxList {
			return nil, fmt.Errorf("%s: more than %d lines", path, maxList)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", path, len(lines)+1, err)
	}
	return lines, nil
}
