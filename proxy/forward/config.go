package forward

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"gatepost/internal/mail"
)

// Config says where mail goes.
type Config struct {
	// Hostname is what we call ourselves in EHLO.
	Hostname string `toml:"-"`
	// Resolver is asked for MX, address, TLSA and TXT records; nil: none of
	// what needs it can be configured.
	Resolver Resolver `toml:"-"`
	// RootCAs verify a next hop's certificate where a route says "verify", or
	// MTA-STS does, and that of a policy's server; nil: the system's.
	RootCAs *x509.CertPool `toml:"-"`
	// STSPort is that of HTTPS where policies are fetched. Default: 443, and
	// only a test wants another.
	STSPort int `toml:"-"`
	sts     *stsCache
	source  stsSource
	files   *proofFiles // of one table
	// Routes by what they are for, the most specific wins:
	// "user@example.com" (one address), "example.com" (exactly this domain),
	// ".example.com" (what lies below it), "." (everything else).
	// "postmaster" is the address without a domain.
	Routes map[string]Route `toml:"route"`
	// Routing is the section [routing].
	Routing Routing `toml:"routing"`
	// Entries are the routes of the files that Routing names, as
	// ReadMailertable and ReadTransport return them.
	Entries []Entry `toml:"-"`
}

// Routing is what concerns all routes.
type Routing struct {
	// Mailertable is the path of routes in the text form of sendmail's
	// mailertable. Routes of the configuration win. Default: none.
	Mailertable string `toml:"mailertable"`
	// Transport is the path of routes in the text form of Postfix's transport
	// table, likewise. There can be only one of the two files. Default: none.
	Transport string `toml:"transport"`
	// STSCache is a directory that keeps MTA-STS policies over a restart; "":
	// nothing is kept. Default: /var/lib/gatepost/mta-sts.
	STSCache string `toml:"mta_sts_cache"`
	// MXPort is the port of hosts found by MX. Default: 25, and only a test
	// wants another.
	MXPort int `toml:"mx_port"`
	// MXLoopback lets MX records lead to this machine. Default: false, since
	// anybody may write 127.0.0.1 into his zone; for tests.
	MXLoopback bool `toml:"mx_loopback"`
}

// Route is the next hop of some mail. A zero in any field but To is its default.
type Route struct {
	// To names the hosts in order: "smtp://host:port" (port 25),
	// "lmtp://host:port" (port 24), "lmtp+unix:///path". A host may be an
	// address, an IPv6 one in brackets; brackets around a name change nothing.
	// There is no MX look-up.
	// "mx" stands for the mail hosts of the recipient's domain, as DNS tells
	// them, "mx:example.net" for those of another domain.
	// "error:5.1.1:550 text", alone, delivers nothing: recipients are refused so.
	To []string `toml:"to"`
	// Balance is failover (in order, the others only when one fails) or
	// round-robin (each delivery begins with the next). Default: failover.
	Balance Balance `toml:"balance"`
	// Group names the group of routes that this one belongs to, with limits and
	// times of its own in [queue.group.NAME]. Default: "remote" with an MX
	// look-up, else "internal".
	Group string `toml:"group"`
	// TLS is none, opportunistic, required, verify, mta-sts, dane or auto.
	// Default: opportunistic.
	TLS TLS `toml:"tls"`
	Identity
	// MaxConnections to each host at a time. Default: 20.
	MaxConnections int `toml:"max_connections"`
	// MaxMessages over one connection. Default: 100.
	MaxMessages int `toml:"max_messages"`
	// ConnectTimeout for the connection, and once more for the TLS handshake.
	// Default: 30s.
	ConnectTimeout time.Duration `toml:"connect_timeout"`
	// CommandTimeout for the answer to each command, and for the greeting.
	// Default: 5m.
	CommandTimeout time.Duration `toml:"command_timeout"`
	// DataTimeout for the answer to a message. Default: 10m.
	DataTimeout time.Duration `toml:"data_timeout"`
	// WriteTimeout for the next hop to take 64 kB of a message. Default: 3m.
	WriteTimeout time.Duration `toml:"write_timeout"`
	// IdleTimeout is how long a connection is kept for the next message.
	// Default: 30s.
	IdleTimeout time.Duration `toml:"idle_timeout"`
}

// TLS is how much a route cares for encryption.
type TLS string

// The TLS policies.
const (
	TLSNone          TLS = "none"          // never
	TLSOpportunistic TLS = "opportunistic" // where it works; no certificate is checked
	TLSRequired      TLS = "required"      // or not at all; no certificate is checked
	TLSVerify        TLS = "verify"        // and the certificate must fit the host
	TLSSTS           TLS = "mta-sts"       // as the domain's MTA-STS policy says, else opportunistic
	TLSDANE          TLS = "dane"          // as the host's TLSA records say, else opportunistic
	TLSAuto          TLS = "auto"          // dane, else mta-sts, else opportunistic
)

