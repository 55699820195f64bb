package filters

import (
	"context"
	"time"

	"gatepost/internal/mail"
)

// Filter establishes facts about a message. An error means "I could not tell",
// never a statement about the message; what follows from it is the failure
// policy of the step.
//
// Check is called from several goroutines at a time and must end soon after ctx
// does. It gets a Transaction of its own, to read; what it finds goes into the
// Report. At StageRcpt the recipient in question is the last of the envelope.
type Filter interface {
	Check(ctx context.Context, tx *mail.Transaction) (Report, error)
}

// Pinger is a Filter that can ask its daemon whether it is there.
type Pinger interface {
	Ping(ctx context.Context) error
}

// Runner is a Filter that has something to do beside the checks: Run lives as
// long as the Multiplexer runs, until ctx ends.
type Runner interface {
	Run(ctx context.Context) error
}

// Report is what a filter found and, when its step may modify, changed. Edits
// name fields of the message that the filter was shown.
type Report struct {
	Findings []mail.Finding
	Edits    []mail.Edit
	Vote     Vote // of a filter that the operator lets decide
}

// Step is a filter in its place.
type Step struct {
	Name    string
	Filter  Filter
	Session SessionFilter // in place of Filter
	Stages  []mail.Stage  // where it wants to be asked; none: at the message
	Timeout time.Duration // of one check; 0: one minute
	OnError OnError       // "": tempfail
	// OnErrorAt replaces OnError at single stages: of the stage that is judged,
	// whenever the filter failed.
	OnErrorAt map[mail.Stage]OnError
	Modifies  bool // it may change the message and runs in its place alone
	// Prompt: its checks end soon after their ctx, whatever happens, and what
	// they wait for tells others of their group to go on (Turn). They need no
	// goroutines of their own.
	Prompt bool
	Shadow bool // its findings are recorded; nobody waits for it, and the policy isn't told

	// MaxConcurrent is how many checks run at a time; more wait their turn, on
	// the time of the message and not on the filter's. 0: 20.
	MaxConcurrent int
	Breaker       Breaker
}

// Breaker says when a filter counts as down. Its zero value has the defaults.
type Breaker struct {
	Failures int           // so many in a row trip it; 0: 3
	Probe    time.Duration // a tripped one is tried so often; 0: two seconds
}

// Policy decides. It is asked with findings in the order of the steps, never in
// the order in which they came.
type Policy interface {
	// Decide is asked at every stage, tx.Stage; rcpt is set only at
	// StageRcpt. tx.Message is the message as it will go out: without forged
	// fields, with the filters' edits. Edits of the verdict name its fields.
	// tx.Envelope is the one that the client gave.
	Decide(tx *mail.Transaction, rcpt *mail.Path) mail.Verdict
	// Settled reports that Decide would return the same action and the same
	// reply for these findings and for any others beside them.
	Settled(tx *mail.Transaction, findings []mail.Finding) bool
}

// Observer counts. It must be quick and safe for use by several goroutines.
type Observer interface {
	// Filter tells that a check ended: ResultOK and so on.
	Filter(name, result string, took time.Duration)
	// FilterUp tells that a filter's breaker closed or tripped.
	FilterUp(name string, up bool)
}

// How a check ended, for the Observer.
const (
	ResultOK        = "ok"
	ResultError     = "error"
	ResultTimeout   = "timeout"
	ResultPanic     = "panic"
	ResultDown      = "down"      // the breaker was open: not even asked
	ResultCancelled = "cancelled" // its answer was not needed any more
)
