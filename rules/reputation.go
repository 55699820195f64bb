package rules

import (
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/rules/access"
)

// Reputation is what the policy makes of findings about who sends.
type Reputation struct {
	DNSBL    ListedAction `toml:"dnsbl"`    // lists with reject = true; default "reject"
	Greylist PutOffAction `toml:"greylist"` // default "tempfail"
	Rates    PutOffAction `toml:"rates"`    // default "tempfail"
	Blocked  PutOffAction `toml:"blocked"`  // clients on our own blocklist; default "tempfail"
}

// ListedAction is what is done with recipients of a client, or a mail, that a
// DNS list has which may refuse.
type ListedAction string

// The values of policy.dnsbl.
const (
	ListedReject   ListedAction = "reject"   // 550 to each recipient but postmaster and abuse
	ListedTempFail ListedAction = "tempfail" // 451 in the place of 550
	ListedContinue ListedAction = "continue" // only the score counts
)

// Validate refuses unknown words.
func (a ListedAction) Validate() error { return oneOf(a, ListedReject, ListedTempFail, ListedContinue) }

// PutOffAction is what is done with what is not to come now.
type PutOffAction string

// The values of policy.greylist, policy.rates and policy.blocked.
const (
	PutOffTempFail PutOffAction = "tempfail" // 421, 450 or 452
	PutOffContinue PutOffAction = "continue" // let it pass: to try it out
)

// Validate refuses unknown words.
func (a PutOffAction) Validate() error { return oneOf(a, PutOffTempFail, PutOffContinue) }

func defaultReputation() Reputation {
	return Reputation{DNSBL: ListedReject, Greylist: PutOffTempFail, Rates: PutOffTempFail, Blocked: PutOffTempFail}
}

// reputed is v, or what the findings about who sends make of it. They refuse
// nobody for whom the access map speaks, as in sendmail, and open nothing.
func (s *Set) reputed(tx *mail.Transaction, rcpt *mail.Path, v mail.Verdict) mail.Verdict {
	if len(tx.Findings) == 0 || v.Action >= mail.TempFail || s.vouched(tx, rcpt) {
		return v
	}
	var w mail.Verdict
	switch tx.Stage {
	case mail.StageConnect:
		w = s.reputation.atConnect(tx)
	case mail.StageMail:
		w = s.reputation.rate(tx, mail.RateMessages, mail.Address{})
	case mail.StageRcpt:
		if w = s.denies(tx, rcpt.Address); w.Action < mail.TempFail {
			w = s.reputation.atRcpt(tx, rcpt.Address)
		}
	case mail.StageMessage:
		if len(tx.Find(mail.FindingVirus)) == 0 { // a virus decides alone
			w = s.reputation.rate(tx, mail.RateBytes, mail.Address{})
		}
	}
	if w.Action >= mail.TempFail {
		w.Rules = v.Rules
		return w
	}
	return v
}

// vouched reports whether the access map has a word for the client: OK or RELAY
// end sendmail's check_relay before lists and limits. With delay_checks so does
// one for the sender, and who is a friend of spam is asked about neither.
func (s *Set) vouched(tx *mail.Transaction, rcpt *mail.Path) bool {
	if s.Vouches(tx.Session) {
		return true
	}
	if !s.delays() || tx.Stage < mail.StageMail {
		return false
	}
	if rcpt != nil {
		if _, ok := s.engine.Excused(access.Of(rcpt.Address), nil); ok {
			return true
		}
	}
	from := tx.Envelope.Sender.Address
	if from.IsNull() {
		return false
	}
	h, ok := s.engine.SenderHit(access.Of(from), nil)
	return ok && (h.Says == access.OK || h.Says == access.RELAY)
}

// Vouches reports whether the access map has a word for a client.
func (s *Set) Vouches(sess *mail.Session) bool {
	h, ok := s.engine.ClientHit(clientOf(sess), nil)
	return ok && (h.Says == access.OK || h.Says == access.RELAY)
}

// judged are the findings that count for a message: of a client for whom the
// access map speaks, none about who sends.
func (s *Set) judged(tx *mail.Transaction) []mail.Finding {
	if !slices.ContainsFunc(tx.Findings, isReputation) || !s.vouched(tx, nil) {
		return tx.Findings
	}
	return slices.DeleteFunc(slices.Clone(tx.Findings), isReputation)
}

