package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
)

// exchange finds the hosts for a domain (RFC 5321 5.1).
type exchange struct {
	resolver Resolver
	hostname string // ours
	loopback bool   // allowed
	own      func() []netip.Addr
}

func newExchange(cfg Config, hostname string) exchange {
	return exchange{resolver: cfg.Resolver, hostname: mail.ASCIIDomain(hostname), loopback: cfg.Routing.MXLoopback, own: ownAddrs}
}

// ownAddrs are the addresses of this machine. They may change at any time.
func ownAddrs() []netip.Addr {
	var own []netip.Addr
	all, _ := net.InterfaceAddrs() // an error leaves the other checks
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr().Unmap().WithZone(""))
		}
	}
	return own
}

// Limits of one attempt. Others are met by a later one: the order among equals
// is drawn each time.
const (
	maxExchangers  = 10 // hosts of a domain that are considered
	maxTries       = 10 // addresses that are tried
	maxLookupTime  = time.Minute
	maxHostLookups = 5 // at a time
)

// place is one address to deliver to.
type place struct {
	host      string
	canonical string
	addr      netip.Addr
	secure    bool
}

// exchanger is an MX host with what was found out about it.
type exchanger struct {
	dns.MX
	found     dns.Host
	authentic bool
	err       error
	self      bool
}

const nullMX = 556 // RFC 7505 4.1

// places returns the addresses to be tried for a domain, in order, or why there
// are none: for good, or for now.
func (e exchange) places(ctx context.Context, domain string) ([]place, *failure) {
	if strings.HasPrefix(domain, "[") {
		return e.literal(domain)
	}
	if e.resolver == nil {
		return nil, unknown("the mail hosts of "+domain, errors.New("there is no resolver"))
	}
	ctx, cancel := context.WithTimeout(ctx, maxLookupTime)
	defer cancel()
	records, authentic, err := e.resolver.LookupMX(ctx, domain)
	switch {
	case errors.Is(err, dns.ErrNoName):
		return nil, undeliverable(550, "1.2", "the domain %s does not exist", domain)
	case err != nil:
		return nil, unknown("the MX records of "+domain, err)
	case slices.ContainsFunc(records, func(m dns.MX) bool { return m.Host == "" }):
		if records = slices.DeleteFunc(slices.Clone(records), func(m dns.MX) bool { return m.Host == "" }); len(records) == 0 {
			return nil, undeliverable(nullMX, "1.10", "the domain %s takes no mail (null MX)", domain) // RFC 7505 3, 4.1
		}
	}
	implicit := len(records) == 0
	if implicit {
		records = []dns.MX{{Host: domain}}
	}
	all := e.ordered(records)
	all, looped := e.beforeSelf(all)
	e.lookUp(ctx, all)
	all, too := e.beforeSelf(all)
	return e.collect(domain, all, authentic, implicit, looped || too)
}

// literal is the one host of an address literal.
func (e exchange) literal(domain string) ([]place, *failure) {
	name := strings.TrimPrefix(strings.Trim(domain, "[]"), "IPv6:")
	ip, err := netip.ParseAddr(name)
	if err != nil || !e.usable(ip) {
		return nil, undeliverable(550, "4.4", "mail for %s can't be delivered", domain)
	}
	if slices.Contains(e.own(), ip) && !e.loopback {
		return nil, loops(domain)
	}
	return []place{{host: ip.String(), addr: ip}}, nil
}

