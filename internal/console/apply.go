package console

import (
	"context"
	"errors"
	"fmt"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// Action is what can be done with messages of the queue.
type Action string

// The actions.
const (
	Retry   Action = "retry"   // try the delivery now
	Delete  Action = "delete"  // remove without telling the sender
	Release Action = "release" // out of hold, into the queue
	Hold    Action = "hold"    // keep until somebody decides
)

// Actions lists all of them.
func Actions() []Action { return []Action{Retry, Delete, Release, Hold} }

// Request names the messages of an action.
type Request struct {
	IDs []string `json:"ids,omitempty"`
	All bool     `json:"all,omitempty"` // every one that the action fits
}

// Result is what became of a Request.
type Result struct {
	Done   int      `json:"done"`
	Failed []string `json:"failed,omitempty"` // why, one for each of the others
}

// Apply acts on each message that the request names. One that fails does not
// keep the others.
func Apply(ctx context.Context, q Queue, a Action, req Request) Result {
	var r Result
	ids := req.IDs
	if req.All {
		ids = fitting(q, a)
	}
	var valid []string
	for _, id := range ids {
		if mail.ValidID(id) {
			valid = append(valid, id)
		} else {
			r.Failed = append(r.Failed, badID(id).Error())
		}
	}
	done, err := q.Apply(ctx, a, valid)
	r.Done = done
	for _, e := range each(err) {
		if req.All && errors.Is(e, spool.ErrNotFound) {
			continue // it went while we looked
		}
		r.Failed = append(r.Failed, e.Error())
	}
	return r
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

// fitting lists the messages that an action on all of them means.
func fitting(q Queue, a Action) []string {
	var ids []string
	for m := range q.List(Filter{}) {
		held := m.State == string(spool.Hold)
		if a == Delete || held == (a == Release) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// Validate refuses what is no action.
func (a Action) Validate() error {
	for _, known := range Actions() {
		if a == known {
			return nil
		}
	}
	return fmt.Errorf("console: no action %q", string(a))
}
