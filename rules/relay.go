package rules

import (
	"fmt"

	"gatepost/internal/mail"
	"gatepost/rules/access"
)

// Roles of listeners that have a rule of their own (RFC 6409 4.3, 6.1). All
// others, mx and submissions, are as a mail server on port 25.
const (
	roleSubmission = "submission"
	roleRelay      = "relay"
)

// grant is why mail for a recipient is passed on.
type grant struct {
	why    string  // "" for not
	ours   bool    // the domain is ours, whoever sends
	tenant *tenant // the message has to prove it; nil: nothing more is to be proven
}

// relay decides whether we pass mail on for this recipient.
func (s *Set) relay(tx *mail.Transaction, to mail.Address, tr *access.Trace) mail.Verdict {
	g, denied := s.grants(tx.Session, to, tr)
	switch {
	case g.why == "":
		return denied
	case s.mixes(tx, g):
		return mail.Verdict{
			Action: mail.TempFail,
			Reply:  mail.Reply{Code: 452, Detail: "5.3", Text: "These recipients can't have one message, send it to this one separately"},
			Reason: g.why + ", and the recipients before need no proof, or the other way round",
		}
	case !s.refused(to).IsZero():
		return refusedByRoute(s.refused(to))
	case to.Domain == "" || s.routed(to): // postmaster: RFC 5321 4.5.1 wants it taken
		return mail.Verdict{Action: mail.Accept, Reason: g.why}
	case g.ours:
		// Our own omission: the sender shall try again, not give up.
		return mail.Verdict{
			Action: mail.TempFail,
			Reply:  mail.Reply{Code: 451, Detail: "4.4", Text: "No route to this domain is configured here"},
			Reason: g.why + ", but no route leads there",
		}
	}
	return mail.Verdict{
		Action: mail.Reject,
		Reply:  mail.Reply{Code: 550, Detail: "4.4", Text: fmt.Sprintf("This gateway has no route to %s", to.Domain)},
		Reason: g.why + ", but no route leads there",
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

// grants says why a client may send to a recipient, or how it is refused. What
// decides depends on what the listener is for: where users submit, only who
// they are helps; where our own hosts send, being addressed to us does not.
func (s *Set) grants(sess *mail.Session, to mail.Address, tr *access.Trace) (grant, mail.Verdict) {
	why, ours := s.oursToRelay(to, tr)
	switch {
	case sess.Again:
		// Decided when its client was here: not all of that is kept.
		return grant{why: "it was taken before", ours: ours}, mail.Verdict{}
	case sess.Role == roleSubmission:
		if sess.User == "" || sess.TLS == nil {
			return grant{}, denied(mail.Reply{Code: 530, Detail: "7.0", Text: "Authentication required"}, "nobody logged in over TLS")
		}
		return grant{why: userOf(sess), ours: ours}, mail.Verdict{}
	case ours && sess.Role != roleRelay:
		return grant{why: why, ours: true}, mail.Verdict{}
	}
	why, refusal := s.clientRelays(sess, tr)
	if why != "" {
		return grant{why: why, ours: ours}, mail.Verdict{}
	}
	if t := s.tenantOf(sess); t != nil {
		return grant{why: "the message has to prove that it is of relay.tenant." + t.name, ours: ours, tenant: t}, mail.Verdict{}
	}
	return grant{}, refusal
}

func userOf(sess *mail.Session) string { return "user " + sess.User + " by " + sess.AuthMech }

func denied(r mail.Reply, reason string) mail.Verdict {
	v := mail.Verdict{Action: mail.Reject, Reply: r, Reason: reason}
	if r.Code/100 == 4 {
		v.Action = mail.TempFail
	}
	return v
}

// oursToRelay says why mail for a recipient is passed on, whoever sends it.
// "%" and "!" in the local part are a route to somewhere else for old mailers:
// the domain does not vouch for it. sendmail takes the route out and looks at
// what is behind; here nobody unfolds it, or two might do so differently.
func (s *Set) oursToRelay(to mail.Address, tr *access.Trace) (why string, ok bool) {
	switch {
	case to.HasHops():
		return "", false
	case to.Domain == "":
		return "postmaster", true
	}
	return s.engine.RelaysTo(access.Of(to), tr)
}

// clientRelays says why a client may send to anyone, or how it is refused.
func (s *Set) clientRelays(sess *mail.Session, tr *access.Trace) (why string, refusal mail.Verdict) {
	switch {
	case sess.User != "":
		return userOf(sess), mail.Verdict{} // the proxy lets nobody log in without TLS
	case sess.TLS != nil && sess.TLS.Relay:
		return "its certificate is in client_cert_relay: " + sess.TLS.Subject, mail.Verdict{}
	case isNobody(sess):
		return "", denied(mail.Reply{Code: 550, Detail: "7.1", Text: "Relaying denied"}, "the peer does not say for whom it speaks")
	case sess.Trusted:
		return "the client is trusted", mail.Verdict{}
	case sess.Window && sess.Role != roleRelay: // users read mail, hosts don't
		return "it has a relay window", mail.Verdict{}
	}
	if why := s.listed(sess); why != "" {
		return why, mail.Verdict{}
	}
	a := s.engine.RelaysFor(clientOf(sess), tr)
	if a.Action == mail.Accept {
		return a.Reason, mail.Verdict{}
	}
	return "", denied(a.Reply, "neither the recipient's domain nor the client may relay")
}

// isNobody reports whether a peer that speaks for others could not say for
// whom. Its address is then the peer's, and proves nothing.
func isNobody(sess *mail.Session) bool {
	return sess.Proxied.IsValid() && sess.Proxied.Unmap() == clientOf(sess).Addr
}

// listed says where the configuration names a client, by its address or by the
// name that leads there and back.
func (s *Set) listed(sess *mail.Session) (why string) {
	c := clientOf(sess)
	if c.Addr.IsValid() {
		for _, n := range s.networks {
			if n.Contains(c.Addr) {
				return "relay.networks has " + n.String()
			}
		}
	}
	if c.Name != "" {
		if l, ok := s.names.Has(c.Name); ok {
			return l.String()
		}
	}
	return ""
}

func newNames(entries []string) (access.Class, error) {
	var names access.Class
	var errs access.Problems
	for i, entry := range entries {
		errs.Note(fmt.Sprintf("relay.names[%d]", i), names.Add(access.Domains, "relay.names", entry))
	}
	return names, errs.Join()
}
