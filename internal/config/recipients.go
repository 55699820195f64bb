package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gatepost/internal/recipients"
)

// ofRecipients is what of [relay] is not the rules'.
type ofRecipients struct {
	Recipients map[string][]string `toml:"recipients"`
}

// readRecipients reads [recipients], the directories [ldap.NAME], and the lists
// that [relay] recipients names.
func (c *Config) readRecipients(top table, m main) {
	of := c.Recipients.Of
	c.Recipients = m.Recipients
	c.Recipients.Of, c.Recipients.LDAP = of, make(map[string]recipients.LDAP)
	for _, s := range top.tables("ldap") {
		l := recipients.DefaultLDAP()
		s.bind(&l)
		if !goodName(s.name) {
			s.problem(fmt.Sprintf("%q is no name", s.name), "write letters, digits, - and _")
			continue
		}
		c.Recipients.LDAP[s.name] = l
	}
	section := top.table("recipients")
	for i, name := range c.Recipients.Milters {
		if !c.hasMilter(name) {
			section.child("milters").item(i).problem(fmt.Sprintf("there is no [milter.%s]", name), "")
		}
	}
	_, err := recipients.Load(c.Recipients, recipients.Deps{})
	var own, relay, directories []string
	for _, text := range split(err) {
		switch {
		case strings.HasPrefix(text, "recipients."):
			relay = append(relay, text)
		case strings.HasPrefix(text, "ldap."):
			directories = append(directories, text)
		default:
			own = append(own, text)
		}
	}
	top.table("relay").attach(relay, &ofRecipients{})
	top.attach(directories, &main{})
	c.attachFiles(top, section, own, &recipients.Config{}, c.Recipients.Files()...)
}

func (c *Config) hasMilter(name string) bool {
	for _, m := range c.Milters {
		if m.Name == name {
			return true
		}
	}
	return false
}

// checkRecipients tells of domains whose recipients nobody asks for.
func (c *Config) checkRecipients(top table) {
	for _, domain := range slices.Sorted(maps.Keys(c.Recipients.Of)) {
		name := strings.ToLower(domain)
		if name == "." || name == "*" || c.relays(name) {
			continue
		}
		top.table("relay").table("recipients").child(domain).warn(fmt.Sprintf("%q is not in relay.domains", domain), "its recipients are looked up only if the access map has it, with To: and RELAY")
	}
}

// relays reports whether a domain, or some of those below ".domain", are ours.
func (c *Config) relays(domain string) bool {
	for _, d := range c.relayDomains {
		switch {
		case d == domain, strings.HasPrefix(d, ".") && strings.HasSuffix(domain, d), strings.HasPrefix(domain, ".") && strings.HasSuffix(d, domain):
			return true
		}
	}
	return false
}
