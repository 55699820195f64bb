package blocklist

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"gatepost/filters"
)

// Config of the filter. A count of 0 leaves that out.
type Config struct {
	// Viruses, Spam and UnknownUsers are how many of them within Window block a
	// client: messages with a virus, messages that were refused or held for
	// their score, recipients that don't exist. Default 3, 10 and 20.
	Viruses      int `toml:"viruses"`
	Spam         int `toml:"spam"`
	UnknownUsers int `toml:"unknown_users"`
	// Window is the time in which they count. Default 1h.
	Window time.Duration `toml:"window"`
	// BlockFor is for how long a client is blocked. Default 1h.
	BlockFor time.Duration `toml:"block_for"`
	// Never are clients that are not blocked.
	Never []netip.Prefix `toml:"never"`

	// Timeout of one question to the store. Default 3s.
	Timeout time.Duration `toml:"timeout"`
	// OnError is what becomes of mail when the store does not answer. Default
	// continue.
	OnError filters.OnError `toml:"on_error"`
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{
		Viruses: 3, Spam: 10, UnknownUsers: 20, Window: time.Hour, BlockFor: time.Hour,
		Timeout: 3 * time.Second, OnError: filters.Continue,
	}
}

const longest = 30 * 24 * time.Hour

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.OnError != filters.Continue && c.OnError != filters.TempFail {
		bad("on_error: %q; want continue or tempfail", string(c.OnError))
	}
	for _, n := range []struct {
		key string
		n   int
	}{{"viruses", c.Viruses}, {"spam", c.Spam}, {"unknown_users", c.UnknownUsers}} {
		if n.n < 0 {
			bad("%s: %d; want 0 or more", n.key, n.n)
		}
	}
	for _, d := range []struct {
		key string
		d   time.Duration
	}{{"window", c.Window}, {"block_for", c.BlockFor}} {
		if d.d < time.Second || d.d > longest {
			bad("%s: %v; want 1s to 30d", d.key, d.d)
		}
	}
	if c.Timeout <= 0 || c.Timeout > time.Minute {
		bad("timeout: %v; want more than 0, and up to 1m", c.Timeout)
	}
	return errors.Join(errs...)
}
