package rules

import (
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/rules/access"
)

// connect is sendmail's check_relay: what the access map says of the client.
// With delay_checks it is said at RCPT.
func (s *Set) connect(sess *mail.Session, tr *access.Trace) mail.Verdict {
	if s.delays() {
		return mail.Verdict{}
	}
	return s.client(sess, tr)
}

func (s *Set) client(sess *mail.Session, tr *access.Trace) mail.Verdict {
	h, ok := s.engine.ClientHit(clientOf(sess), tr)
	if !ok {
		return mail.Verdict{}
	}
	return verdictOf(h, mail.Reply{Code: 550, Detail: "7.1", Text: "Access denied"})
}

// clientOf is the client as the access map knows it.
func clientOf(sess *mail.Session) access.Client {
	return access.Client{
		Addr: sess.Client.Addr().Unmap().WithZone(""),
		Name: sess.Name, Resolve: sess.Resolve,
	}
}

// mailFrom is sendmail's check_mail: TLS_Clt: first, then what the access map
// says of the sender, which with delay_checks is said at RCPT. The null sender
// always passes.
func (s *Set) mailFrom(sess *mail.Session, from mail.Address, tr *access.Trace) mail.Verdict {
	if v := s.clientTLS(sess, tr); v.Action >= mail.TempFail || s.delays() {
		return v
	}
	return s.sender(from, tr)
}

func (s *Set) sender(from mail.Address, tr *access.Trace) mail.Verdict {
	if from.IsNull() {
		return mail.Verdict{Action: mail.Accept}
	}
	h, ok := s.engine.SenderHit(access.Of(from), tr)
	if !ok {
		return mail.Verdict{}
	}
	return verdictOf(h, mail.Reply{Code: 550, Detail: "7.1", Text: "Access denied"})
}

// clientTLS refuses clients that do not bring the TLS that their line wants.
// What an MTA that asks us saw of a certificate, it judges itself.
func (s *Set) clientTLS(sess *mail.Session, tr *access.Trace) mail.Verdict {
	if sess.Via != mail.ViaSMTP {
		return mail.Verdict{}
	}
	c := clientOf(sess)
	r, h, ok := s.engine.Table.Requirement(c, tr)
	if !ok {
		return mail.Verdict{}
	}
	v := mail.Verdict{Reply: r.Check(c, tlsState(sess.TLS)), Reason: h.String()}
	switch {
	case v.Reply.IsZero():
		return mail.Verdict{}
	case r.Permanent:
		v.Action = mail.Reject
	default:
		v.Action = mail.TempFail
	}
	return v
}

func tlsState(t *mail.TLS) access.TLSState {
	if t == nil {
		return access.TLSState{}
	}
	return access.TLSState{On: true, Verified: t.Verified, Bits: cipherBits(t.Cipher), CN: commonName(t.Subject), Subject: t.Subject}
}

// commonName reads CN out of a subject (RFC 4514). One with an escape in it is
// not read: a comma in a name must not begin another one.
func commonName(subject string) string {
	if strings.ContainsAny(subject, `\"+`) {
		return ""
	}
	for _, part := range strings.Split(subject, ",") {
		if cn, ok := strings.CutPrefix(part, "CN="); ok {
			return cn
		}
	}
	return ""
}

// cipherBits reads the strength out of the name of a cipher suite.
func cipherBits(name string) int {
	if strings.Contains(name, "CHACHA20") {
		return 256
	}
	for _, word := range strings.Split(name, "_") {
		if n, err := strconv.Atoi(word); err == nil && n >= 40 {
			return n
		}
	}
	return 0
}

// delays reports whether clients and senders are judged at RCPT.
func (s *Set) delays() bool { return s.engine.DelayChecks.On() }

// recipient is sendmail's check_rcpt: the access map may block the recipient,
// then the relay decision follows, unless an MTA asks us that makes its own.
//
// Unlike in sendmail DISCARD and QUARANTINE do not open the relay, and are for
// this recipient alone. So they are no answer to RCPT, which would be taken for
// the whole message; they are given when the message is judged.
func (s *Set) recipient(tx *mail.Transaction, to mail.Address, tr *access.Trace) mail.Verdict {
	if h, ok := s.engine.RecipientHit(access.Of(to), tr); ok {
		v := verdictOf(h, mail.Reply{Code: 550, Detail: "2.1", Text: "Mailbox disabled for this recipient"})
		if v.Action >= mail.TempFail {
			return v
		}
	}
	v := mail.Verdict{}
	if via := tx.Session.Via; via != mail.ViaMilter && via != mail.ViaScan {
		if v = s.relay(tx, to, tr); v.Action >= mail.TempFail {
			return v
		}
	}
	if d := s.delayed(tx, to, tr); d.Action >= mail.TempFail {
		return d
	}
	return v
}

// delayed is what delay_checks left for RCPT: the sender, and the client where
// nothing lets the sender pass. Who is logged in, or is a friend of spam, has
// nothing to fear of either.
func (s *Set) delayed(tx *mail.Transaction, to mail.Address, tr *access.Trace) mail.Verdict {
	if !s.delays() || tx.Session.User != "" {
		return mail.Verdict{}
	}
	if word, ok := s.engine.Excused(access.Of(to), tr); ok {
		return mail.Verdict{Action: mail.Accept, Reason: "relay.delay_checks: " + word}
	}
	from := tx.Envelope.Sender.Address
	if v := s.sender(from, tr); v.Action != mail.Continue && !from.IsNull() {
		return v
	}
	return s.client(tx.Session, tr)
}

// spoken are the lines that speak of a message, whoever gets it.
type spoken struct{ client, sender *access.Hit }

func (s *Set) spokenOf(tx *mail.Transaction) spoken {
	var m spoken
	if h, ok := s.engine.ClientHit(clientOf(tx.Session), nil); ok {
		m.client = &h
	}
	if from := tx.Envelope.Sender.Address; !from.IsNull() {
		if h, ok := s.engine.SenderHit(access.Of(from), nil); ok {
			m.sender = &h
		}
	}
	return m
}

// hits are the lines that speak of a message for one recipient.
func (s *Set) hits(tx *mail.Transaction, m spoken, to mail.Address) []access.Hit {
	if s.delays() {
		_, excused := s.engine.Excused(access.Of(to), nil)
		if excused || tx.Session.User != "" {
			m = spoken{}
		}
		if m.sender != nil {
			m.client = nil
		}
	}
	var all []access.Hit
	for _, h := range []*access.Hit{m.client, m.sender} {
		if h != nil {
			all = append(all, *h)
		}
	}
	if h, ok := s.engine.RecipientHit(access.Of(to), nil); ok {
		all = append(all, h)
	}
	return all
}

// verdictOf says what a line means; denied is the reply of REJECT.
func verdictOf(h access.Hit, denied mail.Reply) mail.Verdict {
	v := mail.Verdict{Reason: h.String()}
	switch h.Says {
	case access.OK, access.RELAY:
		v.Action = mail.Accept
	case access.REJECT:
		v.Action, v.Reply = mail.Reject, denied
	case access.DISCARD:
		v.Action = mail.Discard
	case access.QUARANTINE:
		v.Action, v.Kind = mail.Quarantine, mail.HeldRule
	case access.ANSWER:
		v.Action, v.Reply = mail.Reject, h.Reply
		if h.Reply.Code < 500 {
			v.Action = mail.TempFail
		}
	}
	return v
}
