package config

import (
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/dns"
	"gatepost/proxy/forward"
	"gatepost/rules"
)

// readRoutes reads the sections [route."example.com"].
func (c *Config) readRoutes(top table) {
	c.Forward = forward.DefaultConfig()
	c.Forward.Hostname = c.Hostname
	sections := top.tables("route")
	for _, s := range sections {
		r := forward.DefaultRoute()
		s.bind(&r)
		if len(r.To) == 0 {
			s.child("to").missing(`to = ["smtp://mail.example.com:25"]`)
			r.To = []string{"smtp://unknown.invalid"} // so that the rest can be checked
		}
		s.notZero(&r)
		c.Forward.Routes[s.name] = r
	}
	c.readRouting(top)
	rest := split(c.Forward.Validate())
	for _, s := range sections {
		var own []string
		for i := len(rest) - 1; i >= 0; i-- {
			if text, ok := strings.CutPrefix(rest[i], fmt.Sprintf("forward: route %q: ", s.name)); ok {
				own = append(own, text)
				rest = slices.Delete(rest, i, i+1)
			}
		}
		slices.Reverse(own)
		s.attach(own, &forward.Route{})
	}
	top.table("routing").attach(rest, &c.Forward.Routing, "forward: ")
}

// readRouting reads [routing] and the file that it names.
func (c *Config) readRouting(top table) {
	t := top.table("routing")
	t.bind(&c.Forward.Routing)
	t.notZero(&c.Forward.Routing)
	entries, err := c.Forward.Routing.ReadFile()
	for _, text := range split(err) {
		if p, ok := inFile(text, c.Forward.Routing.Mailertable, c.Forward.Routing.Transport); ok {
			top.r.problems = append(top.r.problems, p)
		}
	}
	if err != nil {
		return
	}
	c.Forward.Entries = entries
	for _, e := range c.Forward.Overruled() {
		top.r.warnings = append(top.r.warnings, Problem{
			File: e.File, Position: Position{Line: e.Line}, What: fmt.Sprintf("%q has a section [route.%q], which counts", e.Key, e.Key), Do: "remove one of the two",
		})
	}
}

// readDNS reads [dns].
func (c *Config) readDNS(top table) {
	c.DNS = dns.DefaultClientConfig()
	t := top.table("dns")
	t.bind(&c.DNS)
	t.notZero(&c.DNS)
	t.attach(split(c.DNS.Validate()), &c.DNS, "dns: ")
}

// readRules reads [relay] and [policy].
func (c *Config) readRules(top table) {
	c.Rules = rules.DefaultConfig()
	c.Rules.Hostname = c.Hostname
	var extra ofRecipients
	relay := top.table("relay")
	relay.bind(&c.Rules.Relay, &extra)
	for i, n := range c.Rules.Relay.Networks {
		if n.IsValid() && n.Bits() == 0 {
			relay.child("networks").item(i).problem(fmt.Sprintf("%q is everybody: this would be an open relay", n), "name your own networks")
		}
	}
	c.readNetworks(relay)
	c.Recipients.Of = extra.Recipients
	top.table("policy").bind(&c.Rules.Policy)
}
