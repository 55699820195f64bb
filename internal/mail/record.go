package mail

import "time"

// Asked is one question to one filter, for the record of a message.
type Asked struct {
	Filter string
	Stage  Stage
	Result string // "ok", "timeout", "down"…
	Start  time.Time
	Took   time.Duration
	Shadow bool
}

// RuleHit is a rule that matched, for the record of a message and for its
// explanation.
type RuleHit struct {
	Rule    string // its name; of a table the key that was found
	Where   string // "file:line"
	Did     string // what it did, or would have done: "reject", "score 3.5"…
	Observe bool   // it only watches
	Rcpt    Address
}
