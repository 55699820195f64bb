package console

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// both runs a test with a queue in this process and with one over the socket.
func both(t *testing.T, test func(t *testing.T, make func(*memory) admin)) {
	t.Run("local", func(t *testing.T) { test(t, func(q *memory) admin { return Local{Queue: q} }) })
	t.Run("remote", func(t *testing.T) {
		test(t, func(q *memory) admin {
			c, _ := startControl(t, ControlDeps{Queue: q})
			return c
		})
	})
}

// The messages of sixLanes.
const (
	fresh = iota
	waiting
	slow
	virus
	byHand
	unscanned
	nothing // is not there
)

func name(i int) string { return fmt.Sprintf("%0*d", mail.IDLength, i) }

// sixLanes is a queue of one message in each lane and two more that are held.
func sixLanes() *memory {
	q := &memory{messages: []Message{
		fresh: {Lane: Fresh}, waiting: {Lane: Waiting}, slow: {Lane: Slow}, virus: {Lane: Held, Reason: "virus", Quarantined: true},
		byHand: {Lane: Held, ByHand: true}, unscanned: {Lane: Held, Unscanned: "clamav"},
	}}
	for i := range q.messages {
		q.messages[i].ID = name(i)
	}
	return q
}

func TestApply(t *testing.T) {
	named := func(names ...int) (ids []string) {
		for _, i := range names {
			ids = append(ids, name(i))
		}
		return ids
	}
	tests := []struct {
		name   string
		action Action
		req    Request
		want   []int
		failed []string // parts of the reasons
	}{
		{"nothing was named", Delete, Request{}, nil, nil},
		{"some IDs are wrong", Delete, Request{IDs: append(named(nothing, virus, nothing), "no id")}, []int{virus}, []string{`"no id" is not`, name(nothing), name(nothing)}},
		{"no ID is right", Delete, Request{IDs: []string{"x"}}, nil, []string{"not a message ID"}},
		{"IDs and a filter", Delete, Request{IDs: named(nothing, virus), Filter: Filter{Lanes: []string{Held}}}, []int{virus}, nil},
		{"IDs that a filter does not choose", Delete, Request{IDs: named(nothing, virus), Filter: Filter{Lanes: []string{Slow}}}, nil, nil},
		{"all wrong IDs and a filter", Delete, Request{IDs: []string{"x"}, Filter: Filter{Lanes: []string{Slow}}}, nil, []string{"not a message ID"}},
		{"filter", Delete, Request{Filter: Filter{Lanes: []string{Slow, Fresh}}}, []int{fresh, slow}, nil},
		{"limit", Delete, Request{All: true, Limit: 2}, []int{fresh, waiting}, nil},
		{"delete all", Delete, Request{All: true}, []int{fresh, waiting, slow, virus, byHand, unscanned}, nil},
		{"retry all", Retry, Request{All: true}, []int{fresh, waiting, slow}, nil},
		{"retry held", Retry, Request{IDs: named(virus)}, nil, []string{"is held; release"}},
		{"hold all", Hold, Request{All: true}, []int{fresh, waiting, slow}, nil},
		{"unhold all", Unhold, Request{All: true}, []int{byHand}, nil},
		{"unhold what a verdict holds", Unhold, Request{IDs: named(virus)}, nil, []string{"not held by hand (virus)"}},
		{"release all", Release, Request{All: true}, []int{virus, byHand}, nil},
		{"release all, unscanned too", Release, Request{All: true, Unscanned: true}, []int{virus, byHand, unscanned}, nil},
		{"release one", Release, Request{IDs: named(virus)}, []int{virus}, nil},
		{"release what is not judged", Release, Request{IDs: named(unscanned)}, nil, []string{"judgement of clamav"}},
		{"unhold what is not judged", Unhold, Request{IDs: named(unscanned)}, nil, []string{"judgement of clamav"}},
		{"release what is not held", Release, Request{IDs: named(fresh)}, nil, []string{"is not held"}},
		{"move to slow", Move, Request{All: true, Lane: Slow}, []int{fresh, waiting}, nil},
		{"move to retry", Move, Request{All: true, Lane: Waiting}, []int{slow}, nil},
		{"move back what is not slow", Move, Request{IDs: named(fresh, waiting), Lane: Waiting}, nil, []string{"not in the lane slow", "in the lane retry already"}},
		{"bounce all", Bounce, Request{All: true}, []int{fresh, waiting, slow}, nil},
		{"bounce what is held", Bounce, Request{Filter: Filter{Lanes: []string{Held}}}, []int{byHand, unscanned}, nil},
		{"expire one that is held", Expire, Request{IDs: named(byHand)}, []int{byHand}, nil},
		{"expire the quarantine", Expire, Request{IDs: named(virus)}, nil, []string{"must not hear"}},
		{"expire all", Expire, Request{All: true}, []int{fresh, waiting, slow}, nil},
	}
	both(t, func(t *testing.T, start func(*memory) admin) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				q, req := sixLanes(), tt.req
				a := start(q)
				var shown []string
				req.DryRun = true
				dry, err := a.DryRun(t.Context(), tt.action, req, func(m Message) error { shown = append(shown, m.ID); return nil })
				if err != nil || dry.Done != 0 || q.calls != 0 {
					t.Errorf("dry run: %+v, %v, %d calls", dry, err, q.calls)
				}
				req.DryRun = false
				r, err := a.Apply(t.Context(), tt.action, req)
				if err != nil || r.Done != len(tt.want) || r.Chosen != r.Done || r.Failures != len(tt.failed) || dry.Chosen != r.Chosen || !slices.Equal(dry.Failed, r.Failed) {
					t.Errorf("%+v, %v; dry run %+v; want %d done", r, err, dry, len(tt.want))
				}
				var want, listed []string
				for _, i := range tt.want {
					want = append(want, strings.TrimSpace(string(tt.action)+" "+tt.req.Lane)+" "+name(i))
					listed = append(listed, name(i))
				}
				if !slices.Equal(q.done, want) || !slices.Equal(shown, listed) {
					t.Errorf("did %q, showed %q, want %q", q.done, shown, want)
				}
				for i, part := range tt.failed {
					if i < len(r.Failed) && !strings.Contains(r.Failed[i], part) {
						t.Errorf("failure %q lacks %q", r.Failed[i], part)
					}
				}
				if r.More != (tt.req.Limit > 0) {
					t.Errorf("More = %v", r.More)
				}
			})
		}
	})
}

