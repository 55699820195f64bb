package config

import (
	"fmt"

	"gatepost/proxy/journal"
)

// readJournals reads the sections [journal.NAME].
func (c *Config) readJournals(top table) {
	for _, s := range top.tables("journal") {
		j := journal.DefaultConfig()
		j.Name, j.Hostname = s.name, c.Hostname
		s.bind(&j)
		if !goodName(s.name) {
			s.problem(fmt.Sprintf("%q is no name", s.name), "write letters, digits, - and _")
		}
		s.attach(split(j.Validate()), &j)
		for i, l := range j.Listeners {
			if !c.hasEntry(l) {
				s.child("listeners").item(i).problem(fmt.Sprintf("there is no [listener.%s] and no [milter.%s]", l, l), "")
			}
		}
		c.Journals = append(c.Journals, j)
	}
}