// Validate reports a policy that there is not.
func (t TLS) Validate() error {
	switch t {
	case "", TLSNone, TLSOpportunistic, TLSRequired, TLSVerify, TLSSTS, TLSDANE, TLSAuto:
		return nil
	}
	return fmt.Errorf("tls %q: want none, opportunistic, required, verify, mta-sts, dane or auto", string(t))
}

// Balance is how deliveries are spread over the hosts of a route.
type Balance string

// The ways to spread.
const (
	FailOver   Balance = "failover"
	RoundRobin Balance = "round-robin"
)

// Validate reports a way that there is not.
func (b Balance) Validate() error {
	switch b {
	case "", FailOver, RoundRobin:
		return nil
	}
	return fmt.Errorf("balance: %q: want failover or round-robin", string(b))
}

// maxGroup is the longest name of a group.
const maxGroup = 40

func checkGroup(s string) error {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("group: %q: want lower case letters, digits, - and _", s)
		}
	}
	if len(s) > maxGroup {
		return fmt.Errorf("group: %q: longer than %d", s, maxGroup)
	}
	return nil
}

// DefaultConfig has no routes.
func DefaultConfig() Config {
	return Config{Routes: map[string]Route{}, Routing: Routing{STSCache: "/var/lib/gatepost/mta-sts"}}
}

// DefaultRoute has the default of every field but To.
func DefaultRoute() Route {
	return Route{
		Balance:        FailOver,
		TLS:            TLSOpportunistic,
		Identity:       Identity{XClient: XClientNone},
		MaxConnections: 20,
		MaxMessages:    100,
		ConnectTimeout: 30 * time.Second,
		CommandTimeout: 5 * time.Minute,
		DataTimeout:    10 * time.Minute,
		WriteTimeout:   3 * time.Minute,
		IdleTimeout:    30 * time.Second,
	}
}

// Validate reports all that is wrong, each with the key of its route.
func (c Config) Validate() error {
	_, err := newTable(c)
	return err
}

func (c Config) checkHostname() error {
	if _, err := mail.ParseDomain(c.Hostname); err != nil {
		return fmt.Errorf("forward: hostname %q: %w", c.Hostname, err)
	}
	return nil
}

func (c Config) mxPort() int { return cmp.Or(c.Routing.MXPort, 25) }

func (c Config) checkRouting() error {
	if p := c.Routing.MXPort; p < 0 || p > 65535 {
		return fmt.Errorf("forward: mx_port: %d: want 1 to 65535", p)
	}
	if c.Routing.Mailertable != "" && c.Routing.Transport != "" {
		return errors.New("forward: transport: there is a mailertable, too; write one file")
	}
	return nil
}

// ReadFile reads the file that [routing] names. Its error names all bad lines,
// as "path:line: what; what to do".
func (r Routing) ReadFile() ([]Entry, error) {
	switch {
	case r.Mailertable != "":
		return ReadMailertable(r.Mailertable)
	case r.Transport != "":
		return ReadTransport(r.Transport)
	}
	return nil, nil
}

// Overruled returns the entries that a route of the configuration takes the
// place of.
func (c Config) Overruled() []Entry {
	own := make(map[string]bool)
	for key := range c.Routes {
		if k, err := parseKey(key); err == nil {
			own[k] = true
		}
	}
	var all []Entry
	for _, e := range c.Entries {
		if own[e.Key] {
			all = append(all, e)
		}
	}
	return all
}

// settings are what a Route says of each of its hosts, defaults filled in.
type settings struct {
	tls                                 TLS
	maxConnections, maxMessages         int
	connect, command, data, write, idle time.Duration
	proofs
}

func (r Route) settings() (settings, error) {
	d := DefaultRoute()
	errs := []error{r.TLS.Validate()}
	for _, v := range []struct {
		name     string
		negative bool
	}{
		{"max_connections", r.MaxConnections < 0},
		{"max_messages", r.MaxMessages < 0},
		{"connect_timeout", r.ConnectTimeout < 0},
		{"command_timeout", r.CommandTimeout < 0},
		{"data_timeout", r.DataTimeout < 0},
		{"write_timeout", r.WriteTimeout < 0},
		{"idle_timeout", r.IdleTimeout < 0},
	} {
		if v.negative {
			errs = append(errs, fmt.Errorf("%s: negative", v.name))
		}
	}
	return settings{
		tls:            cmp.Or(r.TLS, d.TLS),
		maxConnections: cmp.Or(r.MaxConnections, d.MaxConnections),
		maxMessages:    cmp.Or(r.MaxMessages, d.MaxMessages),
		connect:        cmp.Or(r.ConnectTimeout, d.ConnectTimeout),
		command:        cmp.Or(r.CommandTimeout, d.CommandTimeout),
		data:           cmp.Or(r.DataTimeout, d.DataTimeout),
		write:          cmp.Or(r.WriteTimeout, d.WriteTimeout),
		idle:           cmp.Or(r.IdleTimeout, d.IdleTimeout),
	}, errors.Join(errs...)
}

// keys are the keys of the routes, sorted, so that errors have an order.
func (c Config) keys() []string { return slices.Sorted(maps.Keys(c.Routes)) }
