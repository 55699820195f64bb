package forward

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// stsCache knows the MTA-STS policies of domains. A policy counts for as long as
// it says, whoever hides its record or its server meanwhile: that is all the
// protection there is against somebody on the way (RFC 8461 5.1). So it is kept
// in files as well, and fetched again long before it ends.
type stsCache struct {
	files stsFiles
	now   func() time.Time
	log   *slog.Logger

	mu      sync.Mutex
	domains map[string]*stsDomain
	swept   bool
}

// stsSource is where policies come from.
type stsSource interface {
	// record returns the id of a domain's policy, and whether it has one now.
	record(ctx context.Context, domain string) (id string, live bool)
	fetch(ctx context.Context, domain string) (text string, err error)
}

func newSTSCache(dir string, log *slog.Logger) *stsCache {
	return &stsCache{files: stsFiles(dir), now: time.Now, log: log, domains: make(map[string]*stsDomain)}
}

// stsDomain is what is known of one domain. It belongs to whoever has put
// something into its busy.
type stsDomain struct {
	busy   chan struct{}
	loaded bool // the file was looked at
	kept   *stsKept
	retry  time.Time // no fetch before
}

// stsKept is a policy as it was fetched.
type stsKept struct {
	stsPolicy
	id      string
	fetched time.Time
	text    string
}

func (k *stsKept) expired(now time.Time) bool { return now.After(k.fetched.Add(k.maxAge)) }

const (
	stsRefresh  = 24 * time.Hour  // a policy this old is fetched again
	stsPause    = 5 * time.Minute // RFC 8461 3.3: after a fetch that failed
	stsPatience = time.Minute     // for record and policy together (RFC 8461 3.3)
	maxDomains  = 10000           // in memory; the files know the others
)

// due reports whether a policy is to be fetched. A clock that was set back makes
// it due, too.
func (k *stsKept) due(now time.Time) bool {
	age := now.Sub(k.fetched)
	return age < 0 || age > min(stsRefresh, k.maxAge/2)
}

// policy returns what counts for a domain now; its mode is none where there is
// nothing. The error is that of the context.
func (c *stsCache) policy(ctx context.Context, from stsSource, domain string) (stsPolicy, error) {
	d := c.domain(domain)
	select {
	case d.busy <- struct{}{}:
		defer func() { <-d.busy }()
	case <-ctx.Done():
		return stsPolicy{}, ctx.Err()
	}
	if !d.loaded {
		d.kept, d.loaded = c.files.read(domain), true
	}
	now := c.now()
	if d.kept != nil && d.kept.expired(now) {
		c.files.remove(domain)
		d.kept = nil
	}
	c.renew(ctx, from, domain, d, now)
	if err := ctx.Err(); err != nil {
		return stsPolicy{}, err
	}
	if d.kept == nil {
		return stsPolicy{mode: stsNone}, nil
	}
	return d.kept.stsPolicy, nil
}

// renew fetches the policy of a domain if it is new, changed or old. What goes
// wrong changes nothing.
func (c *stsCache) renew(ctx context.Context, from stsSource, domain string, d *stsDomain, now time.Time) {
	within, cancel := context.WithTimeout(ctx, stsPatience)
	defer cancel()
	id, live := from.record(within, domain)
	switch {
	case now.Before(d.retry):
		return
	case d.kept == nil && !live:
		return
	case d.kept != nil && !d.kept.due(now) && (!live || id == d.kept.id):
		return
	}
	text, err := from.fetch(within, domain)
	var p stsPolicy
	if err == nil {
		p, err = parseSTSPolicy(text)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		d.retry = now.Add(stsPause)
		c.log.WarnContext(ctx, "MTA-STS policy not fetched", "domain", domain, "kept", d.kept != nil, "error", err)
		return
	}
	if !live && d.kept != nil {
		id = d.kept.id
	}
	if d.kept == nil || d.kept.text != text {
		c.log.InfoContext(ctx, "MTA-STS policy", "domain", domain, "mode", string(p.mode), "id", id, "max_age", p.maxAge)
	}
	d.kept, d.retry = &stsKept{stsPolicy: p, id: id, fetched: now, text: text}, time.Time{}
	if err := c.files.write(domain, d.kept); err != nil {
		c.log.WarnContext(ctx, "MTA-STS policy not kept for the next start", "domain", domain, "error", err)
	}
}

// domain returns the entry of a domain. There are only so many at a time.
func (c *stsCache) domain(name string) *stsDomain {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.swept {
		c.swept = true
		c.files.sweep(c.now())
	}
	d := c.domains[name]
	if d != nil {
		return d
	}
	for other, idle := range c.domains {
		if len(c.domains) < maxDomains {
			break
		}
		if len(idle.busy) == 0 {
			delete(c.domains, other)
		}
	}
	d = &stsDomain{busy: make(chan struct{}, 1)}
	c.domains[name] = d
	return d
}
