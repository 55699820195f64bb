package dns

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	wire "github.com/miekg/dns"
)

// Zones answers what rules ask about zones and those who serve them.
type Zones struct{ Client *Client }

// LookupNS returns the name servers of a zone.
func (c *Client) LookupNS(ctx context.Context, name string) (hosts []string, authentic bool, err error) {
	r, err := c.find(ctx, name, wire.TypeNS)
	for _, rr := range r.records {
		hosts = append(hosts, plain(rr.(*wire.NS).Ns))
	}
	return hosts, r.authentic, err
}

// Listed reports whether a zone of addresses (RFC 5782) lists one. Answers
// outside 127.0.0.0/8 and those of 127.255.255.0/24, by which lists refuse to
// answer, are none.
func (z Zones) Listed(ctx context.Context, zone string, addr netip.Addr) (bool, error) {
	addrs, err := z.Client.LookupNetIP(ctx, "ip4", listName(addr)+zone)
	if errors.Is(err, ErrNoName) {
		return false, nil
	}
	for _, a := range addrs {
		b := a.As4()
		if b[0] == 127 && (b[1] != 255 || b[2] != 255) {
			return true, nil
		}
	}
	return false, err
}

// listName is an address as lists spell it, with a dot at the end.
func listName(a netip.Addr) string {
	arpa, err := wire.ReverseAddr(a.Unmap().String())
	if err != nil {
		return "invalid."
	}
	return strings.TrimSuffix(strings.TrimSuffix(arpa, "in-addr.arpa."), "ip6.arpa.")
}

// maxZoneHosts is how many hosts of a zone are looked up.
const maxZoneHosts = 20

// Servers returns the name servers and mail hosts of a name, or of the closest
// name above it that has some and is no top-level domain, with their addresses.
func (z Zones) Servers(ctx context.Context, name string) (hosts []string, addrs []netip.Addr, err error) {
	for ; strings.Contains(name, "."); _, name, _ = strings.Cut(name, ".") {
		if hosts, err = z.serversOf(ctx, name); err != nil {
			return nil, nil, err
		}
		if len(hosts) > 0 {
			break
		}
	}
	for _, h := range hosts[:min(len(hosts), maxZoneHosts)] {
		if found, _, err := z.Client.LookupHost(ctx, h); err == nil {
			addrs = append(addrs, found.Addrs...)
		}
	}
	return hosts, addrs, nil
}

func (z Zones) serversOf(ctx context.Context, name string) (hosts []string, err error) {
	hosts, _, err = z.Client.LookupNS(ctx, name)
	if err != nil && !errors.Is(err, ErrNoName) {
		return nil, err
	}
	mx, _, err := z.Client.LookupMX(ctx, name)
	if err != nil && !errors.Is(err, ErrNoName) {
		return nil, err
	}
	for _, m := range mx {
		if m.Host != "" {
			hosts = append(hosts, m.Host)
		}
	}
	return hosts, nil
}

// Exists reports whether a name has an address, a name server or a mail host of
// its own.
func (z Zones) Exists(ctx context.Context, name string) (bool, error) {
	host, _, err := z.Client.LookupHost(ctx, name)
	switch {
	case errors.Is(err, ErrNoName):
		return false, nil
	case err != nil:
		return false, err
	case len(host.Addrs) > 0:
		return true, nil
	}
	hosts, err := z.serversOf(ctx, name)
	return len(hosts) > 0, err
}
