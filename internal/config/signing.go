package config

import (
	"fmt"
	"strings"

	"gatepost/internal/sign"
)

// readSigning reads [dkim], its keys with their files, and [arc].
func (c *Config) readSigning(top table) {
	c.Sign = sign.DefaultConfig()
	c.Sign.Hostname = c.Hostname
	dkim := top.table("dkim")
	dkim.bind(&c.Sign.DKIM)
	dkim.attach(split(c.Sign.DKIM.Validate()), &c.Sign.DKIM)
	whole := true
	for _, s := range dkim.tables("key") {
		whole = s.signingKey(c.Sign.DKIM.Key[s.name]) && whole
	}
	arc := top.table("arc")
	arc.bind(&c.Sign.ARC)
	if !whole {
		return // what is wrong between keys can't be told
	}
	for _, l := range c.Listeners {
		if l.Handler != "" && len(c.Sign.DKIM.Key) > 0 {
			top.table("listener").table(l.Name).child("handler").warn("what it lets pass is not signed by [dkim]", "sign there")
		}
	}
	keys, err := sign.LoadKeys(c.Sign.DKIM.Key)
	dkim.attach(split(err), &c.Sign.DKIM, "dkim: ")
	if err == nil {
		arc.attach(split(keys.CheckARC(c.Sign.ARC)), &c.Sign.ARC)
	}
}

// signingKey checks one key, and reports whether it can be used.
func (s named) signingKey(k sign.Key) bool {
	known := len(s.r.problems)
	if !goodName(s.name) {
		s.problem(fmt.Sprintf("%q is no name", s.name), "write letters, digits, - and _")
	}
	s.attach(split(k.Validate()), &k)
	if len(s.r.problems) > known {
		return false
	}
	if _, err := sign.LoadKey(s.name, k); err != nil {
		s.child("file").problem(strings.TrimPrefix(err.Error(), "dkim: "), "gatepost dkim keygen makes one")
	}
	return len(s.r.problems) == known
}
