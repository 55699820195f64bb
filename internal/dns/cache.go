package dns

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	wire "github.com/miekg/dns"
)

// find answers a question from memory or asks. The error is ErrNoName where the
// name does not exist.
func (c *Client) find(ctx context.Context, name string, kind uint16) (reply, error) {
	q := question{wire.CanonicalName(name), kind}
	if _, ok := wire.IsDomainName(q.name); !ok || q.name == "." {
		return reply{none: true}, fmt.Errorf("%w: %q is no domain name", ErrNoName, name)
	}
	for {
		r, flight, ok := c.enter(q)
		switch {
		case ok:
			return r, r.err(q)
		case flight == nil:
			r, err := c.lead(ctx, q)
			if err != nil {
				return reply{}, err
			}
			return r, r.err(q)
		}
		select {
		case <-flight: // known now, unless whoever asked got no answer
		case <-ctx.Done():
			return reply{}, fmt.Errorf("dns: %v: %w", q, context.Cause(ctx))
		}
		if ctx.Err() != nil {
			return reply{}, fmt.Errorf("dns: %v: %w", q, context.Cause(ctx))
		}
	}
}

func (r reply) err(q question) error {
	if r.none {
		return fmt.Errorf("%w: %s", ErrNoName, plain(q.name))
	}
	return nil
}

// enter returns what is known, or the look-up that is under way; with neither
// the caller is to look it up.
func (c *Client) enter(q question) (r reply, flight <-chan struct{}, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.known[q]; ok && c.now().Before(r.expires) {
		return r, nil, true
	}
	if f, ok := c.flights[q]; ok {
		return reply{}, f, false
	}
	c.flights[q] = make(chan struct{})
	return reply{}, nil, false
}

// lead asks for all who wait.
func (c *Client) lead(ctx context.Context, q question) (r reply, err error) {
	err = errors.New("dns: panic") // kept when ask panics
	defer func() { c.leave(q, r, err) }()
	r, err = c.ask(ctx, q)
	return r, err
}

func (c *Client) leave(q question, r reply, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.flights[q])
	delete(c.flights, q)
	if err != nil || r.ttl <= 0 {
		return
	}
	if _, known := c.known[q]; !known && len(c.known) >= c.cfg.CacheSize {
		c.evict()
	}
	r.expires = c.now().Add(r.ttl)
	c.known[q] = r
}

// evict makes room: of some answers it drops those that expired, or one.
func (c *Client) evict() {
	const some = 64
	now := c.now()
	seen, dropped := 0, false
	var other question
	for q, r := range c.known {
		if seen++; seen > some {
			break
		}
		if now.Before(r.expires) {
			other = q
			continue
		}
		delete(c.known, q)
		dropped = true
	}
	if !dropped {
		delete(c.known, other)
	}
}

// Bounds of the time for which an answer is remembered.
const (
	minTTL      = 5 * time.Second // whatever its owner says: one delivery asks several times
	maxNegative = 10 * time.Minute
)

// understand makes a reply of an answer.
func understand(q question, m *wire.Msg, trusted bool, maxTTL time.Duration) reply {
	r := reply{canonical: q.name, none: m.Rcode == wire.RcodeNameError, authentic: trusted && m.AuthenticatedData}
	ttl := uint32(1 << 31)
	alias := make(map[string]*wire.CNAME)
	for _, rr := range m.Answer {
		if c, ok := rr.(*wire.CNAME); ok {
			alias[wire.CanonicalName(c.Hdr.Name)] = c
		}
	}
	for range len(alias) {
		c := alias[r.canonical]
		if c == nil || q.kind == wire.TypeCNAME {
			break
		}
		r.canonical = wire.CanonicalName(c.Target)
		ttl = min(ttl, c.Hdr.Ttl)
	}
	for _, rr := range m.Answer {
		if h := rr.Header(); h.Rrtype == q.kind && h.Class == wire.ClassINET && wire.CanonicalName(h.Name) == r.canonical {
			r.records = append(r.records, rr)
			ttl = min(ttl, h.Ttl)
		}
	}
	if len(r.records) > 0 {
		r.none = false
		r.ttl = min(max(time.Duration(ttl)*time.Second, minTTL), maxTTL)
		return r
	}
	for _, rr := range m.Ns { // RFC 2308 5
		if soa, ok := rr.(*wire.SOA); ok {
			ttl = min(ttl, soa.Hdr.Ttl, soa.Minttl)
			r.ttl = min(time.Duration(ttl)*time.Second, maxNegative)
		}
	}
	r.ttl = min(max(r.ttl, minTTL), maxTTL)
	return r
}

func hexBytes(s string) ([]byte, error) { return hex.DecodeString(s) }
