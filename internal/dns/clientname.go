package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
)

// Config bounds the time and memory of ClientNames.
type Config struct {
	Timeout     time.Duration // of all look-ups for one client together
	PositiveTTL time.Duration // how long a name is remembered
	NegativeTTL time.Duration // how long it is remembered that there is none
	CacheSize   int           // clients that are remembered
}

// DefaultConfig waits 3 seconds and remembers 4096 clients, those with a name
// for 10 minutes and those without for one.
func DefaultConfig() Config {
	return Config{Timeout: 3 * time.Second, PositiveTTL: 10 * time.Minute, NegativeTTL: time.Minute, CacheSize: 4096}
}

// Resolver asks the DNS. *net.Resolver is one.
type Resolver interface {
	LookupAddr(ctx context.Context, addr string) (names []string, err error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// ClientNames finds forward-confirmed names. It is safe for concurrent use.
type ClientNames struct {
	cfg      Config
	resolver Resolver

	mu      sync.Mutex
	known   map[netip.Addr]answer
	flights map[netip.Addr]chan struct{} // closed when the look-up has ended
}

type answer struct {
	client
	expires time.Time
}

// client is what is known of a client's name.
type client struct {
	name string // "" for none that leads back
	ptr  string // the name that the address claims
	how  mail.Resolve
}

// New returns ClientNames that asks r, or the system's resolver when r is nil.
func New(cfg Config, r Resolver) (*ClientNames, error) {
	if cfg.Timeout <= 0 || cfg.PositiveTTL < 0 || cfg.NegativeTTL < 0 || cfg.CacheSize < 1 {
		return nil, errors.New("dns: timeout and cache size must be above 0, times to live not below")
	}
	if r == nil {
		r = &net.Resolver{PreferGo: true}
	}
	return &ClientNames{
		cfg:      cfg,
		resolver: r,
		known:    make(map[netip.Addr]answer),
		flights:  make(map[netip.Addr]chan struct{}),
	}, nil
}

// ClientName returns the first name of ip that leads back to ip, in canonical
// form, or "" when there is none or it can't be found in time. Loopback is
// "localhost" without a question.
func (c *ClientNames) ClientName(ctx context.Context, ip netip.Addr) string {
	name, _, _ := c.Client(ctx, ip)
	return name
}

// Client is ClientName, with the name that the address claims, which may be any,
// and with what became of the look-up.
func (c *ClientNames) Client(ctx context.Context, ip netip.Addr) (name, ptr string, how mail.Resolve) {
	found := c.find(ctx, ip.Unmap().WithZone(""))
	return found.name, found.ptr, found.how
}

func (c *ClientNames) find(ctx context.Context, ip netip.Addr) client {
	switch {
	case !ip.IsValid():
		return client{how: mail.ResolveFail}
	case ip.IsLoopback():
		return client{"localhost", "localhost", mail.ResolveOK}
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	for ctx.Err() == nil {
		known, flight, ok := c.enter(ip)
		switch {
		case ok:
			return known
		case flight == nil:
			return c.lead(ctx, ip)
		}
		select {
		case <-flight: // its answer is known now, unless its caller went away
		case <-ctx.Done():
		}
	}
	return client{how: mail.ResolveTemp}
}

// enter returns what is known of ip, or the look-up that is under way; with
// neither the caller is to look it up.
func (c *ClientNames) enter(ip netip.Addr) (known client, flight <-chan struct{}, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok := c.known[ip]; ok && time.Now().Before(a.expires) {
		return a.client, nil, true
	}
	if f, ok := c.flights[ip]; ok {
		return client{}, f, false
	}
	c.flights[ip] = make(chan struct{})
	return client{}, nil, false
}

// lead looks ip up for all who wait for it.
func (c *ClientNames) lead(ctx context.Context, ip netip.Addr) (found client) {
	done := false
	defer func() { c.leave(ip, found, done) }()
	found = c.lookUp(ctx, ip)
	// A caller that gave up has learned nothing; our own time limit is an
	// answer, or a dead resolver would be waited for by each client anew.
	done = found.name != "" || !errors.Is(ctx.Err(), context.Canceled)
	return found
}

func (c *ClientNames) leave(ip netip.Addr, found client, keep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.flights[ip])
	delete(c.flights, ip)
	if !keep {
		return
	}
	ttl := c.cfg.PositiveTTL
	if found.name == "" {
		ttl = c.cfg.NegativeTTL
	}
	if _, known := c.known[ip]; !known && len(c.known) >= c.cfg.CacheSize {
		c.evict()
	}
	c.known[ip] = answer{found, time.Now().Add(ttl)}
}

// evict makes room: of some answers it drops those that expired, or one.
func (c *ClientNames) evict() {
	const some = 64
	now := time.Now()
	seen, dropped := 0, false
	var other netip.Addr
	for ip, a := range c.known {
		if seen++; seen > some {
			break
		}
		if now.Before(a.expires) {
			other = ip
			continue
		}
		delete(c.known, ip)
		dropped = true
	}
	if !dropped {
		delete(c.known, other)
	}
}

const maxNames = 5 // of one client that are tried

func (c *ClientNames) lookUp(ctx context.Context, ip netip.Addr) client {
	// With an error there may still be names: those that were well-formed.
	names, err := c.resolver.LookupAddr(ctx, ip.String())
	found := client{how: mail.ResolveFail}
	if unanswered(err) {
		found.how = mail.ResolveTemp
	}
	for _, name := range names[:min(len(names), maxNames)] {
		canonical, err := mail.ParseDomain(name)
		if err != nil || strings.HasPrefix(canonical, "[") {
			continue
		}
		if found.ptr == "" {
			found.ptr, found.how = canonical, mail.ResolveForged
		}
		leads, err := c.leadsTo(ctx, canonical, ip)
		switch {
		case leads:
			return client{canonical, canonical, mail.ResolveOK}
		case unanswered(err):
			found.how = mail.ResolveTemp
		}
	}
	return found
}

// unanswered reports whether an error says nothing about the name.
func unanswered(err error) bool {
	var of *net.DNSError
	if err == nil || errors.Is(err, ErrNoName) {
		return false
	}
	return !errors.As(err, &of) || !of.IsNotFound
}

// leadsTo asks for the addresses of an absolute name: the final dot keeps the
// search list of resolv.conf out, in which anything may match.
func (c *ClientNames) leadsTo(ctx context.Context, name string, ip netip.Addr) (bool, error) {
	network := "ip6"
	if ip.Is4() {
		network = "ip4"
	}
	addrs, err := c.resolver.LookupNetIP(ctx, network, name+".")
	if err != nil {
		return false, err
	}
	for _, a := range addrs {
		if a.Unmap().WithZone("") == ip {
			return true, nil
		}
	}
	return false, nil
}
