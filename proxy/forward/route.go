package forward

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"gatepost/internal/mail"
)

// route is a Route that was checked. Routes that lead to the same targets in the
// same way are one, so that their recipients share a transaction.
type route struct {
	key     string // the first of its keys
	targets []target
	settings
	balance Balance
	group   string
	// dynamic: each domain of recipients is a destination of its own.
	dynamic bool
	through bool // of a file: as if the file did not name this key
	turn    atomic.Uint32
}

// refusal is the answer of a route that delivers nothing; zero: it delivers.
func (r *route) refusal() mail.Reply { return r.targets[0].refuse }

// dest names a destination: the key of its route and, where that is dynamic, a
// space and the recipient's domain as A-labels. No key holds a space.
func (r *route) dest(domain string) string {
	if r.dynamic {
		return r.key + " " + domain
	}
	return r.key
}

// table finds the route of a recipient.
type table struct {
	hostname string
	byKey    map[string]*route // all
	own      map[string]*route // without those of files
	byDest   map[string]*route // by the key that names it
	joined   map[string]*route // by what it is
	cfg      Config
	exchange exchange

	mu     sync.Mutex
	hosts  map[hostKey]*host
	closed bool
}

type hostKey struct {
	endpoint
	settings
}

func newTable(cfg Config) (*table, error) {
	cfg.files = newProofFiles()
	cfg.source = cfg.stsSource()
	t := &table{
		hostname: strings.ToLower(cfg.Hostname),
		byKey:    make(map[string]*route),
		own:      make(map[string]*route),
		byDest:   make(map[string]*route),
		joined:   make(map[string]*route),
		hosts:    make(map[hostKey]*host),
		cfg:      cfg,
	}
	errs := []error{cfg.checkHostname(), cfg.checkRouting()}
	for _, key := range cfg.keys() {
		if err := t.add(key, cfg.Routes[key]); err != nil {
			errs = append(errs, fmt.Errorf("forward: route %q: %w", key, err))
		}
	}
	for key, r := range t.byKey {
		t.own[key] = r
	}
	for _, e := range cfg.Entries {
		if err := t.addEntry(e); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", e.File, e.Line, err))
		}
	}
	t.exchange = newExchange(t.cfg, t.hostname)
	return t, errors.Join(errs...)
}

// add checks a route and finds it a place; nothing of a bad one stays.
func (t *table) add(key string, r Route) error {
	canonical, err := parseKey(key)
	if err != nil {
		return err
	}
	if t.byKey[canonical] != nil {
		return errors.New("is there twice, in another spelling")
	}
	fresh, err := t.cfg.route(canonical, r)
	if err != nil {
		return err
	}
	t.byKey[canonical] = t.join(fresh)
	return nil
}

// addEntry adds a line of a file. A route of the configuration wins.
func (t *table) addEntry(e Entry) error {
	if t.own[e.Key] != nil {
		return nil
	}
	if e.Through {
		t.byKey[e.Key] = &route{key: e.Key, through: true}
		return nil
	}
	fresh, err := t.cfg.route(e.Key, e.Route)
	if err != nil {
		return err
	}
	t.byKey[e.Key] = t.join(fresh)
	return nil
}

// route checks a Route.
func (c Config) route(key string, r Route) (*route, error) {
	s, err := r.settings()
	proofs, wrong := c.files.read(r.Identity, s.tls)
	s.proofs = proofs
	errs := []error{err, wrong, r.Balance.Validate(), checkGroup(r.Group)}
	if len(r.To) == 0 {
		errs = append(errs, errors.New("to: names no host"))
	}
	fresh := &route{key: key, settings: s, balance: cmp.Or(r.Balance, FailOver)}
	for _, to := range r.To {
		target, err := parseTarget(to)
		if err == nil {
			err = c.fits(fresh, target, key)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("to %q: %w", to, err))
		}
		if target.mx && target.port == "" {
			target.port = strconv.Itoa(c.mxPort())
		}
		fresh.targets = append(fresh.targets, target)
		fresh.dynamic = fresh.dynamic || target.dynamic()
	}
	errs = append(errs, s.suits(fresh.targets))
	fresh.group = cmp.Or(r.Group, defaultGroup(fresh.targets))
	return fresh, errors.Join(errs...)
}

