package config

import (
	"fmt"
	"slices"

	"gatepost/filters"
	"gatepost/milter"
)

// checkUnscanned looks whether on_error = "hold" can be meant: mail that waits
// for a filter lies in our hold, so somebody must be able to put it there.
func (c *Config) checkUnscanned(top table) {
	for _, m := range c.Milters {
		if m.Quarantine != milter.QuarantineHold {
			c.Filtering.NoHold = append(c.Filtering.NoHold, m.Name)
		}
	}
	for _, s := range top.tables("listener") {
		i := slices.IndexFunc(c.Listeners, func(l Listener) bool { return l.Name == s.name })
		if i >= 0 && c.Listeners[i].OnError == filters.Hold && len(c.Filters) == 0 {
			s.child("on_error").problem("there is no filter that mail could wait for", "remove the key")
		}
	}
	for _, s := range top.tables("filter") {
		if s.values["on_error"] == string(filters.Hold) {
			c.checkHolds(s.child("on_error"))
		}
		if at, ok := s.values["on_error_at"].(map[string]any); ok && at["message"] == string(filters.Hold) {
			c.checkHolds(s.child("on_error_at").child("message"))
		}
	}
}

// checkHolds checks a filter whose mail is to wait for it.
func (c *Config) checkHolds(p place) {
	switch {
	case len(c.Filtering.NoHold) == 0:
	case len(c.Listeners) == 0 && len(c.Filtering.NoHold) == len(c.Milters):
		p.problem("nothing is held here: the MTA keeps its mail",
			`write quarantine = "hold" and reinject in the section [milter.NAME], or on_error = "tempfail"`)
	default:
		p.warn(fmt.Sprintf(`[milter.%s] holds nothing: for its mail this means "tempfail"`, c.Filtering.NoHold[0]),
			`write quarantine = "hold" and reinject there if that is not meant`)
	}
}
