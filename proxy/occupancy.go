package proxy

import (
	"net/netip"
	"sync"
)

// occupancy counts open connections.
type occupancy struct {
	mu      sync.Mutex
	total   int
	clients map[netip.Prefix]int
}

// Results of enter, as Stats counts them.
const (
	connAccepted    = "accepted"
	connLimit       = "limit"
	connClientLimit = "client_limit"
	connRejected    = "rejected"
)

// enter takes a place for a client, if there is one.
func (o *occupancy) enter(client netip.Addr, trusted bool, l Limits) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	places := l.MaxConnections
	if !trusted {
		places -= l.TrustedReserve
	}
	key := site(client)
	switch {
	case o.total >= places:
		return connLimit
	case !trusted && o.clients[key] >= l.MaxConnectionsPerClient:
		return connClientLimit
	}
	if o.clients == nil {
		o.clients = make(map[netip.Prefix]int)
	}
	o.total++
	o.clients[key]++
	return connAccepted
}

// move gives the place of one client to another, if it may have one.
func (o *occupancy) move(from, to netip.Addr, trusted bool, l Limits) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	old, key := site(from), site(to)
	if old == key {
		return connAccepted
	}
	if !trusted && o.clients[key] >= l.MaxConnectionsPerClient {
		return connClientLimit
	}
	o.clients[key]++
	if o.clients[old]--; o.clients[old] == 0 {
		delete(o.clients, old)
	}
	return connAccepted
}

// leave gives the place back.
func (o *occupancy) leave(client netip.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.total--
	key := site(client)
	if o.clients[key]--; o.clients[key] == 0 {
		delete(o.clients, key)
	}
}

// site is who counts as one client: an IPv4 address, or an IPv6 /64, which is
// the least that a customer of any provider has.
func site(ip netip.Addr) netip.Prefix {
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // fails for the zero Addr: one key for all unknown
	return p
}
