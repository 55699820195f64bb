package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// endpoint is where one URL of a route leads.
type endpoint struct {
	lmtp    bool
	network string // "tcp" or "unix"
	name    string // host or path as configured, without brackets
	port    string // "" for a unix socket
}

func (e endpoint) address() string {
	if e.network == "unix" {
		return e.name
	}
	return net.JoinHostPort(e.name, e.port)
}

// parseEndpoint reads smtp://host:port, lmtp://host:port, lmtp+unix:///path.
func parseEndpoint(s string) (endpoint, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Opaque != "" {
		return endpoint{}, errors.New("want smtp://host:port")
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return endpoint{}, errors.New("only a host and a port can be given")
	}
	switch u.Scheme {
	case "smtp":
		return tcpEndpoint(u, endpoint{network: "tcp", port: "25"})
	case "lmtp":
		return tcpEndpoint(u, endpoint{network: "tcp", port: "24", lmtp: true})
	case "lmtp+unix":
		if u.Host != "" || !path.IsAbs(u.Path) || strings.HasSuffix(u.Path, "/") {
			return endpoint{}, errors.New("want lmtp+unix:///path/of/the/socket")
		}
		return endpoint{network: "unix", name: u.Path, lmtp: true}, nil
	}
	return endpoint{}, fmt.Errorf("scheme %q: want smtp, lmtp or lmtp+unix", u.Scheme)
}

func tcpEndpoint(u *url.URL, e endpoint) (endpoint, error) {
	if u.Path != "" && u.Path != "/" {
		return endpoint{}, errors.New("only a host and a port can be given")
	}
	e.name = u.Hostname()
	if _, err := netip.ParseAddr(e.name); err != nil {
		name, err := mail.ParseDomain(e.name)
		if err != nil {
			return endpoint{}, fmt.Errorf("host: %w", err)
		}
		e.name = mail.ASCIIDomain(name)
	}
	if p := u.Port(); p != "" {
		e.port = p
	}
	if n, err := strconv.Atoi(e.port); err != nil || n < 1 || n > 65535 {
		return endpoint{}, fmt.Errorf("port %q: want 1 to 65535", e.port)
	}
	return e, nil
}

// route is a Route that was checked. Routes that lead to the same hosts in the
// same way are one, so that their recipients share a transaction.
type route struct {
	dest  string // the least of its keys
	hosts []*host
}

// table finds the route of a recipient.
type table struct {
	hostname string
	byKey    map[string]*route
	byDest   map[string]*route
	hosts    map[hostKey]*host
}

type hostKey struct {
	endpoint
	settings
}

func newTable(cfg Config) (*table, error) {
	t := &table{
		hostname: strings.ToLower(cfg.Hostname),
		byKey:    make(map[string]*route),
		byDest:   make(map[string]*route),
		hosts:    make(map[hostKey]*host),
	}
	errs := []error{cfg.checkHostname()}
	for _, key := range cfg.keys() {
		if err := t.add(key, cfg.Routes[key], cfg); err != nil {
			errs = append(errs, fmt.Errorf("forward: route %q: %w", key, err))
		}
	}
	return t, errors.Join(errs...)
}

// add checks a route and finds it a place; nothing of a bad one stays.
func (t *table) add(key string, r Route, cfg Config) error {
	canonical, err := parseKey(key)
	if err != nil {
		return err
	}
	if t.byKey[canonical] != nil {
		return errors.New("is there twice, in another spelling")
	}
	s, err := r.settings()
	errs := []error{err}
	if len(r.To) == 0 {
		errs = append(errs, errors.New("to: names no host"))
	}
	var ends []endpoint
	for _, to := range r.To {
		e, err := parseEndpoint(to)
		if err == nil && slices.Contains(ends, e) {
			err = errors.New("is there twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("to %q: %w", to, err))
		}
		ends = append(ends, e)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var hosts []*host
	for _, e := range ends {
		k := hostKey{e, s}
		if t.hosts[k] == nil {
			t.hosts[k] = newHost(e, s, cfg)
		}
		hosts = append(hosts, t.hosts[k])
	}
	t.byKey[canonical] = t.join(canonical, hosts)
	return nil
}

// join returns the route to those hosts. Keys come sorted: the first names it.
func (t *table) join(key string, hosts []*host) *route {
	for _, r := range t.byDest {
		if slices.Equal(r.hosts, hosts) {
			return r
		}
	}
	r := &route{dest: key, hosts: hosts}
	t.byDest[key] = r
	return r
}

// parseKey returns the form in which find looks for a key.
func parseKey(key string) (string, error) {
	switch {
	case key == ".":
		return key, nil
	case strings.EqualFold(key, "postmaster"):
		return "postmaster", nil
	case strings.Contains(key, "@"):
		a, err := mail.ParseAddress(key, true)
		return addressKey(a), err
	}
	name, below := strings.CutPrefix(key, ".")
	domain, err := mail.ParseDomain(name)
	if err != nil {
		return "", fmt.Errorf(`want a domain, ".domain", an address or ".": %w`, err)
	}
	if below {
		return "." + mail.ASCIIDomain(domain), nil
	}
	return mail.ASCIIDomain(domain), nil
}

// addressKey ignores the case of the local part, as whoever writes a route does.
func addressKey(a mail.Address) string { return strings.ToLower(a.Local) + "@" + a.ASCIIDomain() }

// find returns the route for a, nil when there is none.
func (t *table) find(a mail.Address) *route {
	switch {
	case a.IsNull():
		return nil
	case a.Domain == "":
		return t.postmaster()
	}
	if r := t.byKey[addressKey(a)]; r != nil {
		return r
	}
	domain := a.ASCIIDomain()
	if r := t.byKey[domain]; r != nil {
		return r
	}
	for i := strings.IndexByte(domain, '.'); i >= 0; {
		domain = domain[i:]
		if r := t.byKey[domain]; r != nil {
			return r
		}
		domain = domain[1:]
		i = strings.IndexByte(domain, '.')
	}
	return t.byKey["."]
}

// postmaster without a domain is ours (RFC 5321 4.5.1) and must go somewhere:
// to its own key, to the domain that we are in, to the catch-all, or to the
// only place there is.
func (t *table) postmaster() *route {
	if r := t.byKey["postmaster"]; r != nil {
		return r
	}
	for domain, more := t.hostname, true; more; _, domain, more = strings.Cut(domain, ".") {
		if r := t.byKey[domain]; r != nil {
			return r
		}
	}
	if r := t.byKey["."]; r != nil || len(t.byDest) != 1 {
		return r
	}
	for _, r := range t.byDest {
		return r
	}
	return nil
}
