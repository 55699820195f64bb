// Package digest tells recipients what is held for them: a mail a day or a week,
// with links to a page that asks once more before it does anything.
package digest

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// Every is how often a recipient is told.
type Every string

// The words for Every.
const (
	Off    Every = "off"
	Daily  Every = "day"
	Weekly Every = "week"
)

// Validate refuses other words.
func (e Every) Validate() error {
	if e == Off || e == Daily || e == Weekly {
		return nil
	}
	return fmt.Errorf("%q is unknown; write one of off, day, week", string(e))
}

// Config is the section [digest].
type Config struct {
	// Every is how often recipients are told: off (default), day or week. Only
	// those are whose domain is one of ours.
	Every Every `toml:"every"`
	// For has other words for a recipient "user@example.com" or a domain
	// "example.com".
	For map[string]Every `toml:"for"`
	// At is the time of day, in the zone of this host. Default "07:00".
	At string `toml:"at"`
	// Weekday is the day of weekly ones. Default "monday".
	Weekday string `toml:"weekday"`
	// URL is where recipients reach the console's listener:
	// "https://mail.example.com:8443". Without it there are no digests.
	URL string `toml:"url"`
	// From is the address that they come from. Default postmaster@ and the host
	// name.
	From string `toml:"from"`
	// Kinds are those that are told of. Default all but virus; release of what
	// needs an approval is not offered.
	Kinds []mail.HeldKind `toml:"kinds"`
	// MinItems is how many new ones there must be. Default 1.
	MinItems int `toml:"min_items"`
	// MaxItems is how many are listed, the newest; the page has the others.
	// Default 100.
	MaxItems int `toml:"max_items"`
	// LinkAge is how long links work. Default 14d.
	LinkAge time.Duration `toml:"link_age"`
	// Key is the file with the keys that sign links; it is made where there is
	// none. Default: digest.key beside the file of the key state.
	Key string `toml:"key"`

	Hostname string `toml:"-"` // ours
}

// DefaultConfig tells nobody.
func DefaultConfig() Config {
	return Config{
		Every: Off, At: "07:00", Weekday: "monday", MinItems: 1, MaxItems: 100, LinkAge: 14 * 24 * time.Hour,
		Kinds: []mail.HeldKind{mail.HeldAttachment, mail.HeldUnscanned, mail.HeldAmbiguous, mail.HeldDMARC, mail.HeldSpam, mail.HeldRule},
	}
}

// On reports whether anybody is told.
func (c *Config) On() bool {
	for _, e := range c.For {
		if e != Off {
			return true
		}
	}
	return c.Every != Off
}

// Validate names each mistake.
func (c Config) Validate() error {
	var errs []error
	note := func(format string, args ...any) { errs = append(errs, fmt.Errorf("digest: "+format, args...)) }
	if err := c.Every.Validate(); err != nil {
		note("every: %w", err)
	}
	for who, e := range c.For {
		if err := e.Validate(); err != nil {
			note("for.%q: %w", who, err)
		}
		domain := who[strings.LastIndexByte(who, '@')+1:]
		if _, err := mail.ParseDomain(domain); err != nil {
			note("for.%q: is neither an address nor a domain; write user@example.com or example.com", who)
		}
	}
	if _, err := time.Parse("15:04", c.At); err != nil {
		note(`at: %q is no time of day; write one like "07:00"`, c.At)
	}
	if _, ok := weekdays[strings.ToLower(c.Weekday)]; !ok {
		note(`weekday: %q is no day; write one like "monday"`, c.Weekday)
	}
	if c.From != "" {
		if _, err := mail.ParseAddress(c.From, false); err != nil {
			note("from: %w", err)
		}
	}
	for _, k := range c.Kinds {
		if !slices.Contains(mail.HeldKinds(), k) {
			note("kinds: %q is no kind of reason; write virus, attachment, unscanned, ambiguous, dmarc, spam or rule", k)
		}
	}
	if c.MinItems < 1 || c.MaxItems < 1 || c.MaxItems > 1000 {
		note("min_items is at least 1, and max_items 1 to 1000")
	}
	if c.LinkAge < time.Hour || c.LinkAge > 90*24*time.Hour {
		note("link_age: is not between 1h and 90d; write a time like 14d")
	}
	if c.Key != "" && !filepath.IsAbs(c.Key) {
		note("key: %q is no absolute path; write one like /var/lib/gatepost/digest.key", c.Key)
	}
	return errors.Join(append(errs, c.checkURL())...)
}

func (c Config) checkURL() error {
	if c.URL == "" {
		if c.On() {
			return errors.New(`digest: url: missing; write where recipients reach the console, "https://mail.example.com:8443"`)
		}
		return nil
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf(`digest: url: %q is no address of a host; write one like "https://mail.example.com:8443"`, c.URL)
	}
	return nil
}

// of is how often a recipient is told.
func (c *Config) of(rcpt mail.Address) Every {
	whole, domain := strings.ToLower(rcpt.ToASCII().String()), strings.ToLower(rcpt.ASCIIDomain())
	word, best := c.Every, 0
	for who, e := range c.For {
		switch who := strings.ToLower(who); {
		case who == whole:
			return e
		case who == domain && best < 1:
			word, best = e, 1
		}
	}
	return word
}

// sender is the address in From.
func (c *Config) sender() string {
	if c.From != "" {
		return c.From
	}
	return "postmaster@" + c.Hostname
}
