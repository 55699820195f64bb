package rates

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gatepost/filters"
)

// Config of the filter. What is not set has no limit.
type Config struct {
	Client    Limits          `toml:"client"`  // an address
	Network   Limits          `toml:"network"` // an IPv4 /24 or an IPv6 /64
	Sender    MessageLimits   `toml:"sender"`
	Recipient RecipientLimits `toml:"recipient"`
	User      MessageLimits   `toml:"user"` // who has logged in

	// Timeout of all questions at one stage. Default 3s.
	Timeout time.Duration `toml:"timeout"`
	// OnError is what becomes of mail when the store does not answer. Default
	// continue.
	OnError filters.OnError `toml:"on_error"`
}

// Limits of a client or a network.
type Limits struct {
	Connections Rate `toml:"connections"`
	// Concurrent is how many connections may be open at a time. 0: no limit.
	Concurrent int `toml:"concurrent"`
	MessageLimits
}

// MessageLimits are of messages.
type MessageLimits struct {
	Messages   Rate     `toml:"messages"`
	Recipients Rate     `toml:"recipients"`
	Bytes      ByteRate `toml:"bytes"`
}

// RecipientLimits are of one mailbox.
type RecipientLimits struct {
	Messages Rate `toml:"messages"`
}

// Rate is so many in each period, "100/1h": as many at once, and evenly after
// that. The zero Rate is no limit.
type Rate struct {
	Limit  int
	Period time.Duration
}

// ByteRate is a Rate of bytes, "500MB/1d". It is counted in KiB.
type ByteRate struct{ Rate }

// Bounds of what may be written: those of the store.
const (
	maxLimit  = 1 << 20
	maxPeriod = 366 * 24 * time.Hour
)

// UnmarshalText reads "100/1h".
func (r *Rate) UnmarshalText(text []byte) error {
	count, period, ok := strings.Cut(string(text), "/")
	n, err := strconv.Atoi(strings.TrimSpace(count))
	if !ok || err != nil || n < 1 || n > maxLimit {
		return fmt.Errorf(`%q is no rate; write one like "100/1h", up to %d`, text, maxLimit)
	}
	return r.set(n, period, string(text))
}

func (r *Rate) set(n int, period, text string) error {
	d, err := parsePeriod(strings.TrimSpace(period))
	if err != nil {
		return fmt.Errorf(`%q: %w; write a rate like "100/1h" or "1000/1d"`, text, err)
	}
	*r = Rate{n, d}
	return nil
}

// UnmarshalText reads "500MB/1d".
func (r *ByteRate) UnmarshalText(text []byte) error {
	size, period, ok := strings.Cut(string(text), "/")
	n, err := parseBytes(strings.TrimSpace(size))
	kib := n >> 10
	if !ok || err != nil || kib < 1 || kib > maxLimit {
		return fmt.Errorf(`%q is no rate of bytes; write one like "500MB/1d", from 1KiB up to 1GiB`, text)
	}
	return r.set(int(kib), period, string(text))
}

// parsePeriod reads a time with days.
func parsePeriod(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(min(n, 1000)) * 24 * time.Hour
	}
	if err != nil || d < time.Second || d > maxPeriod {
		return 0, errors.New("the period is not from 1s to 366d")
	}
	return d, nil
}

func parseBytes(s string) (int64, error) {
	for _, u := range []struct {
		name string
		size int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1000}, {"MB", 1000 * 1000}, {"GB", 1000 * 1000 * 1000}} {
		if count, ok := strings.CutSuffix(s, u.name); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(count), 10, 32)
			return n * u.size, err
		}
	}
	return 0, errors.New("no unit")
}

// DefaultConfig is used for keys that are not in the configuration. It has no
// limits.
func DefaultConfig() Config {
	return Config{Timeout: 3 * time.Second, OnError: filters.Continue}
}

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.OnError != filters.Continue && c.OnError != filters.TempFail {
		errs = append(errs, fmt.Errorf("on_error: %q; want continue or tempfail", string(c.OnError)))
	}
	if c.Timeout <= 0 || c.Timeout > time.Minute {
		errs = append(errs, fmt.Errorf("timeout: %v; want more than 0, and up to 1m", c.Timeout))
	}
	for _, l := range []struct {
		key string
		n   int
	}{{"client", c.Client.Concurrent}, {"network", c.Network.Concurrent}} {
		if l.n < 0 || l.n > maxLimit {
			errs = append(errs, fmt.Errorf("%s.concurrent: %d; want 0 to %d", l.key, l.n, maxLimit))
		}
	}
	return errors.Join(errs...)
}
