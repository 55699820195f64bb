package filters

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"gatepost/internal/mail"
)

// OnError is what becomes of a message when a filter could not tell.
type OnError string

// The words for OnError.
const (
	TempFail   OnError = "tempfail"   // 451: the client comes again. The default.
	Continue   OnError = "continue"   // as if the filter were not there
	Quarantine OnError = "quarantine" // accept and hold
	Refuse     OnError = "refuse"     // 421 at connect while the filter is down, else as tempfail
	Hold       OnError = "hold"       // accept and keep; judge it when the filter is back
)

// Validate refuses unknown words.
func (o OnError) Validate() error {
	switch o {
	case "", TempFail, Continue, Quarantine, Refuse, Hold:
		return nil
	}
	return fmt.Errorf("on_error: %q is not one of tempfail, continue, quarantine, refuse, hold", string(o))
}

var (
	errDown     = errors.New("down")
	errTimeout  = errors.New("no answer in time")
	errPanic    = errors.New("panic")
	errNoTurn   = errors.New("no free turn within the deadline")
	errNoRights = errors.New("edits from a filter that may not modify")
)

// resultOf names an error for the Observer.
func resultOf(err error) string {
	switch {
	case err == nil:
		return ResultOK
	case errors.Is(err, errPanic):
		return ResultPanic
	case errors.Is(err, errDown):
		return ResultDown
	case errors.Is(err, errTimeout), errors.Is(err, errNoTurn), errors.Is(err, context.DeadlineExceeded):
		return ResultTimeout
	}
	return ResultError
}

// onError is what a failure of s means at the stage of tx: the listener's word,
// or the step's for this stage, or its word for all. Where nothing can be held,
// hold means tempfail.
func (m *Multiplexer) onError(s *step, tx *mail.Transaction) OnError {
	listener := ""
	if tx.Session != nil {
		listener = tx.Session.Listener
	}
	word := cmp.Or(m.cfg.OnErrorByListener[listener], s.OnErrorAt[tx.Stage], s.OnError)
	if word == Hold && slices.Contains(m.cfg.NoHold, listener) {
		return TempFail
	}
	return word
}

// failed is the finding that a filter could not tell.
func failed(step string, word OnError, err error) mail.Finding {
	return mail.Finding{Filter: step, Name: mail.FindingFailed, Value: string(word), Text: mail.CleanText(err.Error())}
}

// The client is not told which filter failed: that is for the log.
const (
	textLater  = "Message could not be checked, please try again later"
	textClosed = "Mail can not be checked now, please try again later"
)

// failureVerdict is what one failure asks for. One that holds the message is
// without consequence until the end of the message (see unscanned).
func failureVerdict(f mail.Finding) mail.Verdict {
	reason := fmt.Sprintf("%s could not tell (on_error = %s): %s", f.Filter, f.Value, f.Text)
	switch OnError(f.Value) {
	case Continue, Hold:
		return mail.Verdict{}
	case Quarantine:
		return mail.Verdict{Action: mail.Quarantine, Reason: reason, Kind: mail.HeldUnscanned}
	}
	return mail.Verdict{Action: mail.TempFail, Reply: mail.Reply{Code: 451, Detail: "7.1", Text: textLater}, Reason: reason}
}

// refused is the answer at connect while a filter with on_error = "refuse" is
// down.
func refused(step string) mail.Verdict {
	return mail.Verdict{
		Action: mail.TempFail,
		Reply:  mail.Reply{Code: 421, Detail: "3.2", Text: textClosed},
		Reason: step + " is down (on_error = refuse)",
	}
}

// unanswered is the verdict when judging itself broke.
func unanswered(reason string) mail.Verdict {
	return mail.Verdict{Action: mail.TempFail, Reply: mail.Reply{Code: 451, Detail: "3.0", Text: textLater}, Reason: reason}
}

// withFailures returns the stronger of a verdict and of what the failures ask
// for, for every recipient. A clean Reject stands whatever failed.
func withFailures(v mail.Verdict, failures []mail.Finding) mail.Verdict {
	var worst mail.Verdict
	for _, f := range failures {
		if fv := failureVerdict(f); fv.Action > worst.Action {
			worst = fv
		}
	}
	return strengthen(v, worst)
}

// stronger returns v, or v with the answer of worst where that is stronger. The
// edits stay: what is held has them.
func stronger(v, worst mail.Verdict) mail.Verdict {
	if worst.Action > v.Action {
		v.Action, v.Reply, v.Reason = worst.Action, worst.Reply, worst.Reason
	}
	return v
}

// delivers reports whether v lets the message through to anybody.
func delivers(v mail.Verdict) bool {
	return v.Action.Delivers() || slices.ContainsFunc(v.Recipients, func(r mail.Verdict) bool { return r.Action.Delivers() })
}
