package rules

import (
	"time"

	"gatepost/internal/mail"
	"gatepost/rules/access"
)

// Explain is Decide for a stage of the envelope, with every key of the access
// map and every list that was asked on the way, in order.
func (s *Set) Explain(tx *mail.Transaction, rcpt *mail.Path) (mail.Verdict, []access.Try) {
	tr := &access.Trace{}
	return s.decide(tx, rcpt, tr), tr.Tried
}

// Later is what the access map says of a recipient's mail at its end: the lines
// with DISCARD and QUARANTINE, which are no answer to RCPT.
func (s *Set) Later(tx *mail.Transaction, to mail.Address) []string {
	var all []string
	for _, h := range s.hits(tx, s.spokenOf(tx), to) {
		if h.Says == access.DISCARD || h.Says == access.QUARANTINE {
			all = append(all, h.String())
		}
	}
	return all
}

// Sendmail is the engine that answers as sendmail would with the same tables,
// without what this package is more careful in.
func (s *Set) Sendmail() access.Engine { return s.engine }

// Lookup searches the access map for one key.
func (s *Set) Lookup(key string) ([]access.Result, error) { return s.engine.Table.Lookup(key) }

// GreetPause is how long the access map has a client wait for the greeting; why
// names the line.
func (s *Set) GreetPause(sess *mail.Session) (pause time.Duration, why string, ok bool) {
	d, h, ok := s.engine.Table.Pause(clientOf(sess), nil)
	if !ok {
		return 0, "", false
	}
	return d, h.String(), true
}
