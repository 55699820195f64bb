package config

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/milter"
	"gatepost/proxy"
)

// readListeners reads [limits], the defaults of all listeners, and the sections
// [listener.NAME].
func (c *Config) readListeners(top table) {
	base := proxy.DefaultConfig()
	limits := top.table("limits")
	limits.bind(&base.Limits)
	for _, s := range top.tables("listener") {
		l := Listener{Config: base}
		l.Name = s.name
		l.Trusted = c.Rules.Relay.Networks
		s.bind(&l)
		if l.Hostname == "" {
			l.Hostname = c.Hostname
		}
		c.checkListener(top, s, &l)
		c.Listeners = append(c.Listeners, l)
	}
}

func (c *Config) checkListener(top table, s named, l *Listener) {
	if !goodName(s.name) {
		s.problem(fmt.Sprintf("%q is no name", s.name), "write letters, digits, - and _")
	}
	if l.Address == "" {
		s.child("address").missing(`address = "0.0.0.0:25"`)
		l.Address = "127.0.0.1:0" // so that the rest can be checked
	}
	if l.Handler == "" {
		if s.has("handler_on_error") {
			s.child("handler_on_error").problem("there is no handler", `write handler = "unix:/path/of/a/milter.socket", or remove the key`)
		}
	} else {
		if _, _, err := milter.ParseSocket(l.Handler); err != nil {
			s.child("handler").problem(strings.TrimPrefix(err.Error(), "socket: "), "")
		}
		if s.has("on_error") {
			s.child("on_error").problem("this listener asks its handler, not the filters", "write handler_on_error, or remove the key")
		}
	}
	if s.has("interactive_timeout") && l.Delivery != proxy.Interactive {
		s.child("interactive_timeout").problem("nothing is delivered here while the client waits", `write delivery = "interactive", or remove the key`)
	}
	own, common := split(l.Config.Validate()), []string(nil)
	for i := len(own) - 1; i >= 0; i-- {
		key, isLimit := strings.CutPrefix(own[i], "listener "+l.Name+": limits.")
		key, _, _ = strings.Cut(key, " ")
		if isLimit && !s.table.table("limits").has(key) {
			common = append(common, own[i]) // it stands in [limits], if anywhere
			own = slices.Delete(own, i, i+1)
		}
	}
	s.attach(own, l, "listener "+l.Name+": ")
	top.attach(common, &main{}, "listener "+l.Name+": ")
	if l.Certificate != "" && l.Key != "" {
		if _, err := tls.LoadX509KeyPair(l.Certificate, l.Key); err != nil {
			s.child("tls_cert").problem(strings.TrimPrefix(err.Error(), "tls: "), "give PEM files that belong together and that this user may read")
		}
	}
}

// goodName reports whether a name can stand in logs and metrics as it is.
func goodName(name string) bool { return quoteKey(name) == name && len(name) <= 63 }

// Postmaster is who gets mail for <postmaster> without a domain: the one of the
// first relay domain.
func (c *Config) Postmaster() mail.Address {
	for _, d := range append(slices.Clone(c.Rules.Relay.Domains), c.relayDomains...) {
		if name, err := mail.ParseDomain(d); err == nil {
			return mail.Address{Local: "postmaster", Domain: name}
		}
	}
	return mail.Address{Local: "postmaster", Domain: c.Hostname}
}

// checkAddresses finds listeners that want the same port.
func (c *Config) checkAddresses(top table) {
	type used struct{ address, key string }
	var all []used
	add := func(p place, address string) {
		if address == "" {
			return
		}
		for _, u := range all {
			if overlap(u.address, address) {
				p.problem(fmt.Sprintf("%q is taken by %s", address, u.key), "give each its own address or port")
			}
		}
		all = append(all, used{address, p.path})
	}
	listeners := top.table("listener")
	for _, l := range c.Listeners {
		add(listeners.table(l.Name).child("address"), l.Address)
	}
	milters := top.table("milter")
	for _, m := range c.Milters {
		if network, address, err := milter.ParseSocket(m.Socket); err == nil && network != "unix" {
			add(milters.table(m.Name).child("socket"), address)
		}
	}
	p := top.table("console").child("address")
	if _, _, err := net.SplitHostPort(c.Console.Address); err != nil && c.Console.Address != "" {
		p.problem(fmt.Sprintf("%q is no address", c.Console.Address), `write host and port, like "127.0.0.1:8025"`)
	}
	add(p, c.Console.Address)
}

// overlap reports whether two addresses can't both be listened on.
func overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || everyHost(hostA) || everyHost(hostB)
}

func everyHost(h string) bool { return h == "" || h == "0.0.0.0" || h == "::" }
