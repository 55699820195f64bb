package config

import (
	"fmt"

	"gatepost/milter"
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
