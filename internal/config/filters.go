package config

import (
	"fmt"
	"slices"

	"gatepost/filters"
	"gatepost/filters/child"
	"gatepost/filters/clamav"
	"gatepost/filters/spamassassin"
	"gatepost/internal/tomltext"
	"gatepost/milter"
)

// later are the kinds of filters that are known and not here yet.
var later = []string{}

// kinds are those that are here.
var kinds = []string{"clamav", "spamassassin", "milter", "dnsbl", "greylist", "rates", "client", "blocklist", "auth", "icap", "attachments"}

// readFilters reads the sections [filter.NAME]. The kind is the name where the
// section says nothing else.
func (c *Config) readFilters(top table) {
	for _, s := range top.tables("filter") {
		if !goodName(s.name) {
			s.problem(fmt.Sprintf("%q is no name", s.name), "write letters, digits, - and _")
		}
		var extra struct {
			Kind string `toml:"kind"`
		}
		kind, at := s.name, s.place
		if v, ok := s.values["kind"].(string); ok {
			kind, at = v, s.child("kind")
		}
		f := Filter{Name: s.name}
		switch {
		case kind == "clamav":
			cfg := clamav.DefaultConfig()
			s.bind(&cfg, &extra)
			s.notZero(&cfg)
			f.ClamAV = &cfg
			_, err := clamav.New(cfg)
			s.attach(split(err), &cfg, "clamav: ")
		case kind == "spamassassin":
			cfg := spamassassin.DefaultConfig()
			cfg.Hostname = c.Hostname
			s.bind(&cfg, &extra)
			s.notZero(&cfg)
			f.SpamAssassin = &cfg
			_, err := spamassassin.New(cfg)
			s.attach(split(err), &cfg, "spamassassin: ")
		case kind == "milter":
			cfg := child.DefaultConfig()
			cfg.Hostname = c.Hostname
			s.bind(&cfg, &extra)
			f.Milter = &cfg
			c.checkChild(s, &cfg)
		case c.readReputation(top, s, kind, &f, &extra):
		case c.readAttachments(top, s, kind, &f, &extra):
		case c.readScanner(s, kind, &f, &extra):
		case slices.Contains(later, kind):
			at.problem(fmt.Sprintf("filters of the kind %q are not built yet in this version", kind), "remove the section")
		default:
			at.problem(fmt.Sprintf("there is no filter %q", kind), tomltext.DidYouMean(kind, kinds))
		}
		c.Filters = append(c.Filters, f)
	}
	c.Filtering.Hostname = c.Hostname
	c.Filtering.OnErrorByListener = make(map[string]filters.OnError)
	for _, l := range c.Listeners {
		if l.OnError != "" {
			c.Filtering.OnErrorByListener[l.Name] = l.OnError
		}
	}
}

// checkChild checks a filter that is a milter; a listener that it names must be
// there, or it would never be asked.
func (c *Config) checkChild(s named, cfg *child.Config) {
	if cfg.Address == "" {
		s.child("address").missing(`address = "inet:8891@127.0.0.1", or "unix:/path"`)
		cfg.Address = "unix:/nowhere"
	}
	s.attach(split(cfg.Validate()), cfg)
	for i, name := range cfg.Listeners {
		if !c.hasEntry(name) {
			s.child("listeners").item(i).problem(fmt.Sprintf("there is no listener and no milter %q", name), "write the name of a section [listener.NAME] or [milter.NAME]")
		}
	}
}

// hasEntry reports whether mail comes in by that name.
func (c *Config) hasEntry(name string) bool {
	return slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.Name == name }) ||
		slices.ContainsFunc(c.Milters, func(m milter.Config) bool { return m.Name == name })
}
