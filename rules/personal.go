package rules

import (
	"math"

	"gatepost/internal/mail"
)

// Personal knows the senders that recipients allow and block for themselves.
type Personal interface {
	// Find returns what a recipient says of the first of these senders that is
	// on its list; ok is false for nothing.
	Find(rcpt mail.Address, senders ...mail.Address) (sender mail.Address, allow, ok bool)
}

// wishes are what a recipient's own list makes of its limits and of the outcome.
// A sender who is allowed is spared the spam score, and nothing else: whose names
// can be forged must not open the door to what is dangerous. One who is blocked
// is held.
func (s *Set) wishes(tx *mail.Transaction, l limits, to mail.Address) (_ limits, blocked string) {
	if s.personal == nil || to.IsNull() || tx.Message == nil {
		return l, ""
	}
	var senders []mail.Address
	if author, _, ok := tx.Message.Header.Author(); ok {
		senders = append(senders, author)
	}
	if from := tx.Envelope.Sender.Address; !from.IsNull() {
		senders = append(senders, from)
	}
	sender, allow, ok := s.personal.Find(to, senders...)
	switch {
	case !ok:
		return l, ""
	case !allow:
		return l, "the recipient has blocked " + plain(sender.String(), "its sender")
	case tx.IsForgedAuthor(), deniedBySPF(tx):
		return l, ""
	}
	l.tag, l.quarantine, l.reject = math.Inf(1), math.Inf(1), math.Inf(1)
	return l, ""
}

func deniedBySPF(tx *mail.Transaction) bool {
	for _, f := range tx.Find(mail.FindingSPF) {
		if f.Value == mail.AuthFail || f.Value == mail.AuthSoftFail {
			return true
		}
	}
	return false
}

// blockedBy is o, or the hold that a recipient's list wants.
func (o outcome) blockedBy(why string) outcome {
	if why == "" || o.action >= mail.Quarantine || o.action == mail.Discard {
		return o
	}
	o.action, o.reason, o.kind = mail.Quarantine, why, mail.HeldRule
	return o
}
