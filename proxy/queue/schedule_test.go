package queue

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	const first, limit = 5 * time.Minute, time.Hour
	tests := []struct {
		name string
		n    int
		want time.Duration
	}{
		{"before any attempt", 0, first},
		{"negative", -7, first},
		{"after the first", 1, first},
		{"after the second", 2, 2 * first},
		{"after the fourth", 4, 8 * first},
		{"first beyond the limit", 5, limit},
		{"sixty-fourth shift", 64, limit},
		{"a million", 1_000_000, limit},
		{"greatest int", math.MaxInt, limit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := backoff(first, limit, tt.n); got != tt.want {
				t.Errorf("backoff(%d) = %v, want %v", tt.n, got, tt.want)
			}
		})
	}
	for n := range 200 {
		if got := backoff(shortestWait, longestWait, n); got < shortestWait || got > longestWait {
			t.Fatalf("backoff(%d) = %v, out of bounds", n, got)
		}
	}
}

func TestJitter(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 3, 4, time.Millisecond, time.Hour, longestWait} {
		seen := make(map[time.Duration]bool)
		for range 100 {
			got := jitter(d)
			if got > d || got < d-d/4 {
				t.Fatalf("jitter(%v) = %v", d, got)
			}
			seen[got] = true
		}
		if d >= time.Millisecond && len(seen) < 50 {
			t.Errorf("jitter(%v) took only %d values of 100", d, len(seen))
		}
	}
}

func TestExpired(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name     string
		maxAge   time.Duration
		age      time.Duration
		attempts int
		want     bool
	}{
		{"young", 5 * day, day, 30, false},
		{"young, often retried by hand", 5 * day, day, 100_000, false},
		{"old", 5 * day, 5 * day, 120, true},
		{"old, in a long line all the time", 5 * day, 5 * day, 1, false},
		{"one attempt only", 0, time.Second, 1, true},
		{"one attempt only, in no time", 0, 0, 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := expired(tt.maxAge, tt.age, tt.attempts); got != tt.want {
				t.Errorf("expired(age %v, %d attempts) = %v, want %v", tt.age, tt.attempts, got, tt.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatalf("defaults: %v", err)
	}
	tests := []struct {
		name   string
		change func(*Config)
		want   string // key in the error
	}{
		{"no first retry", func(c *Config) { c.FirstRetry = 0 }, "first_retry"},
		{"limit below the first", func(c *Config) { c.MaxRetry = time.Second }, "max_retry"},
		{"negative age", func(c *Config) { c.MaxAge = -1 }, "max_age"},
		{"endless age", func(c *Config) { c.BounceMaxAge = math.MaxInt64 }, "bounce_max_age"},
		{"no pause", func(c *Config) { c.FirstPause = 0 }, "first_pause"},
		{"pause limit below the first", func(c *Config) { c.MaxPause = time.Second }, "max_pause"},
		{"no deliveries", func(c *Config) { c.MaxDeliveries = 0 }, "max_deliveries"},
		{"too many deliveries", func(c *Config) { c.MaxDeliveries = 1 << 30 }, "max_deliveries"},
		{"none per destination", func(c *Config) { c.MaxPerDestination = 0 }, "max_per_destination"},
		{"no time for an attempt", func(c *Config) { c.AttemptTimeout = 0 }, "attempt_timeout"},
		{"negative grace", func(c *Config) { c.Grace = -1 }, "grace"},
		{"negative size", func(c *Config) { c.DSNFullSize = -1 }, "dsn_full_size"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := DefaultConfig()
			tt.change(&c)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Validate() = %v, want an error about %s", err, tt.want)
			}
		})
	}
}
