package mail

import "time"

// Stage is where in the SMTP dialogue a question is asked.
type Stage int

// The stages, in order.
const (
	StageConnect Stage = iota
	StageHelo
	StageMail
	StageRcpt
	StageData
	StageMessage
)

var stageNames = [...]string{"connect", "helo", "mail", "rcpt", "data", "message"}

func (s Stage) String() string { return stageNames[s] }

// Transaction is one mail on its way through the dialogue. Up to StageHelo it
// has only a session, from StageMail on an ID and a sender.
type Transaction struct {
	ID       string
	Stage    Stage
	Session  *Session
	Envelope Envelope // the recipients that were accepted so far
	Message  *Message // nil before StageMessage
	Findings []Finding
	Start    time.Time

	// Original is the message as it came, with the fields that were forged in our
	// name: what signatures are over. nil where it is Message.
	Original *Message

	Inside *Inside // at StageMessage, where somebody wants it; never changed
	Asked  []Asked // for the record: the filters, in the order of their answers
}

// Finding is a fact that a filter established. It says nothing of what to do.
type Finding struct {
	Filter string
	Name   string  // what kind of fact, from the constants below or the filter's own
	Value  string  // the fact: a virus name, a rule name
	Score  float64 // what it adds to the score of the message
	Text   string  // for people: why, where, how much
	Rcpt   Address // the recipient that it is about; zero for all of the mail
	Part   string  // the path of the part that it is about, as in Inside; "" for none
	List   string  // the operator's list that says so; "" for none
}

// Names of findings that the policy knows.
const (
	FindingVirus      = "virus"       // Value: the signature's name
	FindingSpamScore  = "score"       // Score: the scanner's own total
	FindingSpamRule   = "rule"        // Value: the rule's name, Text: its own score
	FindingNotScanned = "not-scanned" // Value: why the filter could not look inside; asking again would not help
	FindingPartial    = "partial"     // Value: how much of the message was judged
	FindingAmbiguous  = "ambiguous"   // Value: why mail programs would see different things in the message
	FindingClean      = "clean"       // the filter looked at all of it and found nothing
	FindingFailed     = "failed"      // Value: what its failure policy says, Text: the error
	FindingReport     = "report"      // Text: the scanner's own account, some lines long; only for explanations
	FindingScoreFor   = "score-for"   // Value: the scanner's total for Rcpt, whose own settings it used; the highest is its FindingSpamScore
)

// Score is the sum of all findings' scores.
func (t *Transaction) Score() float64 {
	var sum float64
	for _, f := range t.Findings {
		sum += f.Score
	}
	return sum
}

// Find returns the findings of that name.
func (t *Transaction) Find(name string) []Finding {
	var found []Finding
	for _, f := range t.Findings {
		if f.Name == name {
			found = append(found, f)
		}
	}
	return found
}
