package spamassassin

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"gatepost/filters"
)

// Config of the filter.
type Config struct {
	// Address lists spamds, tried in this order: "unix:/path",
	// "tcp:host:port", "tls:host:port". Default tcp:127.0.0.1:783.
	Address []string `toml:"address"`
	// Timeout of one judgement, all addresses included. Default 60s.
	Timeout time.Duration `toml:"timeout"`
	// OnError is what becomes of mail that could not be judged. Default
	// tempfail.
	OnError filters.OnError `toml:"on_error"`
	// MaxSize is how much of a message is judged (see Oversize). Default 500kB,
	// as spamc's.
	MaxSize int64 `toml:"max_size,size"`
	// MaxConcurrent is how many judgements run at a time. Default 5, spamd's
	// --max-children: what waits inside spamd only takes longer.
	MaxConcurrent int `toml:"max_concurrent"`
	// User is whose preferences spamd uses: "recipient" (the whole address),
	// "local-part" (without a +detail), "domain" (both of the recipient), or a
	// name. Default "": those of spamd's own user.
	User string `toml:"user"`
	// DefaultUser is used where the words above name no one user: for several
	// recipients who differ, and for an address that can't be a user's name.
	// Default "": spamd's own.
	DefaultUser string `toml:"default_user"`
	// PerRecipient says what is asked about recipients who differ: "one"
	// question, as DefaultUser (default), or one for each of "all" users.
	PerRecipient PerRecipient `toml:"per_recipient"`
	// MaxUsers is how many users are asked for with per_recipient = "all"; the
	// others share one question, as DefaultUser. Default 10.
	MaxUsers int `toml:"max_users"`
	// Oversize says what is done above max_size: "partial" judges the beginning
	// (default), "skip" nothing.
	Oversize Oversize `toml:"oversize"`

	// Hostname is ours, for the Received field that spamd wants to see.
	Hostname string `toml:"-"`
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{
		Address:       []string{"tcp:127.0.0.1:783"},
		Timeout:       time.Minute,
		OnError:       filters.TempFail,
		MaxSize:       500 << 10,
		MaxConcurrent: 5,
		PerRecipient:  One,
		MaxUsers:      10,
		Oversize:      Partial,
	}
}

// PerRecipient says what is asked about recipients with other preferences.
type PerRecipient string

// The words for PerRecipient.
const (
	One PerRecipient = "one"
	All PerRecipient = "all"
)

// Oversize says what is done about large mail.
type Oversize string

// The words for Oversize.
const (
	Partial Oversize = "partial"
	Skip    Oversize = "skip"
)

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	def := DefaultConfig()
	if len(c.Address) == 0 {
		c.Address = def.Address
	}
	c.Timeout, c.MaxSize = cmp.Or(c.Timeout, def.Timeout), cmp.Or(c.MaxSize, def.MaxSize)
	c.MaxConcurrent, c.MaxUsers = cmp.Or(c.MaxConcurrent, def.MaxConcurrent), cmp.Or(c.MaxUsers, def.MaxUsers)
	c.PerRecipient, c.Oversize = cmp.Or(c.PerRecipient, def.PerRecipient), cmp.Or(c.Oversize, def.Oversize)
	return c
}

// maxUsers bounds what one message costs.
const maxUsers = 100

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	errs := []error{c.OnError.Validate()}
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(c.Timeout < 0, "timeout: is negative")
	wrong(c.MaxSize < 0, "max_size: is negative")
	wrong(c.MaxConcurrent < 0, "max_concurrent: is negative")
	wrong(c.MaxUsers < 0 || c.MaxUsers > maxUsers, "max_users: is not between 1 and %d", maxUsers)
	wrong(c.PerRecipient != One && c.PerRecipient != All, "per_recipient: %q is not one of one, all", string(c.PerRecipient))
	wrong(c.Oversize != Partial && c.Oversize != Skip, "oversize: %q is not one of partial, skip", string(c.Oversize))
	const write = "write up to 64 of a-z, 0-9, dot, hyphen, underscore"
	wrong(c.User != "" && !goodUser.MatchString(c.User), "user: %q is no user name; %s", c.User, write)
	wrong(c.DefaultUser != "" && !goodUser.MatchString(c.DefaultUser), "default_user: %q is no user name; %s", c.DefaultUser, write)
	wrong(c.PerRecipient == All && !c.byRecipient(), "per_recipient: asks for each recipient what user calls the same for all; write user = \"recipient\", \"local-part\" or \"domain\"")
	return errors.Join(errs...)
}

func (c Config) byRecipient() bool {
	return c.User == userRecipient || c.User == userLocal || c.User == userDomain
}
