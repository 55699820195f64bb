package rules

import "gatepost/internal/mail"

// AmbiguousAction is what is done with a message that mail programs read in
// different ways, so that a filter may have seen something else than the
// recipient will.
type AmbiguousAction string

// The values of policy.ambiguous.
const (
	AmbiguousQuarantine AmbiguousAction = "quarantine" // accept and hold
	AmbiguousTag        AmbiguousAction = "tag"        // let it pass with X-Gatepost-Ambiguous
	AmbiguousContinue   AmbiguousAction = "continue"   // let it pass
	AmbiguousReject     AmbiguousAction = "reject"     // refuse in the session
)

// Validate refuses unknown words.
func (a AmbiguousAction) Validate() error {
	return oneOf(a, AmbiguousQuarantine, AmbiguousTag, AmbiguousContinue, AmbiguousReject)
}

// judgeAmbiguous does what is done with a message that has several readings.
func (l limits) judgeAmbiguous(e evidence, m marks) outcome {
	o := outcome{action: mail.Accept, marks: m}
	if e.ambiguous == "" {
		return o
	}
	o.reason, o.kind = "ambiguous: "+e.ambiguous+l.of, mail.HeldAmbiguous
	switch l.ambiguous {
	case AmbiguousContinue:
	case AmbiguousTag:
		o.marks.ambiguous = true
	case AmbiguousReject:
		o.action = mail.Reject
		o.reply = mail.Reply{Code: 550, Detail: "6.0", Text: "Message refused: mail programs would read it in different ways (" + plain(e.ambiguous, "MIME") + ")"}
	default:
		o.action = mail.Quarantine
	}
	return o
}
