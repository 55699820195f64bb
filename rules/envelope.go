package rules

import (
	"fmt"
	"net/netip"

	"gatepost/internal/mail"
)

// connect is sendmail's check_relay: what the access map says of the client.
func (s *Set) connect(sess *mail.Session) mail.Verdict {
	h, ok := s.clientHit(sess)
	if !ok {
		return mail.Verdict{}
	}
	return h.verdict(mail.Reply{Code: 550, Detail: "7.1", Text: "Access denied"})
}

// clientHit asks for the client's name, then for its address. A client without
// a verified name has its address in brackets for a name.
func (s *Set) clientHit(sess *mail.Session) (hit, bool) {
	ip := clientAddr(sess)
	if sess.Name != "" {
		if h, ok := s.access.domain(tagConnect, sess.Name); ok {
			return h, true
		}
	} else if ip.IsValid() {
		if h, ok := s.access.address(tagConnect, ip, "[", "]"); ok {
			return h, true
		}
	}
	if !ip.IsValid() {
		return hit{}, false
	}
	return s.access.address(tagConnect, ip, "", "")
}

func clientAddr(sess *mail.Session) netip.Addr {
	return sess.Client.Addr().Unmap().WithZone("")
}

// sender is sendmail's check_mail: the null sender always passes.
func (s *Set) sender(from mail.Address) mail.Verdict {
	if from.IsNull() {
		return mail.Verdict{Action: mail.Accept}
	}
	h, ok := s.senderHit(from)
	if !ok {
		return mail.Verdict{}
	}
	return h.verdict(mail.Reply{Code: 550, Detail: "7.1", Text: "Access denied"})
}

// senderHit asks for the address, then user@, then the domain.
func (s *Set) senderHit(from mail.Address) (hit, bool) {
	domain := from.ASCIIDomain()
	if domain != "" {
		if h, ok := s.access.mailbox(tagFrom, from.Local, domain); ok {
			return h, true
		}
	}
	if h, ok := s.access.mailbox(tagFrom, from.Local, ""); ok {
		return h, true
	}
	return s.access.domain(tagFrom, domain)
}

// recipient is sendmail's check_rcpt: the access map may block the recipient,
// then the relay decision follows, unless an MTA asks us that makes its own.
//
// Unlike in sendmail DISCARD and QUARANTINE do not open the relay, and are for
// this recipient alone. So they are no answer to RCPT, which would be taken for
// the whole message; they are given when the message is judged.
func (s *Set) recipient(sess *mail.Session, to mail.Address) mail.Verdict {
	if h, ok := s.recipientHit(to); ok {
		v := h.verdict(mail.Reply{Code: 550, Detail: "2.1", Text: "Mailbox disabled for this recipient"})
		if v.Action >= mail.TempFail {
			return v
		}
	}
	if sess.Via == mail.ViaMilter || sess.Via == mail.ViaScan {
		return mail.Verdict{}
	}
	return s.relay(sess, to)
}

// recipientHit asks for the address, for user@ where the domain is ours, and
// for the domain.
func (s *Set) recipientHit(to mail.Address) (hit, bool) {
	domain := to.ASCIIDomain()
	if domain != "" {
		if h, ok := s.access.mailbox(tagTo, to.Local, domain); ok {
			return h, true
		}
	}
	if domain == "" || s.domains.contains(domain) {
		if h, ok := s.access.mailbox(tagTo, to.Local, ""); ok {
			return h, true
		}
	}
	return s.access.domain(tagTo, domain)
}

// relay decides whether we pass mail on for this recipient.
func (s *Set) relay(sess *mail.Session, to mail.Address) mail.Verdict {
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

// verdict says what a line means; denied is the reply of REJECT.
func (h hit) verdict(denied mail.Reply) mail.Verdict {
	v := mail.Verdict{Reason: h.String()}
	switch h.says {
	case saysOK, saysRelay:
		v.Action = mail.Accept
	case saysReject:
		v.Action, v.Reply = mail.Reject, denied
	case saysDiscard:
		v.Action = mail.Discard
	case saysQuarantine:
		v.Action = mail.Quarantine
	case saysReply:
		v.Action, v.Reply = mail.Reject, *h.reply
		if h.reply.Code < 500 {
			v.Action = mail.TempFail
		}
	}
	return v
}
