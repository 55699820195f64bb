package forward

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"gatepost/internal/dns"
)

// Resolver answers what deliveries ask of the DNS. Names have no final dot.
// authentic says that DNSSEC vouches for the answer, also for one that there is
// nothing; it is false where the resolver is not trusted to say so.
// A name that does not exist is dns.ErrNoName, one without such records is no
// error; any other error is a question without an answer, to be asked again.
type Resolver interface {
	// LookupMX returns the exchangers in any order.
	LookupMX(ctx context.Context, domain string) (mx []dns.MX, authentic bool, err error)
	// LookupHost returns addresses of both families.
	LookupHost(ctx context.Context, name string) (host dns.Host, authentic bool, err error)
	LookupTLSA(ctx context.Context, port uint16, host string) (records []dns.TLSA, authentic bool, err error)
	// LookupTXT returns each record as one text.
	LookupTXT(ctx context.Context, name string) (texts []string, authentic bool, err error)
}

// hop is a host as one delivery meets it: the host itself, which other
// deliveries use too, and how this one came to it.
type hop struct {
	*host
	// domain is whose MX records led here, as A-labels; "" where a route names
	// the host.
	domain string
	// addr is the address of an MX host to be dialled; invalid: the host's name
	// is dialled.
	addr netip.Addr
	// canonical is the host's name at the end of all CNAMEs, of an MX host.
	canonical string
	// secure says that DNSSEC vouches for the MX records and for the addresses.
	secure bool
}

// dial opens the connection, no more.
func (h hop) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: h.settings.connect}
	address := h.address()
	if h.addr.IsValid() {
		address = net.JoinHostPort(h.addr.String(), h.port)
	}
	return dialer.DialContext(ctx, h.network, address)
}

// where names what is dialled: "host:port", "host[address]:port".
func (h hop) where() string {
	if h.addr.IsValid() {
		return h.name + "[" + h.addr.String() + "]:" + h.port
	}
	return h.address()
}

// hops returns where a delivery to a route goes, in the order of preference, or
// why there is no such place. They are to be given back.
func (t *table) hops(ctx context.Context, r *route, domain string) (hops []hop, failed *failure) {
	if refusal := r.refusal(); !refusal.IsZero() {
		return nil, &failure{ours: true, final: refusal.Code/100 == 5, reply: refusal}
	}
	for _, to := range r.inOrder() {
		name := to.name
		if rest, marked := strings.CutPrefix(name, prefixMark); marked {
			name = strings.TrimSuffix(domain, r.key) + rest
		}
		if !to.mx {
			to.name = name
			hops = append(hops, hop{host: t.use(to.endpoint, r.settings)})
			continue
		}
		if name == "" {
			name = domain
		}
		places, why := t.exchange.places(ctx, name)
		if why != nil && why.reply.Code == nullMX {
			return hops, why // its owner has said so, whoever delivers
		}
		if why != nil && (failed == nil || failed.final) {
			failed = why // of two, the one that may pass
		}
		for _, p := range places {
			at := endpoint{network: "tcp", name: p.host, port: to.port}
			hops = append(hops, hop{
				host: t.use(at, r.settings), domain: name, addr: p.addr, canonical: p.canonical, secure: p.secure,
			})
		}
	}
	if len(hops) > 0 {
		failed = nil
	}
	return hops, failed
}

// inOrder returns the targets as this delivery is to try them.
func (r *route) inOrder() []target {
	n := len(r.targets)
	if r.balance != RoundRobin || n < 2 {
		return r.targets
	}
	at := int(r.turn.Add(1)-1) % n
	return append(append(make([]target, 0, n), r.targets[at:]...), r.targets[:at]...)
}
