package greylist

import (
	"errors"
	"fmt"
	"time"

	"gatepost/filters"
)

// Config of the filter.
type Config struct {
	// Form is what a delivery is known by: triple (the default) or network.
	Form Form `toml:"form"`
	// Delay is how long the first try is put off. Default 5m.
	Delay time.Duration `toml:"delay"`
	// Window is until when it must come again, from the first try. Default 12h.
	Window time.Duration `toml:"window"`
	// Keep is how long one that did is known after each use. Default 36d, so
	// that what comes once a month is known.
	Keep time.Duration `toml:"keep"`
	// AutoAllow is after how many triples that came again the whole network is
	// known. Default 5; 0 is never.
	AutoAllow int `toml:"auto_allow"`
	// NetworkV4 and NetworkV6 are how many bits of a client's address count:
	// large senders come again from a neighbour. Default 24 and 64.
	NetworkV4 int `toml:"network_v4"`
	NetworkV6 int `toml:"network_v6"`

	// Exceptions. "file:/path" is a list of the same, one a line, with # comments.

	// Networks are clients: "192.0.2.0/24", "2001:db8::1".
	Networks []string `toml:"networks"`
	// Clients are verified names of clients: "mail.example.com", ".example.com"
	// for all below it.
	Clients []string `toml:"clients"`
	// Senders and Recipients are "user@example.com", "example.com",
	// ".example.com". Anybody can claim a sender.
	Senders []string `toml:"senders"`
	// SPF are domains of senders, written as those, that count only where their
	// SPF record names the client (RFC 7208): nobody can claim those.
	SPF        []string `toml:"spf"`
	Recipients []string `toml:"recipients"`

	// Timeout of one question to the store. Default 3s.
	Timeout time.Duration `toml:"timeout"`
	// OnError is what becomes of mail when the store does not answer. Default
	// continue.
	OnError filters.OnError `toml:"on_error"`
}

// Form is what a delivery is known by.
type Form string

// The forms.
const (
	ByTriple  Form = "triple"
	ByNetwork Form = "network"
)

// Validate refuses unknown words.
func (f Form) Validate() error {
	switch f {
	case ByTriple, ByNetwork:
		return nil
	}
	return fmt.Errorf("form: %q is not one of triple, network", string(f))
}

const day = 24 * time.Hour

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{
		Form: ByTriple, Delay: 5 * time.Minute, Window: 12 * time.Hour, Keep: 36 * day, AutoAllow: 5, NetworkV4: 24, NetworkV6: 64,
		Timeout: 3 * time.Second, OnError: filters.Continue,
	}
}

// Validate reports all that is wrong with c but for the files that it names.
func (c Config) Validate() error {
	_, err := c.exceptions(nil)
	return errors.Join(c.check(), err)
}

func (c Config) check() error {
	errs := []error{c.Form.Validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.OnError != filters.Continue && c.OnError != filters.TempFail {
		bad("on_error: %q; want continue or tempfail", string(c.OnError))
	}
	if c.Delay < time.Second || c.Delay > day {
		bad("delay: %v; want 1s to 1d", c.Delay)
	}
	if c.Window <= c.Delay || c.Window > 30*day {
		bad("window: %v; want more than delay, up to 30d: the client must have time to come again", c.Window)
	}
	if c.Keep < c.Window || c.Keep > 366*day {
		bad("keep: %v; want window or more, up to 366d", c.Keep)
	}
	if c.NetworkV4 < 8 || c.NetworkV4 > 32 {
		bad("network_v4: %d; want 8 to 32", c.NetworkV4)
	}
	if c.NetworkV6 < 32 || c.NetworkV6 > 128 {
		bad("network_v6: %d; want 32 to 128", c.NetworkV6)
	}
	if c.Timeout <= 0 || c.Timeout > time.Minute {
		bad("timeout: %v; want more than 0, and up to 1m", c.Timeout)
	}
	if c.AutoAllow < 0 {
		bad("auto_allow: %d; want 0 or more", c.AutoAllow)
	}
	return errors.Join(errs...)
}
