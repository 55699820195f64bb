// Package dnstest is a DNS in a map, for tests.
package dnstest

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"

	"gatepost/internal/dns"
)

// Resolver answers from its maps. Names are absolute, with a final dot; one
// that is asked without is answered with "not found", as no test should be.
type Resolver struct {
	PTR   map[string][]string // "192.0.2.1" → "mx.example.com."
	Hosts map[string][]string // "mx.example.com." → "192.0.2.1"
	Err   error               // given to every question, when set
	// Gate, when set, is received from before each answer, or ctx ends.
	Gate chan struct{}

	mu    sync.Mutex
	asked []string
}

var _ dns.Resolver = (*Resolver)(nil)

// Asked returns the questions so far: "PTR 192.0.2.1", "ip4 mx.example.com.".
func (r *Resolver) Asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.asked...)
}

// LookupAddr returns the names of an address.
func (r *Resolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	if err := r.ask(ctx, "PTR "+addr); err != nil {
		return nil, err
	}
	names, ok := r.PTR[addr]
	if !ok {
		return nil, notFound(addr)
	}
	return names, nil
}

// LookupNetIP returns the addresses of a name that belong to the network,
// "ip", "ip4" or "ip6".
func (r *Resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if err := r.ask(ctx, network+" "+host); err != nil {
		return nil, err
	}
	var found []netip.Addr
	for _, s := range r.Hosts[strings.ToLower(host)] {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		if network == "ip" || (network == "ip4") == ip.Is4() {
			found = append(found, ip)
		}
	}
	if len(found) == 0 {
		return nil, notFound(host)
	}
	return found, nil
}

func (r *Resolver) ask(ctx context.Context, question string) error {
	r.mu.Lock()
	r.asked = append(r.asked, question)
	r.mu.Unlock()
	if r.Gate != nil {
		select {
		case <-r.Gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return r.Err
}

func notFound(name string) error {
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}
