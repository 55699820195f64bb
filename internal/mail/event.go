package mail

import "time"

// Event is a step in the life of a message behind its judgement, for the record
// of it.
type Event struct {
	Time  time.Time
	ID    string // of the message
	Group string // of the transaction that it came with; "" where that is ID
	What  EventKind

	Rcpt   Address       // whom an attempt was for; zero: all
	Status Status        // of EventAttempt
	Remote string        // of EventAttempt: the next hop
	Text   string        // the answer of the next hop, or why
	By     string        // of EventAsked: who
	Took   time.Duration // of EventAttempt
}

// EventKind says what happened.
type EventKind string

// The kinds of events.
const (
	EventQueued   EventKind = "queued"   // kept for delivery
	EventHeld     EventKind = "held"     // kept until somebody decides
	EventAttempt  EventKind = "attempt"  // delivery was tried
	EventReleased EventKind = "released" // no longer held
	EventMoved    EventKind = "moved"    // to another lane; Text: which
	EventNotified EventKind = "notified" // a notification to the sender was made
	EventSilent   EventKind = "silent"   // there is none; Text: why
	EventRemoved  EventKind = "removed"  // it is not kept any more; Text: why
	EventJudged   EventKind = "judged"   // once more, after a filter came back; Text: the result
	EventAsked    EventKind = "asked"    // an operator wants something; Text: what
)
