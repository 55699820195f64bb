package rules

import (
	"fmt"

	"gatepost/internal/mail"
)

// relay decides whether we pass mail on for this recipient.
func (s *Set) relay(tx *mail.Transaction, to mail.Address) mail.Verdict {
	sess := tx.Session
	why, ours := s.oursToRelay(to)
	if !ours {
		why = s.mayRelayAnywhere(sess)
	}
	switch {
	case why == "":
		return mail.Verdict{
			Action: mail.Reject,
			Reply:  mail.Reply{Code: 550, Detail: "7.1", Text: "Relaying denied"},
			Reason: "neither the recipient's domain nor the client may relay",
		}
	case !s.refused(to).IsZero():
		return refusedByRoute(s.refused(to))
	case to.Domain == "" || s.routed(to): // postmaster: RFC 5321 4.5.1 wants it taken
		return mail.Verdict{Action: mail.Accept, Reason: why}
	case ours:
		// Our own omission: the sender shall try again, not give up.
		return mail.Verdict{
			Action: mail.TempFail,
			Reply:  mail.Reply{Code: 451, Detail: "4.4", Text: "No route to this domain is configured here"},
			Reason: why + ", but no route leads there",
		}
	}
	return mail.Verdict{
		Action: mail.Reject,
		Reply:  mail.Reply{Code: 550, Detail: "4.4", Text: fmt.Sprintf("This gateway has no route to %s", to.Domain)},
		Reason: why + ", but no route leads there",
	}
}

// refusedByRoute is for a recipient whose route delivers nothing: said now,
// nobody gets a bounce later.
func refusedByRoute(r mail.Reply) mail.Verdict {
	v := mail.Verdict{Action: mail.Reject, Reply: r, Reason: "its route refuses the recipient"}
	if r.Code/100 == 4 {
		v.Action = mail.TempFail
	}
	return v
}

// oursToRelay says why mail for a recipient is passed on, whoever sends it.
// "%" and "!" in the local part are a route to somewhere else for old mailers:
// the domain does not vouch for it.
func (s *Set) oursToRelay(to mail.Address) (why string, ok bool) {
	if to.HasHops() {
		return "", false
	}
	domain := to.ASCIIDomain()
	if domain == "" {
		return "postmaster", true
	}
	if s.domains.contains(domain) {
		return "relay.domains has " + domain, true
	}
	if h, ok := s.access.domain(tagTo, domain); ok && h.says == saysRelay {
		return h.String(), true
	}
	return "", false
}

// mayRelayAnywhere says why a client may send to anyone, "" when it may not.
func (s *Set) mayRelayAnywhere(sess *mail.Session) string {
	if sess.Trusted {
		return "the client is trusted"
	}
	ip := clientAddr(sess)
	if ip.IsValid() {
		for _, n := range s.networks {
			if n.Contains(ip) {
				return "relay.networks has " + n.String()
			}
		}
		if h, ok := s.access.address(tagConnect, ip, "", ""); ok && h.says == saysRelay {
			return h.String()
		}
	}
	if sess.Name != "" {
		if h, ok := s.access.domain(tagConnect, sess.Name); ok && h.says == saysRelay {
			return h.String()
		}
	}
	return ""
}
