package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"time"

	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// reportRequest asks for a summary.
type reportRequest struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	Top   int       `json:"top"`
}

func (c *Control) handleHistory() {
	if c.deps.History == nil {
		return
	}
	c.route("POST /v1/history/search", ViewMail, c.historySearch)
	c.route("POST /v1/history/each", ViewContent, c.historyEach)
	c.route("POST /v1/history/report", ViewSystem, c.historyReport)
	c.route("GET /v1/history/{id}", ViewMail, c.historyLife)
}

func (c *Control) historySearch(w http.ResponseWriter, r *http.Request) {
	var q history.Query
	if !decode(w, r, &q) {
		return
	}
	page, err := searchFor(r.Context(), c.deps.History, IdentityOf(r.Context()), q)
	if err != nil {
		refuseHistory(w, err)
		return
	}
	answer(w, http.StatusOK, page)
}

func (c *Control) historyLife(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("id")
	if !mail.ValidID(name) {
		refuse(w, badID(name))
		return
	}
	life, err := c.deps.History.Life(r.Context(), name)
	if err != nil {
		refuseHistory(w, err)
		return
	}
	life, ok := seenLife(IdentityOf(r.Context()), life)
	if !ok {
		refuseHistory(w, history.ErrNotFound)
		return
	}
	answer(w, http.StatusOK, life)
}

func (c *Control) historyReport(w http.ResponseWriter, r *http.Request) {
	var req reportRequest
	if !decode(w, r, &req) {
		return
	}
	report, err := c.deps.History.Report(r.Context(), req.Since, req.Until, min(max(req.Top, 0), 1000))
	if err != nil {
		refuseHistory(w, err)
		return
	}
	answer(w, http.StatusOK, report)
}

// eachLine is one line of all records; the last has neither.
type eachLine struct {
	Record *history.Record `json:"record,omitempty"`
	Error  string          `json:"error,omitempty"`
}

func (c *Control) historyEach(w http.ResponseWriter, r *http.Request) {
	var q history.Query
	if !decode(w, r, &q) {
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // it ends when the client goes
	w.Header().Set("Content-Type", jsonLines)
	out := bufio.NewWriterSize(w, streamBuffer)
	enc := json.NewEncoder(out)
	id := IdentityOf(r.Context())
	if !mayAskFor(id, q) {
		_ = enc.Encode(eachLine{})
		_ = out.Flush()
		return
	}
	noteOf(r.Context()).about(q)
	err := c.deps.History.Each(r.Context(), q, func(one history.Record) error {
		one, ok := seen(id, one)
		if !ok {
			return nil
		}
		return enc.Encode(eachLine{Record: &one})
	})
	last := eachLine{}
	if err != nil {
		last.Error = err.Error()
	}
	_ = enc.Encode(last) // the client may be gone
	_ = out.Flush()
}

func refuseHistory(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, history.ErrQuery):
		code = http.StatusBadRequest
	case errors.Is(err, history.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		code = http.StatusNotFound
	}
	answer(w, code, failure{err.Error()})
}

// RemoteHistory is the history of a running gateway.
type RemoteHistory struct{ c *Client }

// History searches what was recorded.
func (c *Client) History() RemoteHistory { return RemoteHistory{c} }

// Life implements history.Finder.
func (h RemoteHistory) Life(ctx context.Context, id string) (l history.Life, err error) {
	err = h.c.call(ctx, http.MethodGet, "history/"+url.PathEscape(id), nil, &l)
	return l, notKnown(err)
}

// Search implements history.Finder.
func (h RemoteHistory) Search(ctx context.Context, q history.Query) (p history.Page, err error) {
	err = h.c.call(ctx, http.MethodPost, "history/search", q, &p)
	return p, notKnown(err)
}

// Report implements history.Finder.
func (h RemoteHistory) Report(ctx context.Context, since, until time.Time, top int) (r history.Report, err error) {
	err = h.c.call(ctx, http.MethodPost, "history/report", reportRequest{since, until, top}, &r)
	return r, notKnown(err)
}

// Each implements history.Finder.
func (h RemoteHistory) Each(ctx context.Context, q history.Query, yield func(history.Record) error) error {
	resp, err := h.c.do(ctx, http.MethodPost, "history/each", q)
	if err != nil {
		return notKnown(err)
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var l eachLine
		switch err := dec.Decode(&l); {
		case err == io.EOF:
			return fmt.Errorf("console: history: %w", io.ErrUnexpectedEOF) // the last line did not come
		case err != nil:
			return fmt.Errorf("console: history: %w", err)
		case l.Error != "":
			return &Refusal{Text: l.Error}
		case l.Record == nil:
			return nil
		}
		if err := yield(*l.Record); err != nil {
			return err
		}
	}
}

// notKnown gives a refusal the cause that history has for it.
func notKnown(err error) error {
	var refused *Refusal
	if !errors.As(err, &refused) {
		return err
	}
	switch {
	case errors.Is(err, spool.ErrNotFound):
		refused.cause = history.ErrNotFound
	case refused.Status == http.StatusBadRequest:
		refused.cause = history.ErrQuery
	}
	return refused
}
