package filters

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"gatepost/internal/mail"
)

// Finisher changes or signs a message after the verdict, when nothing else of it
// changes any more.
type Finisher interface {
	// Finish is asked about a message that is delivered or held under v. tx
	// shows the message and its envelope as v has made them; the edits name
	// its fields. It is never asked about mail that waits for a filter.
	//
	// After an error the message is put off; after a *HoldError it is held.
	Finish(ctx context.Context, tx *mail.Transaction, v mail.Verdict) ([]mail.Edit, error)
}

// MessageFinisher is a Finisher that remembers something from one copy of a
// message to the next.
type MessageFinisher interface {
	Finisher
	// For returns the Finisher for all copies of a message; given is the
	// message as it came.
	For(given *mail.Message) Finisher
}

// HoldError is why a message can't go out as the verdict wants it, and is for
// somebody to look at.
type HoldError struct{ Reason string }

func (e *HoldError) Error() string { return e.Reason }

// finished is one copy of a message, for all recipients who get the same bytes.
type finished struct{ before, after mail.Verdict }

// finish asks the finishers about each copy of the message that there will be.
func (h *hearing) finish(ctx context.Context, v mail.Verdict, given *mail.Message) mail.Verdict {
	if h.tx.Stage != mail.StageMessage || len(h.m.cfg.Finishers) == 0 {
		return v
	}
	finishers := slices.Clone(h.m.cfg.Finishers)
	for i, f := range finishers {
		if f, ok := f.(MessageFinisher); ok {
			finishers[i] = f.For(given)
		}
	}
	var copies []finished
	one := func(v mail.Verdict) (mail.Verdict, error) {
		for _, c := range copies {
			if isSameCopy(c.before, v) {
				v.Alter, v.Edits = nil, c.after.Edits
				if c.after.Action != c.before.Action { // can't go out so
					v.Action, v.Reason = c.after.Action, c.after.Reason
				}
				return v, nil
			}
		}
		after, err := h.finishCopy(ctx, finishers, v, given)
		copies = append(copies, finished{v, after})
		return after, err
	}
	v, err := eachCopy(v, one)
	if err != nil {
		h.m.log.ErrorContext(ctx, "message not finished", "id", h.tx.ID, "error", err)
		return mail.Verdict{Action: mail.TempFail, Reply: mail.Reply{Code: 451, Detail: "3.0", Text: "The message could not be processed; please try again later"}, Reason: err.Error(), Rules: v.Rules, Generation: v.Generation}
	}
	return v
}

// eachCopy makes a verdict of what do makes of its parts.
func eachCopy(v mail.Verdict, do func(mail.Verdict) (mail.Verdict, error)) (mail.Verdict, error) {
	if len(v.Recipients) == 0 {
		return do(v)
	}
	var errs []error
	all := make([]mail.Verdict, len(v.Recipients))
	strongest := 0
	for i, r := range v.Recipients {
		var err error
		if all[i], err = do(r); err != nil {
			errs = append(errs, err)
		}
		if all[i].Action > all[strongest].Action {
			strongest = i
		}
	}
	one := all[strongest]
	v.Action, v.Reply, v.Reason, v.Close = one.Action, one.Reply, one.Reason, one.Close
	v.Edits, v.Alter, v.Unscanned, v.Recipients = one.Edits, one.Alter, one.Unscanned, all
	return v, errors.Join(errs...)
}

// isSameCopy reports whether two recipients get the same bytes.
func isSameCopy(a, b mail.Verdict) bool {
	return a.Action == b.Action && a.Unscanned == b.Unscanned && reflect.DeepEqual(a.Alter, b.Alter) && reflect.DeepEqual(a.Edits, b.Edits)
}

// finishCopy asks all about one copy; each sees what those before it made.
func (h *hearing) finishCopy(ctx context.Context, finishers []Finisher, v mail.Verdict, given *mail.Message) (mail.Verdict, error) {
	if v.Action >= mail.TempFail || v.Action == mail.Discard || v.Unscanned != "" {
		v.Alter = nil
		return v, nil
	}
	for _, f := range finishers {
		view := *h.tx
		view.Envelope, view.Message = mail.Apply(h.given, given, v.Edits)
		edits, err := f.Finish(ctx, &view, v)
		var hold *HoldError
		switch {
		case errors.As(err, &hold):
			v.Action, v.Reply, v.Reason = mail.Quarantine, mail.Reply{}, hold.Reason
			continue
		case err != nil:
			return v, err
		case len(edits) == 0:
			continue
		}
		l := newLedger(given.Header)
		l.add(v.Edits)
		v.Edits = l.with(edits)
	}
	v.Alter = nil
	return v, nil
}
