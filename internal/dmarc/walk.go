package dmarc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"

	"gatepost/internal/dns"
)

// Resolver answers what DMARC asks. An error that is dns.ErrNoName, or a
// *net.DNSError that says so, means that there is no such name; any other, that
// nobody could tell.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) (texts []string, authentic bool, err error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

func isNoName(err error) bool {
	var d *net.DNSError
	return errors.Is(err, dns.ErrNoName) || errors.As(err, &d) && d.IsNotFound
}

// published is a record and where it stands.
type published struct {
	domain string
	Record
}

// walker finds records, each name once.
type walker struct {
	r     Resolver
	known map[string]*published // nil: there is none
}

// maxLabels is where a walk goes on behind a longer name (RFC 9989 4.10).
const maxLabels = 7

// walk returns the records of a domain and of those above it, the longest name
// first (RFC 9989 4.10). With an error the list may lack some.
func (w *walker) walk(ctx context.Context, domain string) (list []published, err error) {
	for name := domain; name != ""; {
		p, err := w.record(ctx, name)
		if err != nil {
			return list, err
		}
		if p != nil {
			list = append(list, *p)
			if p.PSD == "n" || p.PSD == "y" && name != domain {
				return list, nil
			}
		}
		_, name, _ = strings.Cut(name, ".")
		for strings.Count(name, ".") >= maxLabels {
			_, name, _ = strings.Cut(name, ".")
		}
	}
	return list, nil
}

func (w *walker) record(ctx context.Context, domain string) (*published, error) {
	if p, ok := w.known[domain]; ok {
		return p, nil
	}
	texts, _, err := w.r.LookupTXT(ctx, "_dmarc."+domain+".")
	if err != nil && !isNoName(err) {
		return nil, fmt.Errorf("dmarc: ask for the policy of %s: %w", domain, err)
	}
	var found []published
	for _, t := range texts {
		if r, ok := ParseRecord(t); ok {
			found = append(found, published{domain, r})
		}
	}
	w.known[domain] = nil
	if len(found) == 1 { // of several none counts
		w.known[domain] = &found[0]
	}
	return w.known[domain], nil
}

// organization selects the organizational domain from a walk that began at
// domain (RFC 9989 4.10.2).
//
// Beyond the RFC, a name under which many register, by the Public Suffix List,
// is nobody's organization unless it says psd=n: else all who have a name there
// could sign for each other.
func organization(domain string, list []published) string {
	org := domain
	for _, p := range list {
		suffix, _ := publicsuffix.PublicSuffix(p.domain)
		switch {
		case p.PSD == "n":
			return p.domain
		case p.domain == domain:
		case p.PSD == "y", suffix == p.domain:
			return child(domain, p.domain)
		}
		org = p.domain
	}
	return org
}

// child is the name one label below parent on the way to domain.
func child(domain, parent string) string {
	head := strings.TrimSuffix(domain, "."+parent)
	return head[strings.LastIndexByte(head, '.')+1:] + "." + parent
}

// isWithin reports whether domain is parent or below it.
func isWithin(domain, parent string) bool {
	return domain == parent || strings.HasSuffix(domain, "."+parent)
}
