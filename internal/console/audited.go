package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"gatepost/internal/console/audit"
	"gatepost/internal/mail"
)

// audited reports whether what goes through a route is kept: all that changes
// something, and every look at content. POST routes that end in list, get or
// search only read.
func (r Route) audited() bool {
	method, path, _ := strings.Cut(r.Pattern, " ")
	switch r.Needs {
	case ViewMail, ViewSystem:
		return false
	case AdministerIt:
		last := path[strings.LastIndexByte(path, '/')+1:]
		return method != http.MethodGet && !slices.Contains([]string{"list", "get", "search"}, last)
	}
	return true
}

// note is what the handler of a request tells the audit.
type note struct {
	ids    []string
	detail string
	failed bool // though its status says it went well
	none   bool // nothing was done
}

type noteKey struct{}

// noteOf is the note of a request; where nobody keeps it, one for nothing.
func noteOf(ctx context.Context) *note {
	if n, ok := ctx.Value(noteKey{}).(*note); ok {
		return n
	}
	return new(note)
}

// about notes what was asked for, as JSON.
func (n *note) about(v any) {
	if b, err := json.Marshal(v); err == nil && string(b) != "{}" {
		n.detail = string(b)
	}
}

// outcome notes what became of an action.
func (n *note) outcome(r Result) {
	n.detail = strings.TrimSpace(fmt.Sprintf("%s %d of %d done", n.detail, r.Done, r.Chosen))
	if r.Failures > 0 {
		n.detail += fmt.Sprintf(", %d failures", r.Failures)
	}
	n.failed = r.Done == 0 && r.Failures > 0
}

// keep wraps a handler so that the audit has what it did. Users of the pages may
// do nothing that can't be kept; who has the socket has the disk as well, and may
// be there because it is full.
func (c *Control) keep(route Route, h http.HandlerFunc) http.HandlerFunc {
	if c.deps.Audit == nil || !route.audited() {
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) {
		id := IdentityOf(r.Context())
		if err := c.deps.Audit.Check(); err != nil && !id.local() {
			c.deps.Log.ErrorContext(r.Context(), "audit not written, so this was refused", "who", id.Name, "error", err)
			answer(w, http.StatusServiceUnavailable, failure{"the audit can't be written, so nothing is done: tell whoever looks after the gateway"})
			return
		}
		n := new(note)
		seen := &status{ResponseWriter: w}
		r = r.WithContext(context.WithValue(r.Context(), noteKey{}, n))
		aborted := true
		defer func() { c.audit(r, route, id, n, seen.code, aborted) }()
		h(seen, r)
		aborted = false
	}
}

// audit writes the entry of a request that has ended.
func (c *Control) audit(r *http.Request, route Route, id Identity, n *note, code int, aborted bool) {
	if n.none {
		return
	}
	what, named := described(route.Pattern, r)
	e := audit.Entry{
		Who: id.Name, Role: string(id.Role), From: id.From, What: what, IDs: append(named, n.ids...), Detail: n.detail, Result: "done",
	}
	switch {
	case code == http.StatusForbidden:
		e.Result = "refused"
	case aborted || n.failed || code >= 400:
		e.Result = "failed"
	}
	if err := c.deps.Audit.Note(e); err != nil {
		c.deps.Log.ErrorContext(r.Context(), "audit not written", "who", id.Name, "what", what, "error", err)
	}
}

// described says what a request does in the words of its path: "queue delete" for
// /v1/queue/delete, and "queue content" with the ID for /v1/queue/{id}/content.
func described(pattern string, r *http.Request) (what string, ids []string) {
	_, path, _ := strings.Cut(pattern, " /v1/")
	var words []string
	for word := range strings.SplitSeq(path, "/") {
		name, ok := strings.CutPrefix(word, "{")
		if !ok {
			words = append(words, word)
			continue
		}
		value := r.PathValue(strings.Trim(name, "}."))
		if mail.ValidID(value) {
			ids = append(ids, value)
		} else {
			words = append(words, mail.CleanText(value))
		}
	}
	return strings.Join(words, " "), ids
}

// status remembers the status of an answer.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	if s.code == 0 {
		s.code = code
	}
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// forbid refuses who may not, which the audit hears of, too.
func forbid(id Identity, needs Capability) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		why := fmt.Sprintf("%s has the role %q, which may not %s", id.Name, string(id.Role), string(needs))
		if id.Role.May(needs) {
			why = fmt.Sprintf("%s sees the mail of some domains only, and may not %s for that reason", id.Name, string(needs))
		}
		answer(w, http.StatusForbidden, failure{why})
	}
}

func (c *Control) handleAudit() {
	if c.deps.Audit == nil {
		return
	}
	c.route("POST /v1/audit/search", AdministerIt, func(w http.ResponseWriter, r *http.Request) {
		var q audit.Query
		if !decode(w, r, &q) {
			return
		}
		entries, err := audit.Read(c.deps.Audit.Path(), q)
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, http.StatusOK, AuditPage{entries})
	})
}

// AuditPage is what a search of the audit found, the newest first.
type AuditPage struct {
	Entries []audit.Entry `json:"entries"`
}

// Audit searches who did what.
func (c *Client) Audit(ctx context.Context, q audit.Query) ([]audit.Entry, error) {
	var p AuditPage
	err := c.call(ctx, http.MethodPost, "audit/search", q, &p)
	return p.Entries, err
}
