package console

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"gatepost/internal/state"
)

// away is a store that does not answer.
type away struct{ *state.Memory }

func (away) Put(context.Context, state.Set, string, string, time.Duration) error {
	return state.ErrAway
}

func TestRemoteStore(t *testing.T) {
	c, _ := startControl(t, ControlDeps{Queue: queueOf3(), State: state.NewMemory(nil)})
	s, ctx := c.Store(), t.Context()
	for _, key := range []string{"b", "a", "\x1b[31m"} {
		if err := s.Put(ctx, state.Blocked, key, "why "+key, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	e, ok, err := s.Get(ctx, state.Blocked, "x", "a")
	if left := time.Until(e.Expires); !ok || err != nil || e.Key != "a" || e.Value != "why a" || left > time.Hour || left < 50*time.Minute {
		t.Errorf("get: %+v, %v, %v", e, ok, err)
	}
	if _, ok, err := s.Get(ctx, state.Blocked, "x"); ok || err != nil {
		t.Errorf("get none: %v, %v", ok, err)
	}
	if list, err := s.List(ctx, state.Blocked, "", 2); err != nil || len(list) != 2 || list[0].Key != "\x1b[31m" || list[1].Key != "a" {
		t.Errorf("list: %v, %v", list, err)
	}
	if n, err := s.Delete(ctx, state.Blocked, "a", "x"); n != 1 || err != nil {
		t.Errorf("delete: %d, %v", n, err)
	}
	var refused *Refusal
	for name, err := range map[string]error{
		"no set":       s.Put(ctx, "nothing", "k", "", time.Hour),
		"no key":       s.Put(ctx, state.Blocked, "", "", time.Hour),
		"no time":      s.Put(ctx, state.Blocked, "k", "", 0),
		"list of none": func() error { _, err := s.List(ctx, "nothing", "", 1); return err }(),
	} {
		if !errors.As(err, &refused) || refused.Status != http.StatusBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, _ = startControl(t, ControlDeps{Queue: queueOf3(), State: away{state.NewMemory(nil)}})
	if err := c.Store().Put(ctx, state.Blocked, "k", "", time.Hour); !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable {
		t.Errorf("away: %v", err)
	}
	c, _ = startControl(t, ControlDeps{Queue: queueOf3()})
	if err := c.Store().Put(ctx, state.Blocked, "k", "", time.Hour); err == nil {
		t.Error("no store: no error")
	}
}
