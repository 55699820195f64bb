package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// RuleBook changes the rules of the gateway.
type RuleBook interface {
	ApplyRules(ctx context.Context, who string, c RuleChange) (RuleChanged, error)
	RollBackRules(ctx context.Context, who string, c RuleChange) (RuleChanged, error)
	// RuleLog is who changed what, the newest first; RuleGenerations are those
	// that can be gone back to. Both are made for JSON.
	RuleLog(most int) (any, error)
	RuleGenerations() (any, error)
	// Rehearse tells what other rules would have made of recorded mail.
	Rehearse(ctx context.Context, c Rehearsal) (any, error)
	ChangeList(ctx context.Context, who string, c ListChange) (ListChanged, error)
	// List reads a managed list.
	List(name string) (ManagedList, error)
}

// RuleChange asks for other rules.
type RuleChange struct {
	// Files are paths on the gateway's host; only the control socket takes them.
	// Without any, what the configuration names is read again.
	Files  []string `json:"files,omitempty"`
	Reason string   `json:"reason"`
	Force  bool     `json:"force,omitempty"`
	Number int      `json:"number,omitempty"` // to go back to; 0: the one before
}

// RuleChanged is what became of it.
type RuleChanged struct {
	Number  int      `json:"number"` // 0: there was nothing to change
	Name    string   `json:"name"`
	Changes []string `json:"changes"`
}

// Rehearsal asks for one.
type Rehearsal struct {
	Files []string  `json:"files,omitempty"` // as those of RuleChange
	Since time.Time `json:"since,omitzero"`
}

// ListChange adds entries to a managed list, or takes some from it.
type ListChange struct {
	Name   string      `json:"name"`
	Type   string      `json:"type,omitempty"` // refused where the list has another
	Add    []ListEntry `json:"add,omitempty"`
	Drop   []string    `json:"drop,omitempty"`
	Until  time.Time   `json:"until,omitzero"` // of entries without one of their own
	Source string      `json:"source,omitempty"`
	Ticket string      `json:"ticket,omitempty"`
	Note   string      `json:"note,omitempty"`
	Reason string      `json:"reason,omitempty"`
}

// ListEntry is one entry, as people wrote it.
type ListEntry struct {
	Value string    `json:"value"`
	Until time.Time `json:"until,omitzero"`
	Note  string    `json:"note,omitempty"`
}

// ListChanged is what became of it.
type ListChanged struct {
	RuleChanged
	Added   int      `json:"added"`
	Renewed int      `json:"renewed"` // they were there; what is said of them is new
	Dropped int      `json:"dropped"`
	Expired int      `json:"expired"` // they had ended, and were removed
	Wrong   []string `json:"wrong"`   // where there are some, nothing was done
}

// ManagedList is a list that commands fill.
type ManagedList struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Where   string   `json:"where"`
	Entries []string `json:"entries"` // lines of its file
}

func (c *Control) handleRuleBook() {
	b := c.deps.RuleBook
	if b == nil {
		return
	}
	c.route("POST /v1/rules/apply", EditRules, func(w http.ResponseWriter, r *http.Request) {
		ruleRequest(w, r, func(id Identity, req RuleChange) (any, error) {
			if len(req.Files) > 0 && !id.local() {
				return nil, errFiles
			}
			if req.Reason == "" {
				return nil, errReason
			}
			return b.ApplyRules(r.Context(), id.Name, req)
		})
	})
	c.route("POST /v1/rules/rollback", EditRules, func(w http.ResponseWriter, r *http.Request) {
		ruleRequest(w, r, func(id Identity, req RuleChange) (any, error) {
			if req.Reason == "" {
				return nil, errReason
			}
			return b.RollBackRules(r.Context(), id.Name, req)
		})
	})
	c.route("POST /v1/rules/rehearse", EditRules, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // it ends when the client goes
		ruleRequest(w, r, func(id Identity, req Rehearsal) (any, error) {
			if len(req.Files) > 0 && !id.local() {
				return nil, errFiles
			}
			if !id.SeesAll() {
				return nil, errOwnMail
			}
			return b.Rehearse(r.Context(), req)
		})
	})
	c.route("GET /v1/rules/log", ViewSystem, func(w http.ResponseWriter, _ *http.Request) {
		log, err := b.RuleLog(1000)
		ruleAnswer(w, map[string]any{"entries": log}, err)
	})
	c.route("GET /v1/rules/generations", ViewSystem, func(w http.ResponseWriter, _ *http.Request) {
		all, err := b.RuleGenerations()
		ruleAnswer(w, map[string]any{"generations": all}, err)
	})
	c.route("POST /v1/lists/change", EditRules, func(w http.ResponseWriter, r *http.Request) {
		ruleRequest(w, r, func(id Identity, req ListChange) (any, error) { return b.ChangeList(r.Context(), id.Name, req) })
	})
	c.route("GET /v1/lists/{name}", ViewSystem, func(w http.ResponseWriter, r *http.Request) {
		l, err := b.List(r.PathValue("name"))
		ruleAnswer(w, l, err)
	})
}

var (
	errFiles   = errors.New("files on the gateway's host are read for its control socket alone")
	errReason  = errors.New("a reason is missing")
	errOwnMail = errors.New("a rehearsal shows mail of all domains")
)

func ruleRequest[T any](w http.ResponseWriter, r *http.Request, do func(Identity, T) (any, error)) {
	var req T
	if !decode(w, r, &req) {
		return
	}
	out, err := do(IdentityOf(r.Context()), req)
	ruleAnswer(w, out, err)
}

func ruleAnswer(w http.ResponseWriter, out any, err error) {
	if err != nil {
		answer(w, http.StatusUnprocessableEntity, failure{err.Error()})
		return
	}
	answer(w, http.StatusOK, out)
}

// ApplyRules asks for other rules.
func (c *Client) ApplyRules(ctx context.Context, req RuleChange) (out RuleChanged, err error) {
	err = c.call(ctx, http.MethodPost, "rules/apply", req, &out)
	return out, err
}

// RollBackRules asks for rules that were in use before.
func (c *Client) RollBackRules(ctx context.Context, req RuleChange) (out RuleChanged, err error) {
	err = c.call(ctx, http.MethodPost, "rules/rollback", req, &out)
	return out, err
}

// ChangeList changes a managed list.
func (c *Client) ChangeList(ctx context.Context, req ListChange) (out ListChanged, err error) {
	err = c.call(ctx, http.MethodPost, "lists/change", req, &out)
	return out, err
}

// RuleLog reads who changed the rules into a struct with "entries".
func (c *Client) RuleLog(ctx context.Context, into any) error {
	return c.call(ctx, http.MethodGet, "rules/log", nil, into)
}

// ManagedList reads a list that commands fill.
func (c *Client) ManagedList(ctx context.Context, name string) (out ManagedList, err error) {
	err = c.call(ctx, http.MethodGet, "lists/"+url.PathEscape(name), nil, &out)
	return out, err
}
