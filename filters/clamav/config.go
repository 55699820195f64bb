package clamav

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gatepost/filters"
	"gatepost/internal/mime"
)

// Config of the filter.
type Config struct {
	// Address lists clamds, tried in this order: "unix:/path", "tcp:host:port".
	// Default: unix:/run/clamav/clamd.ctl, where Debian puts it.
	Address []string `toml:"address"`
	// Timeout of one scan, all addresses included. Default 60s.
	Timeout time.Duration `toml:"timeout"`
	// OnError is what becomes of mail that could not be scanned. Default
	// tempfail.
	OnError filters.OnError `toml:"on_error"`
	// MaxSize is the size of the largest message that clamd looks into; give
	// it the smallest of clamd's StreamMaxLength, MaxFileSize and MaxScanSize.
	// Larger mail is reported as not scanned. Default 100MB, as theirs.
	MaxSize int64 `toml:"max_size,size"`
	// MaxConcurrent is how many scans run at a time. Default 10, clamd's
	// MaxThreads.
	MaxConcurrent int `toml:"max_concurrent"`
	// MaxAge is how old the signatures may be before that is told, in the log,
	// by status and with each message; nothing is refused for it. Default 7d.
	MaxAge time.Duration `toml:"max_age"`

	// What clamd finds that is no infection, by its class. Each is taken for a
	// "virus", "suspicious" (a finding for rules, without a score),
	// "not-scanned", or a "score 5".

	// Phishing are its heuristics about links and senders
	// (Heuristics.Phishing). Default virus.
	Phishing Class `toml:"phishing"`
	// PUA are possibly unwanted applications (PUA.). Default suspicious.
	PUA Class `toml:"pua"`
	// Macros are office documents that may run code
	// (Heuristics.OLE2.ContainsMacros). Default suspicious.
	Macros Class `toml:"macros"`
	// Structured are card and social security numbers
	// (Heuristics.Structured). Default suspicious.
	Structured Class `toml:"structured"`
	// Broken are damaged executables (Heuristics.Broken). Default suspicious.
	Broken Class `toml:"broken"`
	// Encrypted is what can't be looked into. Default not-scanned.
	Encrypted Class `toml:"encrypted"`

	// Inside has the limits of taking messages apart.
	Inside mime.Config `toml:"-"`
	// Name is that of the section, for Stats and Log.
	Name  string       `toml:"-"`
	Stats Stats        `toml:"-"` // nil: nobody counts
	Log   *slog.Logger `toml:"-"` // nil: nobody listens
}

// Stats hears what clamd's version is, and when its signatures were made; zero:
// it doesn't say.
type Stats interface {
	Signatures(filter, version string, made time.Time)
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{
		Address:       []string{"unix:/run/clamav/clamd.ctl"},
		Timeout:       time.Minute,
		OnError:       filters.TempFail,
		MaxSize:       100 << 20,
		MaxConcurrent: 10,
		MaxAge:        7 * 24 * time.Hour,
		Phishing:      classVirus,
		PUA:           classSuspicious,
		Macros:        classSuspicious,
		Structured:    classSuspicious,
		Broken:        classSuspicious,
		Encrypted:     classNotScanned,
		Inside:        mime.DefaultConfig(),
		Name:          name,
	}
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	def := DefaultConfig()
	if len(c.Address) == 0 {
		c.Address = def.Address
	}
	c.Timeout, c.MaxSize = cmp.Or(c.Timeout, def.Timeout), cmp.Or(c.MaxSize, def.MaxSize)
	c.MaxConcurrent, c.MaxAge = cmp.Or(c.MaxConcurrent, def.MaxConcurrent), cmp.Or(c.MaxAge, def.MaxAge)
	c.Phishing, c.PUA, c.Macros = cmp.Or(c.Phishing, def.Phishing), cmp.Or(c.PUA, def.PUA), cmp.Or(c.Macros, def.Macros)
	c.Structured, c.Broken, c.Encrypted = cmp.Or(c.Structured, def.Structured), cmp.Or(c.Broken, def.Broken), cmp.Or(c.Encrypted, def.Encrypted)
	c.Inside, c.Name = cmp.Or(c.Inside, def.Inside), cmp.Or(c.Name, def.Name)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	errs := []error{c.OnError.Validate()}
	for _, n := range []struct {
		key string
		bad bool
	}{{"timeout", c.Timeout < 0}, {"max_size", c.MaxSize < 0}, {"max_concurrent", c.MaxConcurrent < 0}, {"max_age", c.MaxAge < 0}} {
		if n.bad {
			errs = append(errs, fmt.Errorf("%s: is negative", n.key))
		}
	}
	for _, k := range []struct {
		key   string
		class Class
	}{{"phishing", c.Phishing}, {"pua", c.PUA}, {"macros", c.Macros}, {"structured", c.Structured}, {"broken", c.Broken}, {"encrypted", c.Encrypted}} {
		if _, _, err := k.class.finding(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.key, err))
		}
	}
	return errors.Join(errs...)
}
