package recipients

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// Stats counts what happens.
type Stats interface {
	// Source counts an answer of a source: "known", "unknown", "refused",
	// "deferred", "anything", "error", "sync", "sync-error"; "cached" and
	// "stale" where it was not asked.
	Source(source, result string)
	// Guess counts what was done about a client that guesses: "delayed",
	// "closed".
	Guess(action string)
}

// Deps is what a Checker works with.
type Deps struct {
	NextHop NextHop                 // for "callout"
	Store   state.Store             // shared answers and counts; nil: this process alone
	Ours    func(mail.Address) bool // whether mail for it is ours, whoever sends it; nil: always
	Stats   Stats
	Log     *slog.Logger
	Now     func() time.Time // nil: the system's
}

// Checker knows the recipients of a configuration.
type Checker struct {
	cfg     Config
	deps    Deps
	domains map[string][]named
	dirs    []*directory
	guesses *guesses
	flight  singleflight.Group
}

// Load reads all lists. Its error names all that is wrong with them and with the
// configuration. It asks nobody.
func Load(cfg Config, d Deps) (*Checker, error) {
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Ours == nil {
		d.Ours = func(mail.Address) bool { return true }
	}
	errs := []error{cfg.Validate()}
	for _, name := range slices.Sorted(maps.Keys(cfg.LDAP)) {
		errs = append(errs, prefixed("ldap."+name, cfg.LDAP[name].Validate()))
	}
	if errors.Join(errs...) != nil { // what follows wants sane values
		return nil, errors.Join(errs...)
	}
	c := &Checker{cfg: cfg, deps: d, domains: make(map[string][]named), guesses: newGuesses(cfg.Harvest, d)}
	made := make(map[string]named)
	for _, domain := range slices.Sorted(maps.Keys(cfg.Of)) {
		k, err := domainKey(domain)
		where := fmt.Sprintf("recipients.%q", domain)
		if err == nil && c.domains[k] != nil {
			err = errors.New("is there twice, in another spelling")
		}
		if err != nil {
			errs = append(errs, prefix(where, err))
			continue
		}
		var list []named
		for _, s := range cfg.Of[domain] {
			n, known := made[s]
			if !known {
				n, err = c.source(s)
				made[s] = n
			}
			if err != nil {
				errs = append(errs, inList(where, err))
				err = nil
			}
			list = append(list, n)
		}
		if len(list) == 0 {
			errs = append(errs, fmt.Errorf("%s: names no source; write \"any\" where all are to be accepted", where))
		}
		c.domains[k] = list
	}
	return c, errors.Join(errs...)
}

// inList leaves errors alone that name a file and its line.
func inList(where string, err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return errors.Join(joined.Unwrap()...)
	}
	return prefix(where, err)
}

// source makes the source that a text names.
func (c *Checker) source(s string) (named, error) {
	kind, rest, _ := strings.Cut(s, ":")
	n := named{name: s, label: kind, onError: TempFail}
	var err error
	switch {
	case s == "any":
		n.source = anyone{}
	case s == "callout":
		n.source = newCallout(c.cfg.Callout, c.deps.NextHop, c.cfg.KnownFor, c.deps.Now)
		n.onError, n.cached = c.cfg.Callout.OnError, newCache(c.cfg.CacheSize, c.deps.Now)
	case s == "ldap" || kind == "ldap" && rest != "":
		return c.directory(rest)
	case (kind == "file" || kind == "virtusertable" || kind == "aliases") && rest != "":
		n.source, err = c.file(kind, rest)
	default:
		err = fmt.Errorf("%q is no source; write file:/path, virtusertable:/path, aliases:/path, ldap:NAME, callout or any", s)
	}
	return n, err
}

func (c *Checker) file(kind, path string) (source, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "virtusertable":
		return parseVirtusers(path, text)
	case "aliases":
		return parseAliases(path, text)
	}
	return parseList(path, text, c.cfg.Delimiter)
}

func (c *Checker) directory(name string) (named, error) {
	name, cfg, err := c.cfg.directory(name)
	if err != nil {
		return named{}, err
	}
	cfg.Name = name
	for _, d := range c.dirs { // "ldap" and "ldap:NAME"
		if d.cfg.Name == name {
			return c.ofDirectory(d), nil
		}
	}
	d, err := newDirectory(cfg, c.cfg.Delimiter, c.deps.Now)
	if err != nil {
		return named{}, fmt.Errorf("directory %s: %w", name, err)
	}
	c.dirs = append(c.dirs, d)
	return c.ofDirectory(d), nil
}

func (c *Checker) ofDirectory(d *directory) named {
	n := named{source: d, name: "ldap:" + d.cfg.Name, label: "ldap:" + d.cfg.Name, onError: d.cfg.OnError}
	if d.cfg.Sync == 0 {
		n.cached = newCache(c.cfg.CacheSize, c.deps.Now)
	}
	return n
}

// Run reads directories that are read whole, until ctx ends.
func (c *Checker) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, d := range c.dirs {
		all.Go(func() { d.run(ctx, c.deps.Log, c.deps.Stats) })
	}
	<-ctx.Done()
	all.Wait()
	return nil
}

// Close ends the connections that are kept. Who still asks has one of his own.
func (c *Checker) Close() {
	for _, d := range c.dirs {
		d.closed.Store(true)
		for range d.cfg.MaxConcurrent {
			s := <-d.sessions
			s.close()
			d.sessions <- nil
		}
	}
}

// sources returns those of a domain: its own, those of the closest ".domain"
// above it, those of ".".
func (c *Checker) sources(domain string) []named {
	if list, ok := c.domains[domain]; ok {
		return list
	}
	for rest := domain; ; {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			return c.domains["."]
		}
		if list, ok := c.domains["."+parent]; ok {
			return list
		}
		rest = parent
	}
}
