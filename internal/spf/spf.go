// Package spf asks whether a domain names a client as one that may send in its
// name (RFC 7208).
package spf

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"blitiri.com.ar/go/spf"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
)

// Resolver answers what SPF asks. *dns.Client is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) (texts []string, authentic bool, err error)
	LookupMX(ctx context.Context, domain string) (mx []dns.MX, authentic bool, err error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, addr string) (names []string, err error)
}

// Result is what a domain says of a client, in the words of RFC 8601.
type Result struct {
	Value  string // mail.AuthNone and so on
	Domain string // that was asked, in ASCII; "" where there is none to ask
	Helo   bool   // Domain is that of HELO, as the sender is null
}

// Check asks the domain of the sender, or of the HELO name for the null sender
// (RFC 7208 2.4).
func Check(ctx context.Context, r Resolver, client netip.Addr, helo string, sender mail.Address) Result {
	res := Result{Value: mail.AuthNone, Domain: sender.ASCIIDomain()}
	if sender.IsNull() || sender.Domain == "" {
		name, err := mail.ParseDomain(helo)
		if err != nil || !strings.Contains(name, ".") || strings.HasPrefix(name, "[") { // RFC 7208 2.3: nothing that could have a record
			return res
		}
		res.Domain, res.Helo = mail.ASCIIDomain(name), true
	}
	if strings.HasPrefix(res.Domain, "[") {
		res.Domain = ""
	}
	if r == nil || res.Domain == "" || !client.IsValid() {
		return res
	}
	a := &asker{r: r, left: maxQuestions}
	name, err := mail.ParseDomain(helo)
	if err != nil || strings.HasPrefix(name, "[") {
		name = "unknown"
	}
	// Only names: a local part may be anything, and would be a part of questions.
	result, _ := spf.CheckHostWithSender(net.IP(client.Unmap().AsSlice()), mail.ASCIIDomain(name), "postmaster@"+res.Domain,
		spf.WithContext(ctx), spf.WithResolver(a))
	if res.Value = string(result); a.left < 0 {
		res.Value = mail.AuthPermError // RFC 7208 4.6.4; nobody's server is out of order
	}
	return res
}

// Passes reports whether the sender's domain names the client as one of its own.
// Whatever else comes out, an error above all, is no pass.
func Passes(ctx context.Context, r Resolver, client netip.Addr, helo string, sender mail.Address) bool {
	return !sender.IsNull() && Check(ctx, r, client, helo, sender).Value == mail.AuthPass
}

// Fails reports whether the sender's domain says that the client must not send
// in its name ("-all"). What could not be found out is no failure.
func Fails(ctx context.Context, r Resolver, client netip.Addr, helo string, sender mail.Address) bool {
	return !sender.IsNull() && Check(ctx, r, client, helo, sender).Value == mail.AuthFail
}

// maxQuestions of one evaluation: RFC 7208 4.6.4 allows ten mechanisms that ask,
// of which one for MX records may ask for ten hosts.
const maxQuestions = 40

// asker is a Resolver as the library wants it, for one evaluation.
type asker struct {
	r    Resolver
	left int
}

var errTooMany = errors.New("too many questions")

// failed is an error that the library knows: others it takes for final.
func (a *asker) failed(name string, err error) error {
	if err == nil {
		return nil
	}
	none := errors.Is(err, dns.ErrNoName)
	return &net.DNSError{Err: err.Error(), Name: name, IsNotFound: none, IsTemporary: !none}
}

func (a *asker) ask() error {
	if a.left--; a.left < 0 {
		return errTooMany
	}
	return nil
}

func (a *asker) LookupTXT(ctx context.Context, name string) (texts []string, err error) {
	if err = a.ask(); err == nil {
		texts, _, err = a.r.LookupTXT(ctx, name)
	}
	shown := make([]string, len(texts))
	for i, t := range texts {
		shown[i] = checked(t)
	}
	return shown, a.failed(name, err)
}

func (a *asker) LookupMX(ctx context.Context, name string) (all []*net.MX, err error) {
	if err := a.ask(); err != nil {
		return nil, a.failed(name, err)
	}
	mx, _, err := a.r.LookupMX(ctx, name)
	for _, m := range mx {
		all = append(all, &net.MX{Host: m.Host, Pref: m.Preference})
	}
	return all, a.failed(name, err)
}

func (a *asker) LookupIPAddr(ctx context.Context, host string) (all []net.IPAddr, err error) {
	if err := a.ask(); err != nil {
		return nil, a.failed(host, err)
	}
	addrs, err := a.r.LookupNetIP(ctx, "ip", host)
	for _, addr := range addrs {
		all = append(all, net.IPAddr{IP: addr.AsSlice()})
	}
	return all, a.failed(host, err)
}

func (a *asker) LookupAddr(ctx context.Context, addr string) (names []string, err error) {
	if err = a.ask(); err == nil {
		names, err = a.r.LookupAddr(ctx, addr)
	}
	return names, a.failed(addr, err)
}
