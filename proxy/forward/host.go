package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gatepost/internal/mail"
)

// host is one place to deliver to, with the connections that are kept to it.
type host struct {
	endpoint
	settings
	hostname  string // ours
	rootCAs   *x509.CertPool
	sts       *stsCache
	stsSource stsSource
	resolver  Resolver
	tlsConfig *tls.Config
	slots     chan struct{} // one for each delivery under way
	asking    chan struct{} // one for each question
	users     int           // deliveries that hold it, under the table's lock

	mu     sync.Mutex
	idle   []*conn // the latest last
	closed bool
	health map[netip.Addr]*health // of addresses that failed; the zero one is the name
	timers sync.WaitGroup         // one for each idle connection
}

func newHost(e endpoint, s settings, cfg Config) *host {
	return &host{
		endpoint:  e,
		settings:  s,
		hostname:  cfg.Hostname,
		resolver:  cfg.Resolver,
		rootCAs:   cfg.RootCAs,
		sts:       cfg.sts,
		stsSource: cfg.source,
		tlsConfig: newTLSConfig(s),
		slots:     make(chan struct{}, s.maxConnections),
		asking:    make(chan struct{}, asks),
	}
}

// conn is a connection between two messages, or during one.
type conn struct {
	*link
	host     *host
	security security
	client   mail.Facts // who was introduced with XCLIENT
	domain   string     // whose MX host it is, for texts
	addr     netip.Addr // as in hop
	sender   sender
	messages int
	refusals int         // of recipients that were asked about
	timer    *time.Timer // while idle
}

// sender speaks a protocol on a connection.
type sender interface {
	// send settles the recipients of t that are not settled yet. After a
	// failure the connection is of no more use, and those that are left are
	// deferred.
	send(t *transaction) *failure
	// clean reports whether another transaction may follow.
	clean() bool
	quit()
}

// deliver runs a transaction over a connection of its own or a kept one.
func (h hop) deliver(ctx context.Context, t *transaction) *failure {
	// Before there is a slot: a domain whose policy is slow to be had must not
	// keep the others from a host that they share.
	want, failed := h.wanted(ctx, t)
	if failed != nil {
		h.judge(h.addr, failed)
		return failed
	}
	slots := h.slots
	if t.asks {
		slots = h.asking
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return interrupted()
	}
	failed = h.try(ctx, t, want)
	h.judge(h.addr, failed)
	return failed
}

// try uses a kept connection where there is one. That it is dead may show only
// now: then nothing was accepted yet, and a new one is the same attempt.
func (h hop) try(ctx context.Context, t *transaction, want security) *failure {
	if c := h.take(h.addr, want); c != nil {
		failed := h.run(ctx, c, t)
		if failed == nil || failed.ours || t.begun && !t.asks {
			return failed
		}
		h.drop() // the others are as old
	}
	c, failed := h.connect(ctx, want, !t.requireTLS)
	if failed != nil {
		return failed
	}
	return h.run(ctx, c, t)
}

// run checks what only this hop can tell, and runs a transaction.
func (h hop) run(ctx context.Context, c *conn, t *transaction) *failure {
	if failed := h.fits(c, t); failed != nil {
		c.host.keep(c)
		failed.remote = c.remote
		return failed
	}
	return c.run(ctx, t)
}

// run runs one transaction and keeps the connection if it can.
func (c *conn) run(ctx context.Context, t *transaction) (failed *failure) {
	done := false
	defer func() {
		if !done { // a panic
			c.abort()
		}
	}()
	stop := context.AfterFunc(ctx, c.abort)
	t.begin(c.link)
	if failed = c.introduce(t.facts); failed == nil {
		failed = c.sender.send(t)
	}
	done = true
	interfered := !stop()
	switch {
	case failed != nil:
		c.abort()
		if failed.garbled && !t.sent {
			t.takeBack()
		}
		if interfered {
			failed = interrupted()
		}
		failed.remote = c.remote
	case interfered || !c.sender.clean():
		c.abort()
	default:
		c.refusals += t.refusals()
		c.host.keep(c)
	}
	return failed
}

// keep puts a connection aside for the next message.
func (h *host) keep(c *conn) {
	c.messages++
	h.mu.Lock()
	if h.closed || c.messages >= h.maxMessages || c.refusals >= maxRefusals {
		h.mu.Unlock()
		c.sender.quit()
		return
	}
	defer h.mu.Unlock()
	h.timers.Add(1)
	c.timer = time.AfterFunc(h.settings.idle, func() {
		defer h.timers.Done()
		if h.forget(c) {
			c.sender.quit()
		}
	})
	h.idle = append(h.idle, c)
}

// forget takes an idle connection out, and reports whether it was there.
func (h *host) forget(c *conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.Index(h.idle, c)
	if i < 0 {
		return false
	}
	h.idle = slices.Delete(h.idle, i, i+1)
	return true
}

// take returns a kept connection to that address, as secure as wanted and still
// alive, nil when there is none.
func (h *host) take(addr netip.Addr, want security) *conn {
	for {
		c := h.last(addr, want)
		if c == nil {
			return nil
		}
		h.disarm(c)
		if c.quiet() {
			return c
		}
		c.abort()
	}
}

func (h *host) last(addr netip.Addr, want security) *conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, c := range slices.Backward(h.idle) {
		if c.addr == addr && c.security == want {
			h.idle = slices.Delete(h.idle, i, i+1)
			return c
		}
	}
	return nil
}

func (h *host) disarm(c *conn) {
	if c.timer.Stop() {
		h.timers.Done()
	}
}

// keeps reports whether a connection is kept.
func (h *host) keeps() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.idle) > 0
}

// drop closes what is kept, without a word.
func (h *host) drop() {
	for _, c := range h.empty() {
		c.abort()
	}
}

func (h *host) empty() []*conn {
	h.mu.Lock()
	idle := h.idle
	h.idle = nil
	h.mu.Unlock()
	for _, c := range idle {
		h.disarm(c)
	}
	return idle
}

// close says good-bye on what is kept and keeps nothing from now on.
func (h *host) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range h.empty() {
		wg.Go(c.sender.quit)
	}
	wg.Wait()
	h.timers.Wait()
}