func TestBound(t *testing.T) {
	both(t, func(t *testing.T, start func(*memory) admin) {
		q := sixLanes()
		a := start(q)
		if _, err := a.Apply(t.Context(), Delete, Request{All: true, Bound: 5}); !errors.Is(err, ErrTooMany) || q.calls != 0 {
			t.Errorf("six above five: %v, %d calls", err, q.calls)
		}
		for _, req := range []Request{{All: true, Bound: 6}, {All: true, Bound: 5, Limit: 5}} {
			q := sixLanes()
			if r, err := start(q).Apply(t.Context(), Delete, req); err != nil || r.Done < 5 {
				t.Errorf("%+v: %+v, %v", req, r, err)
			}
		}
	})
}

// Many messages are acted on in parts; what goes meanwhile is no failure, and
// nothing goes on for somebody who is gone.
func TestApplyMany(t *testing.T) {
	q := &memory{}
	for i := range 2*chunk + 1 {
		q.messages = append(q.messages, Message{ID: mail.NewID(time.UnixMicro(int64(i)))})
	}
	q.after = func() { q.messages = q.messages[:2*chunk] } // the last one
	r, err := Apply(t.Context(), q, Delete, Request{All: true}, nil)
	if want := (Result{Chosen: 2*chunk + 1, Done: 2 * chunk}); err != nil || !reflect.DeepEqual(r, want) || q.calls != 3 {
		t.Errorf("%+v, %v, %d calls; want %+v", r, err, q.calls, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	q.after = cancel
	if r, err := Apply(ctx, q, Delete, Request{All: true}, nil); err == nil || r.Done != chunk {
		t.Errorf("after the first part: %+v, %v", r, err)
	}
}

// An action may take longer than a request may take to be read.
func TestActionLongerThanTimeouts(t *testing.T) {
	q := &memory{after: func() { <-time.After(150 * time.Millisecond) }}
	for i := range 2*chunk + 1 {
		q.messages = append(q.messages, Message{ID: name(i)})
	}
	path := filepath.Join(t.TempDir(), "control.sock")
	control := NewControl(path, ControlDeps{Queue: q, Log: quiet()})
	control.server.ReadTimeout, control.server.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond
	if err := control.Listen(); err != nil {
		t.Fatal(err)
	}
	run(t, control.Run)
	r, err := NewClient(path).Apply(t.Context(), Delete, Request{All: true})
	if err != nil || r.Done != 2*chunk+1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestFailuresAreBounded(t *testing.T) {
	r, err := Apply(t.Context(), &memory{}, Delete, Request{IDs: slices.Repeat([]string{"x"}, mostReasons+5)}, nil)
	if err != nil || r.Failures != mostReasons+5 || len(r.Failed) != mostReasons {
		t.Errorf("%d failures, %d reasons, %v", r.Failures, len(r.Failed), err)
	}
}

func TestShape(t *testing.T) {
	now := time.Now()
	at := func(minutes int) int64 { return now.Add(-time.Duration(minutes)*time.Minute - time.Second).Unix() }
	to := func(addresses ...string) (list []Recipient) {
		for _, a := range addresses {
			list = append(list, Recipient{Address: a})
		}
		return list
	}
	q := &memory{messages: []Message{
		{Arrival: at(0), Sender: "a@x.example", Recipients: to("1@busy.example", "2@busy.example", "3@calm.example")},
		{Arrival: at(5), Recipients: to("1@busy.example")},
		{Arrival: at(1280), Sender: "\"a@b\"@x.example", Recipients: to("1@old.example"), Lane: Slow},
		{Arrival: at(-60), Recipients: to("1@busy.example")}, // from the future
	}}
	tests := []struct {
		name string
		req  ShapeRequest
		want string
	}{
		{"recipients", ShapeRequest{}, "recipient [6 4 1 0 0 0 0 0 0 0 1] busy.example[4 3 1 0 0 0 0 0 0 0 0] calm.example[1 1 0 0 0 0 0 0 0 0 0] old.example[1 0 0 0 0 0 0 0 0 0 1] 0"},
		{"senders", ShapeRequest{Sender: true}, "sender [4 2 1 0 0 0 0 0 0 0 1] [2 1 1 0 0 0 0 0 0 0 0] x.example[2 1 0 0 0 0 0 0 0 0 1] 0"},
		{"one lane, one domain", ShapeRequest{Filter: Filter{Lanes: []string{Slow}}, Top: 1}, "recipient [1 0 0 0 0 0 0 0 0 0 1] old.example[1 0 0 0 0 0 0 0 0 0 1] 0"},
		{"top", ShapeRequest{Top: 1}, "recipient [6 4 1 0 0 0 0 0 0 0 1] busy.example[4 3 1 0 0 0 0 0 0 0 0] 2"},
	}
	both(t, func(t *testing.T, start func(*memory) admin) {
		a := start(q)
		for _, tt := range tests {
			s, err := a.Shape(t.Context(), tt.req)
			if err != nil {
				t.Fatal(err)
			}
			line := func(d DomainShape) string { return d.Domain + fmt.Sprint(append([]int{d.Total}, d.Ages...)) + " " }
			got := s.By + " " + line(s.Total)
			for _, d := range s.Domains {
				got += line(d)
			}
			if got += fmt.Sprint(s.Others); got != tt.want {
				t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got, tt.want)
			}
		}
		if _, err := a.Shape(t.Context(), ShapeRequest{Filter: Filter{Reason: "("}}); err == nil {
			t.Error("bad expression: no error")
		}
	})
}
