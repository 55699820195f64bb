package console

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// Action is what can be done with messages of the queue.
type Action string

// The actions.
const (
	Retry   Action = "retry"   // try the delivery now
	Hold    Action = "hold"    // keep until somebody decides
	Unhold  Action = "unhold"  // takes Hold back
	Release Action = "release" // out of hold, whoever holds it
	Move    Action = "move"    // to another lane
	Delete  Action = "delete"  // remove without telling the sender
	Bounce  Action = "bounce"  // give up, as if the next hop had refused
	Expire  Action = "expire"  // give up, as if it were too old
)

// Actions lists all of them.
func Actions() []Action { return []Action{Retry, Hold, Unhold, Release, Move, Delete, Bounce, Expire} }

// Validate refuses what is no action.
func (a Action) Validate() error {
	if slices.Contains(Actions(), a) {
		return nil
	}
	return fmt.Errorf("console: no action %q", string(a))
}

// Request says which messages an action is for: those of IDs and of Filter
// where both are given, those of one of them, or all. Without any of the three
// it is for none.
type Request struct {
	IDs    []string `json:"ids,omitempty"`
	Filter Filter   `json:"filter,omitzero"`
	All    bool     `json:"all,omitempty"`

	Lane      string `json:"lane,omitempty"`      // of Move: slow or retry
	Unscanned bool   `json:"unscanned,omitempty"` // Release also takes what filters have not judged yet
	Limit     int    `json:"limit,omitempty"`     // act on so many, the first ones; 0: on all
	Bound     int    `json:"bound,omitempty"`     // refuse to act on more than so many; 0: no bound
	DryRun    bool   `json:"dry_run,omitempty"`   // choose, and do nothing
}

// Result is what became of a Request.
type Result struct {
	DryRun bool `json:"dry_run,omitempty"`
	Chosen int  `json:"chosen"`
	Done   int  `json:"done"`
	More   bool `json:"more,omitempty"` // more were chosen than the limit allows
	// Failures counts those that are named and were not done, and Failed says
	// why for the first of them.
	Failures int      `json:"failures,omitempty"`
	Failed   []string `json:"failed,omitempty"`
}

// mostReasons is how many failures are told in words.
const mostReasons = 1000

func (r *Result) fail(err error) {
	if r.Failures++; len(r.Failed) < mostReasons {
		r.Failed = append(r.Failed, err.Error())
	}
}

// ErrTooMany is the refusal to act on more messages than Request.Bound.
var ErrTooMany = errors.New("too many messages")

// chunk is how many messages are acted on at a time. What is done is durable
// after each, and nothing goes on when the one who asked is gone.
const chunk = 1000

// Apply acts on each message that the request chooses. One that fails does not
// keep the others. In a dry run it shows them instead.
func Apply(ctx context.Context, q Queue, a Action, req Request, show func(Message) error) (Result, error) {
	if err := req.validate(a); err != nil {
		return Result{}, err
	}
	r := Result{DryRun: req.DryRun}
	ids, err := choose(q, a, req, &r, show)
	if err != nil || req.DryRun {
		return r, err
	}
	if req.Bound > 0 && r.Chosen > req.Bound {
		return Result{}, fmt.Errorf("%w: %d, and more than %d need a word more", ErrTooMany, r.Chosen, req.Bound)
	}
	for part := range slices.Chunk(ids, chunk) {
		if err := ctx.Err(); err != nil {
			return r, fmt.Errorf("console: %s: stopped after %d messages: %w", a, r.Done, err)
		}
		done, err := q.Apply(ctx, a, req.Lane, part)
		r.Done += done
		for _, e := range each(err) {
			if !req.named() && errors.Is(e, spool.ErrNotFound) {
				continue // it went while we looked
			}
			r.fail(e)
		}
	}
	return r, nil
}

// named reports whether each message was asked for by its name, so that one
// that is not done is a failure.
func (r *Request) named() bool { return len(r.IDs) > 0 && r.Filter.IsZero() }

func (r *Request) validate(a Action) error {
	if err := a.Validate(); err != nil {
		return err
	}
	if a == Move && r.Lane != Slow && r.Lane != Waiting {
		return fmt.Errorf("move: lane %q: want slow or retry", r.Lane)
	}
	if len(r.Filter.IDs) > 0 {
		return errors.New("the IDs do not belong into the filter")
	}
	if r.Limit < 0 || r.Bound < 0 {
		return errors.New("limits are not negative")
	}
	return r.Filter.Validate()
}

// choose lists the messages that a request means and its action fits.
func choose(q Queue, a Action, req Request, r *Result, show func(Message) error) (ids []string, err error) {
	if len(req.IDs) == 0 && req.Filter.IsZero() && !req.All {
		return nil, nil
	}
	f := req.Filter
	for _, id := range req.IDs {
		if mail.ValidID(id) {
			f.IDs = append(f.IDs, id)
		} else {
			r.fail(badID(id))
		}
	}
	if len(req.IDs) > 0 && len(f.IDs) == 0 {
		return nil, nil
	}
	missing := f.IDs
	for m := range q.List(f) {
		if req.named() {
			missing = r.skipTo(m.ID, missing)
		}
		if err := req.fits(a, m); err != nil {
			if req.named() {
				r.fail(err)
			}
			continue
		}
		if req.Limit > 0 && r.Chosen == req.Limit {
			r.More = true
			return ids, nil
		}
		r.Chosen++
		if !req.DryRun {
			ids = append(ids, m.ID)
		} else if err := show(m); err != nil {
			return nil, err
		}
	}
	if req.named() {
		r.skipTo("", missing)
	}
	return ids, nil
}

// skipTo fails the IDs before id, which are not in the queue, and returns those
// behind it.
func (r *Result) skipTo(id string, ids []string) []string {
	for i, missing := range ids {
		if missing == id {
			return ids[i+1:]
		}
		r.fail(fmt.Errorf("message %s: %w", missing, spool.ErrNotFound))
	}
	return nil
}

// fits says why an action is not for a message.
func (r *Request) fits(a Action, m Message) error {
	reason := ""
	switch a {
	case Release, Unhold:
		reason = r.keepsHeld(a, m)
	case Bounce, Expire:
		switch {
		case m.Quarantined:
			reason = "is in quarantine, of which its sender must not hear: delete it, or release it"
		case m.Lane == Held && !r.named() && !slices.Contains(r.Filter.Lanes, Held):
			reason = "is held"
		}
	case Retry, Hold, Move:
		switch {
		case m.Lane == Held:
			reason = "is held; release it first"
		case a == Move && m.Lane == r.Lane:
			reason = "is in the lane " + m.Lane + " already"
		case a == Move && r.Lane == Waiting && m.Lane != Slow:
			reason = "is not in the lane slow"
		}
	}
	if reason == "" {
		return nil
	}
	return fmt.Errorf("message %s %s", m.ID, reason)
}

// keepsHeld says why a message can't be let go.
func (r *Request) keepsHeld(a Action, m Message) string {
	switch {
	case m.Lane != Held:
		return "is not held"
	case m.Unscanned != "" && !r.Unscanned:
		return "waits for the judgement of " + m.Unscanned + "; without one it goes only by release --unscanned"
	case a == Unhold && !m.ByHand:
		return "is not held by hand (" + m.Reason + "); release lets it go"
	}
	return ""
}

// each takes joined errors apart.
func each(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
