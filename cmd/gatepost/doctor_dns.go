package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"

	"gatepost/filters/dnsbl"
	"gatepost/internal/dns"
)

// public are resolvers that anybody may ask: lists refuse what comes from them.
func public() []string {
	return []string{
		"8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844",
		"1.1.1.1", "1.0.0.1", "2606:4700:4700::1111", "2606:4700:4700::1001",
		"9.9.9.9", "149.112.112.112", "2620:fe::fe", "208.67.222.222", "208.67.220.220", "94.140.14.14", "94.140.15.15", "64.6.64.6",
	}
}

// resolver looks whether there is one, and whether it tells the truth.
func (d *doctor) resolver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	servers := strings.Join(d.dns.Servers(), ", ")
	// "invalid" is never there (RFC 6761 6.4).
	_, err := d.dns.LookupNetIP(ctx, "ip4", "gatepost-"+strings.ToLower(rand.Text())+".invalid.")
	switch {
	case err == nil:
		d.fail("dns", "use a resolver of your own, such as unbound on this host", "%s answers for names that there are not: every client would be on every list", servers)
		return
	case !errors.Is(err, dns.ErrNoName):
		d.fail("dns", "look at [dns] servers, or /etc/resolv.conf", "%s: %v", servers, err)
		return
	}
	d.ok("dns", "%s answers", servers)
	if len(d.listFilters()) == 0 {
		return
	}
	for _, s := range d.dns.Servers() {
		if at, err := netip.ParseAddrPort(s); err == nil && slices.Contains(public(), at.Addr().String()) {
			d.warn("dns", "use a resolver of your own, such as unbound on this host", "%s is a public resolver: DNS lists don't answer it, or answer wrongly", at.Addr())
		}
	}
}

// ourName looks whether our name leads to us and back: others refuse mail where
// it doesn't.
func (d *doctor) ourName(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	name := d.cfg.Hostname
	host, _, err := d.dns.LookupHost(ctx, name+".")
	switch {
	case errors.Is(err, dns.ErrNoName) || err == nil && len(host.Addrs) == 0:
		d.fail("name", "enter it in the DNS, or change hostname", "%s has no address", name)
		return
	case err != nil:
		d.fail("name", "see dns above", "%s: %v", name, err)
		return
	}
	here := localAddresses()
	for _, addr := range host.Addrs {
		d.reverse(ctx, name, addr)
		if !slices.Contains(here, addr.Unmap()) {
			d.warn("name", "nothing, where a router translates it to this host", "%s is %s, which is not an address of this host", name, addr)
		}
	}
}

func (d *doctor) reverse(ctx context.Context, name string, addr netip.Addr) {
	const do = "have whoever gave you the address set its PTR record to the hostname"
	names, err := d.dns.LookupAddr(ctx, addr.String())
	same := func(n string) bool { return strings.EqualFold(strings.TrimSuffix(n, "."), name) }
	switch {
	case err != nil && !errors.Is(err, dns.ErrNoName):
		d.warn("name", "see dns above", "the name of %s: %v", addr, err)
	case len(names) == 0:
		d.fail("name", do, "%s has no name in the DNS: large providers refuse its mail", addr)
	case !slices.ContainsFunc(names, same):
		d.warn("name", do, "%s is called %s, and we say %s", addr, strings.Join(names, ", "), name)
	default:
		d.ok("name", "%s is %s, and that is %s", name, addr, name)
	}
}

func localAddresses() (all []netip.Addr) {
	found, _ := net.InterfaceAddrs() // none is an answer, too
	for _, a := range found {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p.Addr().Unmap())
		}
	}
	return all
}

func (d *doctor) listFilters() (all []*dnsbl.Config) {
	for _, f := range d.cfg.Filters {
		if f.DNSBL != nil {
			all = append(all, f.DNSBL)
		}
	}
	return all
}

// lists looks at the test points of each DNS list.
func (d *doctor) lists(ctx context.Context) {
	for _, cfg := range d.listFilters() {
		f, err := dnsbl.New(*cfg, dnsbl.Deps{Resolver: d.dns, Log: d.log})
		if err != nil {
			d.fail("list", "gatepost check", "%v", err)
			continue
		}
		for _, t := range f.Test(ctx) {
			switch {
			case t.Err != nil:
				d.fail("list", "see dns above, or leave the list out", "%s can't be asked: %v", t.List, t.Err)
			case t.Why != "":
				d.fail("list", "use a resolver of your own, look at the page of the list, or leave it out", "%s: %s", t.List, t.Why)
			default:
				d.ok("list", "%s answers as it should", t.List)
			}
		}
	}
}

// keys compares those that sign with the DNS.
func (d *doctor) keys(ctx context.Context) {
	if len(d.cfg.Sign.DKIM.Key) == 0 {
		return
	}
	_, keys, err := d.a.signingKeys(nil)
	if err != nil {
		d.fail("dkim", "gatepost check", "%v", err)
		return
	}
	for _, k := range keys.some {
		switch c := compareKey(ctx, d.dns, k); c.Result {
		case "ok":
			d.ok("dkim", "%s: the DNS has it", c.Record)
		case "unknown":
			d.warn("dkim", "see dns above", "%s: %s", c.Record, c.Why)
		default:
			d.fail("dkim", "gatepost dkim list shows the records", "%s: %s", c.Record, c.Why)
		}
	}
}
