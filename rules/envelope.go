package rules

import (
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
func (s *Set) recipient(tx *mail.Transaction, to mail.Address) mail.Verdict {
	if h, ok := s.recipientHit(to); ok {
		v := h.verdict(mail.Reply{Code: 550, Detail: "2.1", Text: "Mailbox disabled for this recipient"})
		if v.Action >= mail.TempFail {
			return v
		}
	}
	if via := tx.Session.Via; via == mail.ViaMilter || via == mail.ViaScan {
		return mail.Verdict{}
	}
	return s.relay(tx, to)
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