// ordered puts exchangers in the order of their preference, equals as drawn.
func (e exchange) ordered(records []dns.MX) []exchanger {
	all := make([]exchanger, len(records))
	for i, m := range records {
		all[i] = exchanger{MX: m, self: strings.EqualFold(m.Host, e.hostname)}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	slices.SortStableFunc(all, func(a, b exchanger) int { return cmp.Compare(a.Preference, b.Preference) })
	// Our own name counts wherever it stands.
	if at := slices.IndexFunc(all, func(x exchanger) bool { return x.self }); at >= maxExchangers {
		return all[:maxExchangers]
	}
	return all[:min(len(all), maxExchangers)]
}

// beforeSelf leaves the hosts that are better than we are: what we handed to
// one as good, or worse, could come back.
func (e exchange) beforeSelf(all []exchanger) (better []exchanger, cut bool) {
	at := slices.IndexFunc(all, func(x exchanger) bool { return x.self })
	if at < 0 {
		return all, false
	}
	own := all[at].Preference
	return slices.DeleteFunc(all, func(x exchanger) bool { return x.Preference >= own }), true
}

// lookUp finds the addresses of all, and whether one is ours.
func (e exchange) lookUp(ctx context.Context, all []exchanger) {
	own := e.own()
	slots := make(chan struct{}, maxHostLookups)
	var wg sync.WaitGroup
	for i := range all {
		x := &all[i]
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			x.found, x.authentic, x.err = e.resolver.LookupHost(ctx, x.Host)
			x.self = slices.ContainsFunc(x.found.Addrs, func(a netip.Addr) bool {
				return slices.Contains(own, a) && !a.IsLoopback()
			})
		})
	}
	wg.Wait()
}

// collect makes places of what was found.
func (e exchange) collect(domain string, all []exchanger, authentic, implicit, looped bool) ([]place, *failure) {
	var places []place
	var later error
	exists := !implicit
	for _, x := range all {
		switch {
		case x.err != nil && !errors.Is(x.err, dns.ErrNoName):
			later = x.err
			continue
		case x.err == nil:
			exists = true
		}
		for _, a := range e.alternate(x.found.Addrs) {
			places = append(places, place{host: x.Host, canonical: x.found.Name, addr: a, secure: authentic && x.authentic})
		}
	}
	switch {
	case len(places) > 0:
		return places[:min(len(places), maxTries)], nil
	case later != nil:
		return nil, unknown("the mail hosts of "+domain, later)
	case looped:
		return nil, loops(domain)
	case !exists:
		return nil, undeliverable(550, "1.2", "the domain %s does not exist", domain)
	}
	return nil, undeliverable(550, "4.4", "the domain %s has no mail host with a usable address", domain)
}

// alternate takes the usable addresses from both families in turn, so that no
// limit leaves only those of one that we can't reach.
func (e exchange) alternate(addrs []netip.Addr) []netip.Addr {
	var six, four []netip.Addr
	for _, a := range addrs {
		switch a = a.Unmap(); {
		case !e.usable(a):
		case a.Is4():
			four = append(four, a)
		default:
			six = append(six, a)
		}
	}
	var both []netip.Addr
	for len(six)+len(four) > 0 {
		for _, family := range []*[]netip.Addr{&six, &four} {
			if len(*family) > 0 {
				both = append(both, (*family)[0])
				*family = (*family)[1:]
			}
		}
	}
	return both
}

// usable keeps mail from addresses that lead back into this machine or to no
// single host: anybody may write any address into his zone.
func (e exchange) usable(a netip.Addr) bool {
	switch {
	case a.IsLoopback():
		return e.loopback
	case !a.IsValid(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast():
		return false
	case a.Is4():
		b := a.As4()
		return b[0] != 0 && b[0] < 240 // this network; reserved and broadcast
	}
	return true
}

func undeliverable(code int, detail, format string, args ...any) *failure {
	return &failure{final: true, ours: true, reply: mail.Reply{Code: code, Detail: detail, Text: fmt.Sprintf(format, args...)}}
}

// loops is for a domain whose mail hosts are we ourselves.
func loops(domain string) *failure {
	return undeliverable(554, "4.6", "mail for %s would come back to this host: it is a mail host of that domain, but no route says where its mail goes", domain)
}

// unknown is a question to the DNS that was not answered.
func unknown(what string, err error) *failure {
	return &failure{reply: mail.Reply{Code: 451, Detail: "4.3", Text: fmt.Sprintf("%s can't be found out: %v", what, err)}}
}
