package recipients

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// Config is [recipients], with the two that belong to it: [relay] recipients and
// [ldap.NAME].
type Config struct {
	// Of names the sources of a domain: "example.com", ".example.com" for all
	// below it, "." or "*" for all others that are ours. A source is
	// "file:/path", "virtusertable:/path", "aliases:/path", "ldap:NAME" ("ldap"
	// where there is one only), "callout" or "any". A domain that is not here is
	// as if it had "any".
	Of map[string][]string `toml:"-"`
	// LDAP are the directories, by name.
	LDAP map[string]LDAP `toml:"-"`

	// Milters are the entries [milter.NAME] where recipients are looked at, too;
	// none by default: an MTA knows its users.
	Milters []string `toml:"milters"`
	// Delimiter is what separates a detail from the name before it: where lists
	// and directories do not know "user+detail", they are asked for "user".
	// Default "+"; "" is none.
	Delimiter string `toml:"delimiter"`
	// CacheSize is how many answers of directories and next hops are kept, each
	// some 200 bytes. Default 100000.
	CacheSize int `toml:"cache_size"`
	// KnownFor and UnknownFor are how long these answers are good. Default 1h
	// and 10m.
	KnownFor   time.Duration `toml:"known_for"`
	UnknownFor time.Duration `toml:"unknown_for"`
	// StaleFor is how long one that somebody is known serves while its source
	// can't tell. Default 24h.
	StaleFor time.Duration `toml:"stale_for"`

	Callout Callout `toml:"callout"`
	Harvest Harvest `toml:"harvest"`
}

// Callout is [recipients.callout]: how the next hop is asked.
type Callout struct {
	// OnError is what it means that it can't tell. Default tempfail.
	OnError OnError `toml:"on_error"`
	// CatchAll is what becomes of a recipient when it takes every name, and no
	// other source knows better: accept (default) or tempfail.
	CatchAll OnError `toml:"catch_all"`
	// Timeout is for one answer, all hosts of a route together. Default 20s:
	// Exchange takes 5s for each no.
	Timeout time.Duration `toml:"timeout"`
	// MaxConcurrent is how many questions are under way. Default 20.
	MaxConcurrent int `toml:"max_concurrent"`
	// MaxPause is how long a domain is left alone at most after its next hop
	// could not be asked. Default 1m; the first pause is 2s, and each is double.
	MaxPause time.Duration `toml:"max_pause"`
}

// DefaultConfig knows no source.
func DefaultConfig() Config {
	return Config{
		Delimiter: "+", CacheSize: 100_000, KnownFor: time.Hour, UnknownFor: 10 * time.Minute, StaleFor: 24 * time.Hour,
		Callout: Callout{OnError: TempFail, CatchAll: Accept, Timeout: 20 * time.Second, MaxConcurrent: 20, MaxPause: time.Minute},
		Harvest: DefaultHarvest(),
	}
}

const (
	longestTimeout = 2 * time.Minute // the client waits, too
	longestMemory  = 30 * 24 * time.Hour
)

// Validate checks all that can be checked without a file. Problems of
// [relay] recipients begin with "recipients.", those of a directory with
// "ldap.NAME.".
func (c Config) Validate() error {
	errs := []error{
		between("known_for", c.KnownFor, time.Second, longestMemory),
		between("unknown_for", c.UnknownFor, time.Second, longestMemory),
		between("stale_for", c.StaleFor, 0, longestMemory),
		prefixed("callout", c.Callout.validate()),
		prefixed("harvest", c.Harvest.validate()),
	}
	if c.CacheSize < 1 || c.CacheSize > 10_000_000 {
		errs = append(errs, fmt.Errorf("cache_size: %d is not between 1 and 10000000", c.CacheSize))
	}
	if len(c.Delimiter) > 1 || strings.ContainsAny(c.Delimiter, "@ .\"\\") || c.Delimiter != mail.CleanText(c.Delimiter) {
		errs = append(errs, fmt.Errorf("delimiter: %q is not a single sign like +", c.Delimiter))
	}
	return errors.Join(errs...)
}

func (c Callout) validate() error {
	errs := []error{
		prefix("on_error", c.OnError.Validate()), prefix("catch_all", c.CatchAll.Validate()),
		between("timeout", c.Timeout, time.Second, longestTimeout), between("max_pause", c.MaxPause, firstPause, time.Hour),
	}
	if c.MaxConcurrent < 1 || c.MaxConcurrent > 1000 {
		errs = append(errs, fmt.Errorf("max_concurrent: %d is not between 1 and 1000", c.MaxConcurrent))
	}
	return errors.Join(errs...)
}

func between(key string, d, low, high time.Duration) error {
	if d < low || d > high {
		return fmt.Errorf("%s: %v is not between %v and %v", key, d, low, high)
	}
	return nil
}

// prefix puts a key before an error.
func prefix(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", key, err)
}

// prefixed puts a key before each of the errors that were joined.
func prefixed(key string, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return prefix(key, err)
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		errs = append(errs, fmt.Errorf("%s.%w", key, e))
	}
	return errors.Join(errs...)
}

// domainKey is the form of a key of Of: "example.com", ".example.com", ".".
func domainKey(s string) (string, error) {
	if s == "." || s == "*" {
		return ".", nil
	}
	name, below := strings.CutPrefix(s, ".")
	domain, err := mail.ParseDomain(name)
	if err != nil || strings.HasPrefix(domain, "[") {
		return "", fmt.Errorf("%q is no domain; write example.com, .example.com for those below it, or \".\" for all others that are ours", s)
	}
	domain = mail.ASCIIDomain(domain)
	if below {
		domain = "." + domain
	}
	return domain, nil
}

// Empty reports that there is nothing to look at.
func (c Config) Empty() bool { return len(c.Of) == 0 }

// Files are the lists that are named, for whoever reads errors.
func (c Config) Files() []string {
	var files []string
	for _, domain := range slices.Sorted(maps.Keys(c.Of)) {
		for _, s := range c.Of[domain] {
			kind, rest, _ := strings.Cut(s, ":")
			if kind == "file" || kind == "virtusertable" || kind == "aliases" {
				files = append(files, rest)
			}
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// directory finds the directory that a source names.
func (c Config) directory(name string) (string, LDAP, error) {
	names := slices.Sorted(maps.Keys(c.LDAP))
	switch {
	case name == "" && len(names) == 1:
		name = names[0]
	case name == "" && len(names) == 0:
		return "", LDAP{}, errors.New("there is no directory; write a section [ldap.NAME] with servers and base")
	case name == "":
		return "", LDAP{}, fmt.Errorf("there are several directories; write \"ldap:NAME\", one of %s", strings.Join(names, ", "))
	}
	d, ok := c.LDAP[name]
	if !ok {
		return "", LDAP{}, fmt.Errorf("there is no directory %q; write a section [ldap.%s]", name, cmp.Or(name, "NAME"))
	}
	return name, d, nil
}
