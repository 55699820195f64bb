package config

import (
	"fmt"
	"slices"

	"gatepost/milter"
	"gatepost/proxy/forward"
)

// readMilters reads the sections [milter.NAME], where an MTA asks us.
func (c *Config) readMilters(top table) {
	for _, s := range top.tables("milter") {
		m := milter.DefaultConfig()
		m.Name, m.Hostname, m.Trusted = s.name, c.Hostname, c.Rules.Relay.Networks
		s.bind(&m)
		if !goodName(s.name) {
			s.problem(fmt.Sprintf("%q is no name", s.name), "write letters, digits, - and _")
		}
		if m.Socket == "" {
			s.child("socket").missing(`socket = "unix:/run/gatepost/milter.socket"`)
			continue
		}
		s.attach(split(m.Validate()), &m)
		c.Milters = append(c.Milters, m)
	}
}

// checkReinject looks whether what is released from our hold has a way to go.
func (c *Config) checkReinject(top table) {
	if len(c.Milters) == 0 {
		return
	}
	_, everywhere := c.Forward.Routes["."]
	for _, s := range top.tables("milter") {
		i := slices.IndexFunc(c.Milters, func(m milter.Config) bool { return m.Name == s.name })
		if i < 0 {
			continue
		}
		m := c.Milters[i]
		holds := m.Quarantine == milter.QuarantineHold
		switch {
		case m.Reinject == "" && holds && !everywhere:
			s.child("quarantine").problem("what is released from the hold has no way to go",
				`write reinject = "smtp://127.0.0.1:10025", a port of the MTA that asks no milter`)
		case m.Reinject != "" && !holds:
			s.child("reinject").problem(`nothing is held here without quarantine = "hold"`, "write that, or remove the key")
		case m.Reinject != "":
			one := forward.Config{Hostname: c.Hostname, Routes: map[string]forward.Route{".": {To: []string{m.Reinject}}}}
			if err := one.Validate(); err != nil {
				s.child("reinject").problem(fmt.Sprintf("%q: want smtp://host:port", m.Reinject), "")
			}
		}
	}
}
