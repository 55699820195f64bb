// Package dmarc finds out whether a message is from the domain of its author,
// and what the owner of that domain wants done where it is not (RFC 9989).
package dmarc

import (
	"context"
	"errors"
	"strings"

	"gatepost/internal/mail"
)

// Identity is a domain in whose name a message was authenticated.
type Identity struct {
	Domain    string // in lower case, ASCII
	SPF       bool   // by SPF, not DKIM
	Temporary bool   // nobody could tell; it may be authentic
}

// Result is what DMARC says of a message.
type Result struct {
	Value     string // mail.AuthNone, AuthPass, AuthFail, AuthTempError or AuthPermError
	Why       string // for people, where it is no pass
	Domain    string // of the author; "" where none can be read
	Published Policy // "" where there is no record, or it could not be had
	Applied   Policy // what the owner wants done: none where it passed or is tried out
	Unknown   bool   // the policy could not be had
	Clear     bool   // it is clear who the author is
}

// Policies is what the domains in the From fields of a message publish.
type Policies struct {
	from From
	w    *walker
	all  []found
}

// found is what was found for one domain.
type found struct {
	domain    string
	list      []published
	err       error
	record    Record
	has       bool
	published Policy
}

// Discover asks for the policies of all domains that From fields name.
func Discover(ctx context.Context, r Resolver, from From) *Policies {
	p := &Policies{from: from, w: &walker{r: r, known: make(map[string]*published)}}
	if from.Odd == "excessive" {
		return p
	}
	for _, domain := range from.Domains {
		p.all = append(p.all, p.w.discover(ctx, domain))
	}
	return p
}

// discover finds the policy for one author's domain (RFC 9989 4.10.1).
func (w *walker) discover(ctx context.Context, domain string) found {
	f := found{domain: domain}
	f.list, f.err = w.walk(ctx, domain)
	if len(f.list) > 0 && f.list[0].domain == domain {
		f.use(f.list[0].Record, f.list[0].Policy)
		return f
	}
	if f.err != nil || len(f.list) == 0 {
		return f
	}
	last := f.list[len(f.list)-1] // the organization's, or the public suffix's
	org := organization(domain, f.list)
	for _, p := range f.list {
		if p.domain == org {
			last = p
		}
	}
	exists := true
	if last.Missing != "" {
		_, err := w.r.LookupNetIP(ctx, "ip4", domain+".")
		exists = !isNoName(err)
		if err != nil && exists {
			f.err = err
			return f
		}
	}
	f.use(last.Record, last.below(exists))
	return f
}

func (f *found) use(r Record, p Policy) { f.record, f.has, f.published = r, true, p }

// Judge says whether one of the identities is the author's.
//
// A message whose author is not clear never passes, whoever signed it: each
// reader may show another one. The strictest policy of all that it may show is
// the one that counts.
func (p *Policies) Judge(ctx context.Context, ids []Identity) Result {
	if p.from.Odd != "" {
		return p.unclear()
	}
	f := p.all[0]
	res := Result{Domain: f.domain, Published: f.published, Applied: None, Clear: true}
	if !f.has {
		res.Value = mail.AuthNone
		if f.err != nil {
			res.Value, res.Why, res.Unknown = mail.AuthTempError, "the policy could not be had", true
		}
		return res
	}
	aligned, err := p.aligned(ctx, f, ids)
	switch {
	case aligned:
		res.Value = mail.AuthPass
	case err != nil: // RFC 9989 5.3.5: no permanent failure can be concluded
		res.Value, res.Why = mail.AuthTempError, err.Error()
	default:
		res.Value, res.Why = mail.AuthFail, "no signature and no SPF of the author's domain"
		if !f.record.Testing {
			res.Applied = f.published
		}
	}
	return res
}

// unclear is the result for From fields that nobody should write.
func (p *Policies) unclear() Result {
	res := Result{Value: mail.AuthPermError, Why: "From: " + p.from.Odd, Applied: None}
	if p.from.Odd == "excessive" { // one of them may want it refused
		res.Value, res.Applied = mail.AuthFail, Reject
		return res
	}
	for _, f := range p.all {
		switch {
		case !f.has && f.err != nil:
			res.Unknown = true
		case f.has && f.published.weight() > res.Published.weight():
			res.Value, res.Domain, res.Published = mail.AuthFail, f.domain, f.published
		}
	}
	if res.Published != "" {
		res.Applied = res.Published
	}
	if res.Unknown && res.Published != Reject {
		res.Value = mail.AuthTempError
	}
	return res
}

var errUnsure = errors.New("whether a signature or SPF of the author's domain holds could not be found out")

// aligned reports whether an identity is the author's (RFC 9989 4.4). The error
// says that one may be.
func (p *Policies) aligned(ctx context.Context, f found, ids []Identity) (bool, error) {
	var unsure error
	org := ""
	for _, id := range ids {
		strict := f.record.StrictDKIM
		if id.SPF {
			strict = f.record.StrictSPF
		}
		same := id.Domain == f.domain
		if !same && !strict && id.Domain != "" {
			if f.err != nil { // the organization is not known
				unsure = errUnsure
				continue
			}
			if org == "" {
				org = organization(f.domain, f.list)
			}
			var err error
			if same, err = p.isOf(ctx, id.Domain, org); err != nil {
				unsure = errUnsure
			}
		}
		switch {
		case same && !id.Temporary:
			return true, nil
		case same:
			unsure = errUnsure
		}
	}
	return false, unsure
}

// isOf reports whether a domain is of an organization. One that is not within it
// needs no question: an organization is never below what belongs to it.
func (p *Policies) isOf(ctx context.Context, domain, org string) (bool, error) {
	if !isWithin(domain, org) {
		return false, nil
	}
	list, err := p.w.walk(ctx, domain)
	if err != nil {
		return false, err
	}
	return organization(domain, list) == org, nil
}

// ASCII is a domain as DMARC compares it, "" for what is no domain name.
func ASCII(domain string) string {
	d, err := mail.ParseDomain(domain)
	if err != nil || strings.HasPrefix(d, "[") {
		return ""
	}
	return mail.ASCIIDomain(d)
}
