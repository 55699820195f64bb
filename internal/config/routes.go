package config

import (
	"fmt"
	"slices"
	"strings"

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
	top.attach(rest, &main{}, "forward: ")
}

// readRules reads [relay] and [policy].
func (c *Config) readRules(top table) {
	c.Rules = rules.DefaultConfig()
	c.Rules.Hostname = c.Hostname
	var extra struct {
		Recipients map[string]string `toml:"recipients"`
	}
	relay := top.table("relay")
	relay.bind(&c.Rules.Relay, &extra)
	for i, n := range c.Rules.Relay.Networks {
		if n.IsValid() && n.Bits() == 0 {
			relay.child("networks").item(i).problem(fmt.Sprintf("%q is everybody: this would be an open relay", n), "name your own networks")
		}
	}
	for domain, how := range extra.Recipients {
		if how != "any" {
			relay.table("recipients").child(domain).problem(fmt.Sprintf("%q is not built yet in this version", how), `write "any" or remove the key`)
		}
	}
	top.table("policy").bind(&c.Rules.Policy)
}
