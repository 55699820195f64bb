package config

import (
	"slices"

	"gatepost/internal/drac"
)

// readDRAC reads [drac]: who may open windows for clients to relay.
func (c *Config) readDRAC(top table) {
	c.DRAC = drac.DefaultConfig()
	if !top.has("drac") {
		return
	}
	s := top.table("drac")
	s.bind(&c.DRAC)
	c.attachFiles(top, s, split(c.DRAC.Validate()), &c.DRAC, c.DRAC.AllowFile)
	if c.DRAC.Address == "" && c.DRAC.Socket == "" {
		s.child("address").missing(`address = "127.0.0.1:900", or socket = "/run/gatepost/drac.sock"`)
	}
	for _, l := range c.Listeners {
		if l.Role != "submission" && l.Role != "relay" {
			return
		}
	}
	if len(c.Listeners) > 0 {
		s.warn("windows count on listeners with the role mx or submissions, and there is none", "")
	}
}

// checkTenants tells the rules whether somebody verifies signatures.
func (c *Config) checkTenants() {
	c.Rules.Authenticates = slices.ContainsFunc(c.Filters, func(f Filter) bool { return f.Milter != nil })
	c.Rules.Verifies = slices.ContainsFunc(c.Filters, func(f Filter) bool { return f.Auth != nil })
}
