// Package quarantine keeps what is held from staying for ever, and knows the
// senders that recipients allow and block for themselves.
package quarantine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"gatepost/internal/mail"
)

// Config is the section [quarantine]. What an operator holds by hand, and what
// waits for a filter, is not part of it.
type Config struct {
	// MaxAge is how long messages are kept. Default 30d.
	MaxAge time.Duration `toml:"max_age"`
	// MaxSize is how large they may be together; the oldest go first. 0: there
	// is no limit. Default 10GB.
	MaxSize int64 `toml:"max_size,size"`
	// Kind has other limits for one kind of reason: [quarantine.kind.virus].
	Kind map[mail.HeldKind]Limits `toml:"kind"`
	// ListAge is how long a sender stays allowed or blocked whom somebody put
	// on the list of a recipient. Default 365d.
	ListAge time.Duration `toml:"list_age"`
}

// Limits are those of one kind of reason.
type Limits struct {
	// MaxAge is how long such messages are kept. Default for virus 7d, for the
	// others that of all.
	MaxAge time.Duration `toml:"max_age"`
	// MaxSize is how large they may be together. 0 (default): no limit but that
	// of all.
	MaxSize int64 `toml:"max_size,size"`
}

// virusAge is how long a virus is kept where nothing else is said.
const virusAge = 7 * 24 * time.Hour

// DefaultConfig keeps messages for 30 days, viruses for 7.
func DefaultConfig() Config {
	return Config{MaxAge: 30 * 24 * time.Hour, MaxSize: 10_000_000_000, ListAge: 365 * 24 * time.Hour}
}

// Validate names each mistake.
func (c Config) Validate() error {
	var errs []error
	for key, d := range map[string]time.Duration{"max_age": c.MaxAge, "list_age": c.ListAge} {
		if d < time.Minute {
			errs = append(errs, fmt.Errorf("quarantine: %s: is below a minute; write a time like 30d", key))
		}
	}
	if c.MaxSize < 0 {
		errs = append(errs, errors.New("quarantine: max_size: is negative; write a size like 10GB, or 0 for no limit"))
	}
	for kind, l := range c.Kind {
		where := fmt.Sprintf("quarantine: kind.%s", kind)
		switch {
		case !slices.Contains(kinds(), kind):
			errs = append(errs, fmt.Errorf("%s: is no kind of reason; write virus, attachment, unscanned, ambiguous, dmarc, spam or rule", where))
		case l.MaxAge != 0 && l.MaxAge < time.Minute:
			errs = append(errs, fmt.Errorf("%s.max_age: is below a minute; write a time like 7d", where))
		case l.MaxSize < 0:
			errs = append(errs, fmt.Errorf("%s.max_size: is negative; write a size like 1GB", where))
		}
	}
	return errors.Join(errs...)
}

// kinds are those that are kept for a time only.
func kinds() []mail.HeldKind {
	return slices.DeleteFunc(mail.HeldKinds(), func(k mail.HeldKind) bool { return k == mail.HeldHand })
}

// limits are those of a kind, the one of all included.
func (c *Config) limits(k mail.HeldKind) Limits {
	l := c.Kind[k]
	switch {
	case l.MaxAge > 0:
	case k == mail.HeldVirus:
		l.MaxAge = min(virusAge, c.MaxAge)
	default:
		l.MaxAge = c.MaxAge
	}
	return l
}
