package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	wire "github.com/miekg/dns"
)

// ClientConfig is the section [dns]. A zero in any field is its default.
type ClientConfig struct {
	// Servers are the resolvers to ask, "127.0.0.1:53", in order: the next one
	// only when one fails. Default: those of /etc/resolv.conf.
	Servers []string `toml:"servers"`
	// TrustedAD says that the servers check DNSSEC, and that nobody can change
	// what they say on the way here. Without it no answer counts as authentic,
	// unless the servers are those of /etc/resolv.conf, on loopback, and that
	// file says "options trust-ad". Default: false.
	TrustedAD bool `toml:"trusted_ad"`
	// Timeout for one answer of one server. Default: 5s.
	Timeout time.Duration `toml:"timeout"`
	// Attempts are how often all servers are asked. Default: 2.
	Attempts int `toml:"attempts"`
	// CacheSize is how many answers are remembered. Default: 10000.
	CacheSize int `toml:"cache_size"`
	// MaxTTL bounds how long an answer is remembered. Default: 1h.
	MaxTTL time.Duration `toml:"max_ttl"`

	// ResolvConf is read for the servers. Default: /etc/resolv.conf.
	ResolvConf string `toml:"-"`
	// Asked counts a question that the servers were asked: kind is "TXT", "MX"…,
	// result "ok", "none", "timeout" or "failed". nil: nobody counts.
	Asked func(kind, result string) `toml:"-"`
}

// DefaultClientConfig has the default of every field.
func DefaultClientConfig() ClientConfig {
	return ClientConfig{
		Timeout: 5 * time.Second, Attempts: 2, CacheSize: 10000, MaxTTL: time.Hour, ResolvConf: "/etc/resolv.conf",
	}
}

// Validate reports all that is wrong.
func (c ClientConfig) Validate() error {
	_, err := c.complete()
	return err
}

// complete fills in the defaults.
func (c ClientConfig) complete() (ClientConfig, error) {
	d := DefaultClientConfig()
	var errs []error
	servers := make([]string, len(c.Servers))
	for i, s := range c.Servers {
		var err error
		if servers[i], err = serverAddress(s); err != nil {
			errs = append(errs, fmt.Errorf("dns: servers[%d]: %w", i, err))
		}
	}
	c.Servers = servers
	for _, n := range []struct {
		name string
		v    int64
	}{{"timeout", int64(c.Timeout)}, {"attempts", int64(c.Attempts)}, {"cache_size", int64(c.CacheSize)}, {"max_ttl", int64(c.MaxTTL)}} {
		if n.v < 0 {
			errs = append(errs, fmt.Errorf("dns: %s: negative", n.name))
		}
	}
	if c.Timeout == 0 {
		c.Timeout = d.Timeout
	}
	if c.Attempts == 0 {
		c.Attempts = d.Attempts
	}
	if c.CacheSize == 0 {
		c.CacheSize = d.CacheSize
	}
	if c.MaxTTL == 0 {
		c.MaxTTL = d.MaxTTL
	}
	if c.ResolvConf == "" {
		c.ResolvConf = d.ResolvConf
	}
	return c, errors.Join(errs...)
}

// Client asks resolvers and remembers what they say. It may be used by many at
// a time; the same question is on its way only once.
type Client struct {
	cfg     ClientConfig
	servers servers
	now     func() time.Time

	mu      sync.Mutex
	known   map[question]reply
	flights map[question]chan struct{} // closed when the look-up has ended
}

// question is a name, absolute and in lower case, and a type.
type question struct {
	name string
	kind uint16
}

func (q question) String() string { return wire.TypeToString[q.kind] + " " + q.name }

// reply is what is known about a question.
type reply struct {
	records   []wire.RR // of the type asked for
	canonical string    // the name at the end of all CNAMEs
	none      bool      // the name does not exist
	authentic bool
	ttl       time.Duration
	expires   time.Time
}

// NewClient returns a Client. It asks nobody yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return &Client{
		cfg:     cfg,
		servers: servers{cfg: cfg},
		now:     time.Now,
		known:   make(map[question]reply),
		flights: make(map[question]chan struct{}),
	}, nil
}

