package queue

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// Grouper is what a Deliverer may be as well: it names the group of routes that
// a destination belongs to ("local", "internal", "remote", …). A destination
// without one has the settings of [queue].
type Grouper interface {
	Group(dest string) string
}

// Group is what differs for one group of routes; zero means as in [queue].
type Group struct {
	// MaxDeliveries is how many deliveries to the destinations of the group run
	// at a time; 0 means as many as in total.
	MaxDeliveries int `toml:"max_deliveries"`
	// MaxPerDestination is how many of them go to one destination.
	MaxPerDestination int `toml:"max_per_destination"`
	// FirstRetry is the time from the first attempt to the second one.
	FirstRetry time.Duration `toml:"first_retry"`
	// MaxRetry is the longest time between two attempts.
	MaxRetry time.Duration `toml:"max_retry"`
	// SlowRetry is the time between two attempts in the slow lane.
	SlowRetry time.Duration `toml:"slow_retry"`
	// MaxAge is how long a message is tried before it goes back to its sender.
	MaxAge time.Duration `toml:"max_age"`
	// BounceMaxAge is the same for our own notifications.
	BounceMaxAge time.Duration `toml:"bounce_max_age"`
	// SlowAfter is the age at which a message moves to the slow lane. The group
	// "local" has no such age unless it is set there: what waits for a host of
	// our own is not in the way of others.
	SlowAfter time.Duration `toml:"slow_after"`
	// BounceSlowAfter is the same for our own notifications.
	BounceSlowAfter time.Duration `toml:"bounce_slow_after"`
}

// localGroup is the one whose mail stays in its lane.
const localGroup = "local"

const never = time.Duration(math.MaxInt64)

// group returns the settings of a group with nothing left at zero.
func (c Config) group(name string) Group {
	g := c.Groups[name]
	slowAfter := c.SlowAfter
	if name == localGroup {
		slowAfter = never
	}
	return Group{
		MaxDeliveries:     cmp.Or(g.MaxDeliveries, c.MaxDeliveries),
		MaxPerDestination: cmp.Or(g.MaxPerDestination, c.MaxPerDestination),
		FirstRetry:        cmp.Or(g.FirstRetry, c.FirstRetry),
		MaxRetry:          cmp.Or(g.MaxRetry, c.MaxRetry),
		SlowRetry:         cmp.Or(g.SlowRetry, c.SlowRetry),
		MaxAge:            cmp.Or(g.MaxAge, c.MaxAge),
		BounceMaxAge:      cmp.Or(g.BounceMaxAge, c.BounceMaxAge),
		SlowAfter:         cmp.Or(g.SlowAfter, slowAfter),
		BounceSlowAfter:   cmp.Or(g.BounceSlowAfter, c.BounceSlowAfter),
	}
}

// validateGroups names every value of a group that makes no sense. Its errors
// begin with the key.
func (c Config) validateGroups() error {
	if len(c.validateSchedule()) > 0 {
		return nil // said already
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Groups)) {
		given := c.Groups[name]
		if given.MaxDeliveries < 0 || given.MaxDeliveries > c.MaxDeliveries {
			errs = append(errs, fmt.Errorf("group.%s.max_deliveries: %d is not between 1 and those in total, %d", name, given.MaxDeliveries, c.MaxDeliveries))
		}
		as := c
		g := c.group(name)
		as.MaxPerDestination, as.FirstRetry, as.MaxRetry, as.SlowRetry = g.MaxPerDestination, g.FirstRetry, g.MaxRetry, g.SlowRetry
		as.MaxAge, as.BounceMaxAge, as.BounceSlowAfter = g.MaxAge, g.BounceMaxAge, g.BounceSlowAfter
		if g.SlowAfter != never {
			as.SlowAfter = g.SlowAfter
		}
		for _, err := range as.validateSchedule() {
			errs = append(errs, fmt.Errorf("group.%s.%w", name, err))
		}
	}
	return errors.Join(errs...)
}

// terms are the settings that a message goes by: those of the groups that its
// unfinished recipients belong to. Of different ones it has the shortest waits
// and the longest ages.
type terms struct {
	first, most time.Duration // waits between attempts
	slow        time.Duration // the wait in the slow lane
	maxAge      time.Duration
	slowAfter   time.Duration
}

func (g Group) terms(dsn bool) terms {
	t := terms{g.FirstRetry, g.MaxRetry, g.SlowRetry, g.MaxAge, g.SlowAfter}
	if dsn {
		t.maxAge, t.slowAfter = g.BounceMaxAge, g.BounceSlowAfter
	}
	return t
}

func (t terms) and(o terms) terms {
	return terms{
		min(t.first, o.first), min(t.most, o.most), min(t.slow, o.slow),
		max(t.maxAge, o.maxAge), max(t.slowAfter, o.slowAfter),
	}
}

// termsOf returns the terms of a message.
func (q *Queue) termsOf(m *spool.Message) terms {
	cfg, dsn := q.config(), m.Origin == spool.FromDSN
	var all terms
	var names []string
	for i, r := range m.Recipients {
		if r.Status != mail.Deferred {
			continue
		}
		dest, ok := q.route(m, m.Envelope.Recipients[i].Address)
		name := q.groupName(dest)
		if !ok || slices.Contains(names, name) {
			continue
		}
		t := cfg.group(name).terms(dsn)
		if len(names) > 0 {
			t = t.and(all)
		}
		names, all = append(names, name), t
	}
	if len(names) == 0 {
		return cfg.group("").terms(dsn)
	}
	return all
}

func (q *Queue) groupName(dest string) string {
	if g, ok := q.deliverer.(Grouper); ok {
		return g.Group(dest)
	}
	return ""
}