func isReputation(f mail.Finding) bool {
	switch f.Name {
	case mail.FindingListed, mail.FindingDenied, mail.FindingAllowed, mail.FindingClient:
		return true
	}
	return false
}

func (r Reputation) atConnect(tx *mail.Transaction) mail.Verdict {
	if blocked := tx.Find(mail.FindingBlocked); len(blocked) > 0 && r.Blocked != PutOffContinue {
		return mail.Verdict{
			Action: mail.TempFail,
			Reply:  mail.Reply{Code: 421, Detail: "7.0", Text: "Too much unwanted mail came from your address, please try again later"},
			Reason: "blocked: " + plain(blocked[0].Value, "for no reason given"),
		}
	}
	if v := r.rate(tx, mail.RateConnections, mail.Address{}); v.Action != mail.Continue {
		return v
	}
	return r.rate(tx, mail.RateConcurrency, mail.Address{})
}

func (r Reputation) atRcpt(tx *mail.Transaction, to mail.Address) mail.Verdict {
	if v := r.denied(tx, to); v.Action != mail.Continue {
		return v
	}
	if v := r.rate(tx, mail.RateRecipients, to); v.Action != mail.Continue {
		return v
	}
	for _, f := range tx.Find(mail.FindingGreylisted) {
		if f.Rcpt == to && r.Greylist != PutOffContinue {
			return mail.Verdict{
				Action: mail.TempFail,
				Reply:  mail.Reply{Code: 450, Detail: "2.0", Text: "Greylisted, please try again in " + plain(f.Value, "a while")},
				Reason: "greylisted: " + plain(f.Text, "new"),
			}
		}
	}
	return mail.Verdict{}
}

// denied refuses for a DNS list. Who is on an allow list, too, is not refused,
// and whoever is listed can reach those who can help him.
func (r Reputation) denied(tx *mail.Transaction, to mail.Address) mail.Verdict {
	found := tx.Find(mail.FindingDenied)
	if len(found) == 0 || r.DNSBL == ListedContinue || len(tx.Find(mail.FindingAllowed)) > 0 ||
		to.IsPostmaster() || strings.EqualFold(to.Local, "abuse") {
		return mail.Verdict{}
	}
	text := longer(found[0].Text, "listed")
	v := mail.Verdict{
		Action: mail.Reject,
		Reply:  mail.Reply{Code: 550, Detail: "7.1", Text: "Service unavailable; " + text},
		Reason: "dnsbl: " + text,
	}
	if r.DNSBL == ListedTempFail {
		v.Action, v.Reply.Code = mail.TempFail, 451
	}
	return v
}

// rateReplies are sendmail's where it has them.
var rateReplies = map[string]mail.Reply{
	mail.RateConnections: {Code: 452, Detail: "3.2", Text: "Connection rate limit exceeded."},
	mail.RateConcurrency: {Code: 452, Detail: "3.2", Text: "Too many open connections."},
	mail.RateMessages:    {Code: 450, Detail: "7.1", Text: "Too many messages in a short time, please try again later"},
	mail.RateRecipients:  {Code: 452, Detail: "5.3", Text: "Too many recipients in a short time, please try again later"},
	mail.RateBytes:       {Code: 450, Detail: "7.1", Text: "Too much mail in a short time, please try again later"},
}

// rate puts off what is over that limit; to is the recipient that is asked
// about, if one is.
func (r Reputation) rate(tx *mail.Transaction, what string, to mail.Address) mail.Verdict {
	for _, f := range tx.Find(mail.FindingRate) {
		if f.Value == what && f.Rcpt == to && r.Rates != PutOffContinue {
			return mail.Verdict{Action: mail.TempFail, Reply: rateReplies[what], Reason: "rate: " + longer(f.Text, what)}
		}
	}
	return mail.Verdict{}
}

const maxLonger = 350 // runes of a text that carries a list's own words

// longer is plain for texts with an address in them that people click on.
func longer(s, empty string) string {
	s = strings.Join(strings.Fields(mail.CleanText(s)), " ")
	if r := []rune(s); len(r) > maxLonger {
		s = string(r[:maxLonger])
	}
	if s == "" {
		return empty
	}
	return s
}
