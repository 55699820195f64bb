package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"gatepost/internal/state"
	"gatepost/proxy/spool"
)

// Store is what the control API does with the store of windows and lists.
// state.Store has it.
type Store interface {
	Put(ctx context.Context, set state.Set, key, value string, ttl time.Duration) error
	Get(ctx context.Context, set state.Set, keys ...string) (state.Entry, bool, error)
	Delete(ctx context.Context, set state.Set, keys ...string) (int, error)
	List(ctx context.Context, set state.Set, prefix string, limit int) ([]state.Entry, error)
}

// StoreStatus is how the store is.
type StoreStatus struct {
	Name string `json:"name"`
	Away string `json:"away,omitempty"` // why it does not answer
}

type stateRequest struct {
	Set    state.Set `json:"set"`
	Keys   []string  `json:"keys,omitempty"`
	Value  string    `json:"value,omitempty"`
	TTL    string    `json:"ttl,omitempty"`
	Prefix string    `json:"prefix,omitempty"`
	Limit  int       `json:"limit,omitempty"`
}

type deleted struct {
	Deleted int `json:"deleted"`
}

func (c *Control) handleState() {
	if c.deps.State == nil {
		return
	}
	for name, do := range map[string]func(http.ResponseWriter, *http.Request, stateRequest) error{
		"list": c.stateList, "get": c.stateGet, "put": c.statePut, "delete": c.stateDelete,
	} {
		c.route("POST /v1/state/"+name, AdministerIt, func(w http.ResponseWriter, r *http.Request) {
			var req stateRequest
			if !decode(w, r, &req) {
				return
			}
			if err := do(w, r, req); err != nil {
				answer(w, stateCode(err), failure{err.Error()})
			}
		})
	}
}

func stateCode(err error) int {
	switch {
	case errors.Is(err, state.ErrBad):
		return http.StatusBadRequest
	case errors.Is(err, spool.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, state.ErrAway):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func (c *Control) stateList(w http.ResponseWriter, r *http.Request, req stateRequest) error {
	list, err := c.deps.State.List(r.Context(), req.Set, req.Prefix, req.Limit)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", jsonLines)
	out := bufio.NewWriterSize(w, streamBuffer)
	enc := json.NewEncoder(out)
	for _, e := range list {
		if enc.Encode(e) != nil {
			return nil // the client is gone
		}
	}
	_ = out.Flush()
	return nil
}

func (c *Control) stateGet(w http.ResponseWriter, r *http.Request, req stateRequest) error {
	e, ok, err := c.deps.State.Get(r.Context(), req.Set, req.Keys...)
	switch {
	case err != nil:
		return err
	case !ok:
		return errNoEntry
	}
	answer(w, http.StatusOK, e)
	return nil
}

var errNoEntry = fmt.Errorf("entry: %w", spool.ErrNotFound)

func (c *Control) statePut(w http.ResponseWriter, r *http.Request, req stateRequest) error {
	ttl, err := time.ParseDuration(req.TTL)
	if err != nil || len(req.Keys) != 1 {
		return fmt.Errorf("%w: want one key, and a ttl", state.ErrBad)
	}
	if err := c.deps.State.Put(r.Context(), req.Set, req.Keys[0], req.Value, ttl); err != nil {
		return err
	}
	answer(w, http.StatusOK, struct{}{})
	return nil
}

func (c *Control) stateDelete(w http.ResponseWriter, r *http.Request, req stateRequest) error {
	n, err := c.deps.State.Delete(r.Context(), req.Set, req.Keys...)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, deleted{n})
	return nil
}

// RemoteStore is the store of a running gateway.
type RemoteStore struct{ c *Client }

// Store is the store of windows and lists.
func (c *Client) Store() RemoteStore { return RemoteStore{c} }

// Put sets an entry.
func (s RemoteStore) Put(ctx context.Context, set state.Set, key, value string, ttl time.Duration) error {
	return s.c.call(ctx, http.MethodPost, "state/put", stateRequest{Set: set, Keys: []string{key}, Value: value, TTL: ttl.String()}, &struct{}{})
}

// Get finds the first of the keys that is there.
func (s RemoteStore) Get(ctx context.Context, set state.Set, keys ...string) (e state.Entry, ok bool, err error) {
	err = s.c.call(ctx, http.MethodPost, "state/get", stateRequest{Set: set, Keys: keys}, &e)
	if errors.Is(err, spool.ErrNotFound) {
		return state.Entry{}, false, nil
	}
	return e, err == nil, err
}

// Delete removes entries.
func (s RemoteStore) Delete(ctx context.Context, set state.Set, keys ...string) (int, error) {
	var d deleted
	err := s.c.call(ctx, http.MethodPost, "state/delete", stateRequest{Set: set, Keys: keys}, &d)
	return d.Deleted, err
}

// List returns entries in order.
func (s RemoteStore) List(ctx context.Context, set state.Set, prefix string, limit int) (list []state.Entry, err error) {
	resp, err := s.c.do(ctx, http.MethodPost, "state/list", stateRequest{Set: set, Prefix: prefix, Limit: limit})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var e state.Entry
		if err := dec.Decode(&e); err == io.EOF {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("console: list of the store: %w", err)
		}
		list = append(list, e)
	}
}
