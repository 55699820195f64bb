package console

import (
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
	Done   int       `json:"done"`
	Failed []Failure `json:"failed,omitempty"`
}

// Failure is why one message was not acted on.
type Failure struct {
	ID    string `json:"id"`
	Error string `json:"error"`
}

// Apply acts on each message that the request names. One that fails does not
// keep the others.
func Apply(q Queue, action Action, req Request) Result {
	ids := req.IDs
	if req.All {
		ids = fitting(q, action)
	}
	var r Result
	for _, id := range ids {
		err := act(q, action, id)
		switch {
		case err == nil:
			r.Done++
		case req.All && errors.Is(err, spool.ErrNotFound): // delivered in the meantime
		default:
			r.Failed = append(r.Failed, Failure{ID: mail.CleanText(id), Error: reason(err)})
		}
	}
	return r
}

func act(q Queue, action Action, id string) error {
	if !mail.ValidID(id) {
		return errBadID
	}
	return q.Do(action, id)
}

var errBadID = errors.New("not a message ID")

func reason(err error) string {
	if errors.Is(err, spool.ErrNotFound) {
		return "no such message"
	}
	return err.Error()
}

// fitting lists the messages that an action on all of them means.
func fitting(q Queue, action Action) []string {
	var ids []string
	for m := range q.List() {
		held := m.Queue == "hold"
		if action == Delete || held == (action == Release) {
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
