package config

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/proxy/forward"
	"gatepost/rules"
	"gatepost/rules/access"
)

// checkRelay reads the lists and looks whether what is accepted can be
// delivered.
func (c *Config) checkRelay(top table) {
	c.checkRules(top)
	set, err := rules.Load(c.Rules)
	var own []string
	for _, text := range top.r.inRules(err, split(err)) {
		if p, ok := c.inList(text); ok {
			top.r.problems = append(top.r.problems, p)
		} else {
			own = append(own, text)
		}
	}
	top.attach(own, &main{}, "rules: ")
	if err != nil {
		return
	}
	top.r.warnings = append(top.r.warnings, set.Policies().Warnings()...)
	for _, text := range set.Warnings() {
		if p, ok := c.inList(text); ok {
			top.r.warnings = append(top.r.warnings, p)
		} else {
			top.warn(text, "")
		}
	}
	relay := c.Rules.Relay
	onlyMilter := len(c.Listeners) == 0 && len(c.Milters) > 0 // its MTA has the relay rules
	names := relay.Access + relay.RelayDomainsFile + relay.LocalHostNamesFile + relay.PostfixRelayDomainsFile
	if !onlyMilter && len(relay.Domains) == 0 && len(relay.Networks) == 0 && names == "" {
		top.table("relay").child("domains").missing(`domains = ["example.com"], the domains that mail is accepted for`)
	}
	c.relayDomains = set.RelayDomains()
	for i := range c.Listeners {
		c.Listeners[i].Postmaster = c.Postmaster()
	}
	if !onlyMilter {
		c.checkRouted(top, c.relayDomains)
	}
}

// readNetworks adds those of relay.networks_file.
func (c *Config) readNetworks(relay table) {
	path := c.Rules.Relay.NetworksFile
	if path == "" {
		return
	}
	networks, err := access.ReadNetworks(path)
	for _, text := range split(err) {
		if p, ok := c.inList(text); ok {
			relay.r.problems = append(relay.r.problems, p)
		} else {
			relay.child("networks_file").problem(text, "")
		}
	}
	c.Rules.Relay.Networks = append(c.Rules.Relay.Networks, networks...)
}

// inList reads "path:line: what; what to do" of a list that [relay] names.
func (c *Config) inList(text string) (Problem, bool) {
	r := c.Rules.Relay
	paths := []string{r.Access, r.RelayDomainsFile, r.LocalHostNamesFile, r.PostfixRelayDomainsFile, r.NetworksFile}
	for _, d := range c.Rules.Relay.Domains {
		if path, ok := strings.CutPrefix(d, "file:"); ok {
			paths = append(paths, path)
		}
	}
	return inFile(text, paths...)
}

// inFile reads "path:line: what; what to do" of one of the files.
func inFile(text string, paths ...string) (Problem, bool) {
	for _, path := range paths {
		rest, ok := strings.CutPrefix(text, path+":")
		number, what, found := strings.Cut(rest, ": ")
		if line, err := strconv.Atoi(number); ok && found && path != "" && err == nil {
			what, do, _ := strings.Cut(what, "; ")
			return Problem{File: path, Position: Position{Line: line}, What: what, Do: do}, true
		}
	}
	return Problem{}, false
}

// checkRouted refuses relay domains that lead nowhere: their mail would be
// accepted and could not be delivered.
func (c *Config) checkRouted(top table, domains []string) {
	if c.Forward.Validate() != nil {
		return // has its problems already
	}
	f, err := forward.New(c.Forward, slog.New(slog.DiscardHandler))
	if err != nil {
		return
	}
	defer f.Close()
	for _, name := range slices.Sorted(maps.Keys(c.Queue.Groups)) {
		if groups := f.Groups(); !slices.Contains(groups, name) {
			top.table("queue").table("group").child(name).warn("no route belongs to this group", "routes are of: "+strings.Join(groups, ", "))
		}
	}
	p := top.table("relay").child("domains")
	for _, d := range domains {
		name, route := d, d
		if below, ok := strings.CutPrefix(d, "."); ok {
			name = "any." + below // stands for all domains below
		}
		if _, ok := f.Route(mail.Address{Local: "postmaster", Domain: name}); !ok {
			p.problem(fmt.Sprintf("%q has no route: mail for it could be accepted but not delivered", d),
				fmt.Sprintf("write a section [route.%q], or [route.\".\"] for all", route))
		}
	}
	if _, ok := f.Route(mail.Address{Local: "postmaster", Domain: "elsewhere.invalid"}); !ok {
		top.child("route").warn("there is no route for other domains: bounces and mail of relay.networks to them can't be delivered",
			`write a section [route."."] with a host that sends to the Internet`)
	}
}
