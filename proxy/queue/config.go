package queue

import (
	"errors"
	"fmt"
	"time"

	"gatepost/internal/mail"
)

// Config says when and how often a message is tried.
type Config struct {
	// FirstRetry is the time from the first attempt to the second one; it
	// doubles from attempt to attempt. Default 5m.
	FirstRetry time.Duration `toml:"first_retry"`
	// MaxRetry is the longest time between two attempts. Default 1h.
	MaxRetry time.Duration `toml:"max_retry"`
	// MaxAge is how long a message is tried before it goes back to its sender;
	// 0 means one attempt. Default 120h (5 days).
	MaxAge time.Duration `toml:"max_age"`
	// BounceMaxAge is the same for our own notifications, which are dropped
	// then. Default 24h.
	BounceMaxAge time.Duration `toml:"bounce_max_age"`
	// SlowAfter is the age at which a message that was tried moves to the slow
	// lane, where it is never in the way of others. Default 24h.
	SlowAfter time.Duration `toml:"slow_after"`
	// BounceSlowAfter is the same for our own notifications: most of those that
	// wait are answers to forged senders. Default 4h.
	BounceSlowAfter time.Duration `toml:"bounce_slow_after"`
	// SlowRetry is the time between two attempts in the slow lane. Default 4h.
	SlowRetry time.Duration `toml:"slow_retry"`
	// MaxDeliveries is how many deliveries run at a time. Default 100.
	MaxDeliveries int `toml:"max_deliveries"`
	// MaxPerDestination is how many of them go to one destination; no
	// destination gets more than half of those that are free. Default 20.
	MaxPerDestination int `toml:"max_per_destination"`
	// SlowMaxDeliveries is how many of them are of the slow lane. Default 10.
	SlowMaxDeliveries int `toml:"slow_max_deliveries"`
	// FirstPause is how long a destination that can't be reached is left
	// alone; then one message probes it. It doubles from probe to probe.
	// Default 15s.
	FirstPause time.Duration `toml:"first_pause"`
	// MaxPause is the longest time between two probes. Default 5m.
	MaxPause time.Duration `toml:"max_pause"`
	// AttemptTimeout ends a delivery, however slow it goes on. Default 1h.
	AttemptTimeout time.Duration `toml:"attempt_timeout"`
	// Grace is how long running deliveries may go on at shutdown. Default 30s.
	Grace time.Duration `toml:"grace"`
	// DSNFullSize is the size up to which an undeliverable message is returned
	// whole; of a larger one its header. Default 50kB.
	DSNFullSize int64 `toml:"dsn_full_size,size"`
	// DSNMaxScore is the spam score from which on a message is not worth a
	// notification: its sender is forged. 0 means no limit. Default 5.0.
	DSNMaxScore float64 `toml:"dsn_max_score"`
	// DSNCopyTo is an address that gets a copy of every notification that mail
	// could not be delivered. "", the default, is nobody.
	DSNCopyTo string `toml:"dsn_copy_to"`
	// DelayWarning is after what time a sender is told that a message is late
	// and still tried: our own users (authenticated, or from relay.networks),
	// and others only where they asked with NOTIFY=DELAY. 0 means never.
	// Default 4h.
	DelayWarning time.Duration `toml:"delay_warning"`
	// UnscannedMaxAge is how long a message waits for a filter that is to
	// judge it (on_error = "hold"). Then a sender of ours (authenticated, or
	// from relay.networks) is told; what strangers sent stays held. Default
	// 120h (5 days).
	UnscannedMaxAge time.Duration `toml:"unscanned_max_age"`
	// Groups are the settings of the groups of routes, by their names:
	// [queue.group.remote].
	Groups map[string]Group `toml:"group"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		FirstRetry:        5 * time.Minute,
		MaxRetry:          time.Hour,
		MaxAge:            5 * 24 * time.Hour,
		BounceMaxAge:      24 * time.Hour,
		SlowAfter:         24 * time.Hour,
		BounceSlowAfter:   4 * time.Hour,
		SlowRetry:         4 * time.Hour,
		MaxDeliveries:     100,
		MaxPerDestination: 20,
		SlowMaxDeliveries: 10,
		FirstPause:        15 * time.Second,
		MaxPause:          5 * time.Minute,
		AttemptTimeout:    time.Hour,
		Grace:             30 * time.Second,
		DSNFullSize:       50_000,
		DSNMaxScore:       5,
		DelayWarning:      4 * time.Hour,
		UnscannedMaxAge:   5 * 24 * time.Hour,
	}
}

// Bounds that keep the arithmetic of times far from its ends.
const (
	shortestWait = time.Millisecond
	longestWait  = 30 * 24 * time.Hour
	longestAge   = 365 * 24 * time.Hour
	mostWorkers  = 10_000
)

// between adds an error where d is outside its bounds.
func between(errs []error, key string, d, low, high time.Duration) []error {
	if d < low || d > high {
		return append(errs, fmt.Errorf("%s: %v is not between %v and %v", key, d, low, high))
	}
	return errs
}

// Validate names every value that makes no sense.
func (c Config) Validate() error {
	errs := c.validateSchedule()
	errs = between(errs, "first_pause", c.FirstPause, shortestWait, longestWait)
	errs = between(errs, "max_pause", c.MaxPause, c.FirstPause, longestWait)
	errs = between(errs, "attempt_timeout", c.AttemptTimeout, time.Second, longestWait)
	errs = between(errs, "grace", c.Grace, 0, time.Hour)
	errs = between(errs, "delay_warning", c.DelayWarning, 0, longestAge)
	errs = between(errs, "unscanned_max_age", c.UnscannedMaxAge, time.Second, longestAge)
	if c.MaxDeliveries < 1 || c.MaxDeliveries > mostWorkers {
		errs = append(errs, fmt.Errorf("max_deliveries: %d is not between 1 and %d", c.MaxDeliveries, mostWorkers))
	}
	if c.SlowMaxDeliveries < 1 {
		errs = append(errs, fmt.Errorf("slow_max_deliveries: %d is less than 1", c.SlowMaxDeliveries))
	}
	if c.DSNCopyTo != "" {
		if _, ok := c.copyTo(); !ok {
			errs = append(errs, fmt.Errorf("dsn_copy_to: %q is no address", c.DSNCopyTo))
		}
	}
	if c.DSNFullSize < 0 {
		errs = append(errs, fmt.Errorf("dsn_full_size: %d is negative", c.DSNFullSize))
	}
	return errors.Join(append(errs, c.validateGroups())...)
}

// validateSchedule checks what a group may have of its own.
func (c Config) validateSchedule() (errs []error) {
	errs = between(errs, "first_retry", c.FirstRetry, shortestWait, longestWait)
	errs = between(errs, "max_retry", c.MaxRetry, c.FirstRetry, longestWait)
	errs = between(errs, "slow_retry", c.SlowRetry, shortestWait, longestWait)
	errs = between(errs, "max_age", c.MaxAge, 0, longestAge)
	errs = between(errs, "bounce_max_age", c.BounceMaxAge, 0, longestAge)
	errs = between(errs, "slow_after", c.SlowAfter, shortestWait, longestAge)
	errs = between(errs, "bounce_slow_after", c.BounceSlowAfter, shortestWait, longestAge)
	if c.MaxPerDestination < 1 {
		errs = append(errs, fmt.Errorf("max_per_destination: %d is less than 1", c.MaxPerDestination))
	}
	return errs
}

// copyTo is DSNCopyTo, where there is one.
func (c Config) copyTo() (a mail.Address, ok bool) {
	a, err := mail.ParseAddress(c.DSNCopyTo, true)
	return a, err == nil && !a.IsNull()
}