// fits tells what is wrong with another target of a route.
func (c Config) fits(r *route, t target, key string) error {
	refuses := !t.refuse.IsZero()
	switch {
	case slices.Contains(r.targets, t):
		return errors.New("is there twice")
	case len(r.targets) > 0 && (refuses || !r.targets[0].refuse.IsZero()):
		return errors.New("an error must stand alone")
	case strings.Contains(t.name, prefixMark) && (len(key) < 2 || key[0] != '.'):
		return fmt.Errorf(`%s stands for what is in front of a key like ".example.com"`, prefixMark)
	}
	return nil
}

func defaultGroup(targets []target) string {
	for _, t := range targets {
		if t.mx {
			return "remote"
		}
	}
	return "internal"
}

// join returns the route that leads to the same place. Keys come sorted: the
// first names it. One whose target is made of its key is like no other.
func (t *table) join(r *route) *route {
	what := fmt.Sprintf("%+v %+v %s %s", r.targets, r.settings, r.balance, r.group)
	if strings.Contains(what, prefixMark) {
		what = r.key + " " + what
	}
	if other := t.joined[what]; other != nil {
		return other
	}
	t.joined[what] = r
	t.byDest[r.key] = r
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
	r := t.findIn(t.byKey, a)
	if r != nil && r.through {
		r = t.findIn(t.own, a)
	}
	return r
}

func (t *table) findIn(routes map[string]*route, a mail.Address) *route {
	switch {
	case a.IsNull():
		return nil
	case a.Domain == "":
		return t.postmaster(routes)
	}
	if r := routes[addressKey(a)]; r != nil {
		return r
	}
	domain := a.ASCIIDomain()
	if r := routes[domain]; r != nil {
		return r
	}
	for i := strings.IndexByte(domain, '.'); i >= 0; {
		domain = domain[i:]
		if r := routes[domain]; r != nil {
			return r
		}
		domain = domain[1:]
		i = strings.IndexByte(domain, '.')
	}
	return routes["."]
}

// postmaster without a domain is ours (RFC 5321 4.5.1) and must go somewhere:
// to its own key, to the domain that we are in, to the catch-all, or to the
// only place there is. It has no domain of its own to look up.
func (t *table) postmaster(routes map[string]*route) *route {
	usable := func(r *route) bool { return r != nil && !r.through && !r.dynamic && r.refusal().IsZero() }
	if r := routes["postmaster"]; usable(r) {
		return r
	}
	for domain, more := t.hostname, true; more; _, domain, more = strings.Cut(domain, ".") {
		if r := routes[domain]; usable(r) {
			return r
		}
	}
	if r := routes["."]; usable(r) {
		return r
	}
	var only *route
	for _, r := range t.byDest {
		if usable(r) && only != nil {
			return nil
		} else if usable(r) {
			only = r
		}
	}
	return only
}

// byName returns the route of a destination, and the domain in its name.
func (t *table) byName(dest string) (r *route, domain string) {
	key, domain, _ := strings.Cut(dest, " ")
	r = t.byDest[key]
	if r == nil || r.dynamic != (domain != "") {
		return nil, ""
	}
	return r, domain
}

// maxHosts are remembered before those that nobody uses are forgotten.
const maxHosts = 1000

// use returns the host of that kind, for a delivery that gives it back.
func (t *table) use(e endpoint, s settings) *host {
	k := hostKey{e, s}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[k]
	if h == nil {
		if len(t.hosts) >= maxHosts {
			t.evict()
		}
		h = newHost(e, s, t.cfg)
		h.closed = t.closed
		t.hosts[k] = h
	}
	h.users++
	return h
}

// evict forgets hosts that nobody uses and to which no connection is kept;
// t.mu is held.
func (t *table) evict() {
	for k, h := range t.hosts {
		if h.users == 0 && !h.keeps() {
			delete(t.hosts, k)
		}
	}
}

func (t *table) giveBack(hops []hop) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range hops {
		h.users--
	}
}

// close closes all hosts at once: each may take as long as a QUIT.
func (t *table) close() {
	t.mu.Lock()
	t.closed = true
	hosts := make([]*host, 0, len(t.hosts))
	for _, h := range t.hosts {
		hosts = append(hosts, h)
	}
	t.mu.Unlock()
	var wg sync.WaitGroup
	for _, h := range hosts {
		wg.Go(h.close)
	}
	wg.Wait()
}

// isAddress reports whether a host is named by its address.
func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}
