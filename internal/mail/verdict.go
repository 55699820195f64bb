package mail

import "time"

// Action is what becomes of a connection, a recipient or a message. A greater
// one is stronger: of several answers the greatest stands.
type Action int

// The actions, weakest first.
const (
	Continue   Action = iota // no opinion
	Accept                   // take it; the later stages are still asked
	Discard                  // answer 250 and drop it
	Quarantine               // answer 250 and hold it
	TempFail                 // answer 4xx
	Reject                   // answer 5xx
)

var actionNames = [...]string{"continue", "accept", "discard", "quarantine", "tempfail", "reject"}

func (a Action) String() string { return actionNames[a] }

// Delivers reports whether the mail reaches its recipient under a.
func (a Action) Delivers() bool { return a == Continue || a == Accept }

// Verdict is a handler's answer.
type Verdict struct {
	Action Action
	Reply  Reply    // for TempFail and Reject; a default is used when it is zero
	Reason string   // for us: log, hold, explanation. Never sent to the client.
	Kind   HeldKind // of Reason, where it may be held; "": not known
	Close  bool     // with a refusal: the connection ends behind it
	Edits  []Edit   // of the message, when it is delivered or held

	// Alter is what is to be changed in the text or the parts of a message that
	// is delivered. Who judges makes edits of it, so that a verdict that leaves
	// a Multiplexer has none.
	Alter []Alteration

	// Rules are those that matched, for the record.
	Rules []RuleHit

	// Generation is that of the rules that judged.
	Generation string

	// Listings and Notices are what rules want to be done beside: whoever has
	// the last verdict does it, once.
	Listings []Listing
	Notices  []Notice

	// Unscanned, with Quarantine, names the filters that could not tell,
	// separated by commas: the message is to be judged again when they are
	// back, and goes nowhere before.
	Unscanned string

	// Recipients, at StageMessage and where outcomes differ, has one verdict
	// for each recipient of the envelope, in its order. The fields above then
	// hold the strongest of them.
	Recipients []Verdict
}

// For returns the verdict for the i-th recipient.
func (v Verdict) For(i int) Verdict {
	if len(v.Recipients) == 0 {
		return v
	}
	return v.Recipients[i]
}

// Listing is an entry that a rule puts on a dynamic list.
type Listing struct {
	List string
	Key  string
	For  time.Duration
	Rule string // its name
}

// Notice is a mail that tells somebody of a message, for a rule.
type Notice struct {
	To    Address
	Rule  string // its name
	Where string // "file:line"
	Rcpts []Address
}