// LookupMX returns the mail exchangers of a domain, in any order.
func (c *Client) LookupMX(ctx context.Context, domain string) (mx []MX, authentic bool, err error) {
	r, err := c.find(ctx, domain, wire.TypeMX)
	for _, rr := range r.records {
		m := rr.(*wire.MX)
		mx = append(mx, MX{Host: plain(m.Mx), Preference: m.Preference})
	}
	return mx, r.authentic, err
}

// LookupTLSA returns the TLSA records of a TCP port of a host (RFC 6698 3).
func (c *Client) LookupTLSA(ctx context.Context, port uint16, host string) (records []TLSA, authentic bool, err error) {
	r, err := c.find(ctx, fmt.Sprintf("_%d._tcp.%s", port, host), wire.TypeTLSA)
	for _, rr := range r.records {
		t := rr.(*wire.TLSA)
		data, err := hexBytes(t.Certificate)
		if err != nil {
			continue // its owner's mistake: the record is unusable (RFC 7671 4.1)
		}
		records = append(records, TLSA{Usage: t.Usage, Selector: t.Selector, Matching: t.MatchingType, Data: data})
	}
	return records, r.authentic, err
}

// LookupTXT returns each TXT record as one text.
func (c *Client) LookupTXT(ctx context.Context, name string) (texts []string, authentic bool, err error) {
	r, err := c.find(ctx, name, wire.TypeTXT)
	for _, rr := range r.records {
		texts = append(texts, strings.Join(rr.(*wire.TXT).Txt, ""))
	}
	return texts, r.authentic, err
}

// LookupHost returns the addresses of a host, of both families. A family that
// can't be found out does not hide the other.
func (c *Client) LookupHost(ctx context.Context, name string) (host Host, authentic bool, err error) {
	var four, six reply
	var errFour, errSix error
	var wg sync.WaitGroup
	wg.Go(func() { six, errSix = c.find(ctx, name, wire.TypeAAAA) })
	four, errFour = c.find(ctx, name, wire.TypeA)
	wg.Wait()
	host.Name, authentic = plain(wire.CanonicalName(name)), true
	for _, r := range []reply{six, four} {
		if len(r.records) == 0 {
			continue
		}
		host.Name, authentic = plain(r.canonical), authentic && r.authentic
		host.Addrs = append(host.Addrs, addresses(r.records)...)
	}
	switch {
	case len(host.Addrs) > 0:
		return host, authentic, nil
	case errFour != nil && !four.none:
		return Host{}, false, errFour
	case errSix != nil && !six.none:
		return Host{}, false, errSix
	}
	authentic = four.authentic && six.authentic
	if four.none && six.none { // of one alone some servers say so in error
		return Host{}, authentic, errFour
	}
	return host, authentic, nil
}

func addresses(records []wire.RR) []netip.Addr {
	var addrs []netip.Addr
	for _, rr := range records {
		var ip []byte
		switch rr := rr.(type) {
		case *wire.A:
			ip = rr.A.To4()
		case *wire.AAAA:
			ip = rr.AAAA.To16()
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs
}

// LookupAddr returns the names in the reverse zone of an address.
func (c *Client) LookupAddr(ctx context.Context, addr string) (names []string, err error) {
	arpa, err := wire.ReverseAddr(addr)
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	r, err := c.find(ctx, arpa, wire.TypePTR)
	for _, rr := range r.records {
		names = append(names, rr.(*wire.PTR).Ptr)
	}
	return names, err
}

// LookupNetIP returns the addresses of a name: of network "ip4", "ip6" or both.
func (c *Client) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	kind := wire.TypeAAAA
	switch network {
	case "ip":
		h, _, err := c.LookupHost(ctx, host)
		return h.Addrs, err
	case "ip4":
		kind = wire.TypeA
	}
	r, err := c.find(ctx, host, kind)
	return addresses(r.records), err
}

// plain is a name as the rest of the program writes it.
func plain(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
