package access

import (
	"slices"
	"strings"
)

// RecipientHit is the line that blocks a recipient or not: of the address, of
// the user where the domain is local, of the domain. RELAY, OK and SKIP say
// nothing here.
func (e *Engine) RecipientHit(to Mailbox, tr *Trace) (Hit, bool) {
	if !e.BlocklistRecipients {
		return Hit{}, false
	}
	h, ok := e.recipientHit(to, tr)
	if ok && (h.Says == OK || h.Says == RELAY || h.Says == SKIP) {
		return Hit{}, false
	}
	return h, ok
}

func (e *Engine) recipientHit(to Mailbox, tr *Trace) (Hit, bool) {
	if to.Domain != "" {
		if h, ok := e.Table.Full(To, to, tr); ok {
			return h, true
		}
	}
	if _, local := e.Local.Has(to.Domain); local || to.Domain == "" {
		if h, ok := e.Table.User(To, to.Local, tr); ok {
			return h, true
		}
	}
	return e.Table.Domain(To, to.Domain, tr)
}

// CheckRcpt is asked at RCPT; with delay_checks it asks the others, too.
func (e *Engine) CheckRcpt(q Query, tr *Trace) Answer {
	if q.To == (Mailbox{}) {
		return refuse(553, "0.0", "User address required")
	}
	a := e.rcpt(q, tr)
	if !e.DelayChecks.On() || a.Final {
		return a
	}
	if word, ok := e.Excused(q.To, tr); ok {
		return accept(word, "relay.delay_checks")
	}
	if m := e.CheckMail(q, tr); m.Final {
		return m
	}
	if c := e.CheckRelay(q, tr); c.Final {
		return c
	}
	return a
}

// Excused reports whether delay_checks ask neither for the sender nor for the
// client of this recipient's mail, and sendmail's word for it.
func (e *Engine) Excused(to Mailbox, tr *Trace) (word string, ok bool) {
	switch e.DelayChecks {
	case DelayFriend:
		if h, ok := e.spamHit(to, tr); ok && h.Says == FRIEND {
			return "SPAMFRIEND", true
		}
	case DelayHater:
		if h, ok := e.spamHit(to, tr); !ok || h.Says != HATER {
			return "NOSPAMHATER", true
		}
	}
	return "", false
}

// spamHit is the line Spam: of a recipient. Routes through ourselves are taken
// out; who has no domain is of our own host.
func (e *Engine) spamHit(to Mailbox, tr *Trace) (Hit, bool) {
	to = e.strip(to, func(string) bool { return false })
	if to.Domain == "" {
		to.Domain = e.Hostname
	}
	if h, ok := e.Table.Full(Spam, to, tr); ok {
		return h, true
	}
	if h, ok := e.Table.Domain(Spam, to.Domain, tr); ok {
		return h, true
	}
	if _, local := e.Local.Has(to.Domain); local || to.Domain == "" {
		return e.Table.User(Spam, to.Local, tr)
	}
	return Hit{}, false
}

// rcpt is check_rcpt without delay_checks.
func (e *Engine) rcpt(q Query, tr *Trace) Answer {
	to := e.Strip(q.To, tr)
	if h, ok := e.RecipientHit(to, tr); ok {
		return h.answer(disabled)
	}
	if q.Mech != "" && slices.Contains(e.Mechs, q.Mech) {
		a := accept("RELAY", "logged in with "+q.Mech)
		a.Final = true
		return a
	}
	if why, ok := e.RelaysTo(to, tr); ok {
		return accept("RELAY", why)
	}
	if to.Domain == "" {
		return accept("RELAY", "a local user")
	}
	return e.sendmailClient(q.Client, tr)
}

// Strip takes the routes out of a local part, as long as the domain behind is
// one that we relay to: what is left is who the mail would really go to.
func (e *Engine) Strip(to Mailbox, tr *Trace) Mailbox {
	return e.strip(to, func(domain string) bool { return !e.LooseRelayCheck && e.stripsFor(domain, tr) })
}

// strip takes the routes out as long as a domain is local, or another that may.
func (e *Engine) strip(to Mailbox, may func(domain string) bool) Mailbox {
	for strings.ContainsAny(to.Local, hops) {
		if _, local := e.Local.Has(to.Domain); !local && to.Domain != "" && !may(to.Domain) {
			return to
		}
		next := unfold(to.Local)
		if next.Domain == "" {
			return next
		}
		to = next
	}
	return to
}

func (e *Engine) stripsFor(domain string, tr *Trace) bool {
	if e.RelayEntireDomain {
		if _, ok := e.Own.Has(domain); ok {
			return true
		}
	}
	if _, ok := e.Relay.Has(domain); ok {
		return true
	}
	h, ok := e.toDomain(domain, tr)
	return ok && h.Says == RELAY
}

// toDomain is the line of a recipient's domain: with relay_hosts_only that of
// no other domain.
func (e *Engine) toDomain(domain string, tr *Trace) (Hit, bool) {
	if e.RelayHostsOnly {
		return e.Table.Exact(To, domain, tr)
	}
	return e.Table.Domain(To, domain, tr)
}
