package console

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"gatepost/proxy/spool"
)

// Nobody does what his role may not, and each route has a role that may not use
// it.
func TestRoles(t *testing.T) {
	q := sixLanes()
	for i := range q.messages {
		q.messages[i].Recipients = []Recipient{{Address: "bob@example.com"}}
	}
	q.messages[0].Recipients = []Recipient{{Address: "eve@other.example"}}
	c := NewControl("", ControlDeps{Queue: q, Status: func() Status { return Status{} }, Log: slog.New(slog.DiscardHandler)})
	client := ClientOf(c.Handler())
	tests := []struct {
		name string
		id   Identity
		ask  func(context.Context) error
		ok   bool
	}{
		{"nobody", Identity{}, func(ctx context.Context) error { _, err := client.Status(ctx); return err }, false},
		{"viewer, status", Identity{Role: Viewer}, func(ctx context.Context) error { _, err := client.Status(ctx); return err }, true},
		{"viewer deletes", Identity{Role: Viewer}, func(ctx context.Context) error { _, err := client.Apply(ctx, Delete, Request{All: true}); return err }, false},
		{"viewer reads", Identity{Role: Viewer}, func(ctx context.Context) error { return client.Content(ctx, name(1), io.Discard) }, false},
		{"helpdesk reloads", Identity{Role: Helpdesk, Domains: []string{"example.com"}}, func(ctx context.Context) error { return client.Reload(ctx) }, false},
		{"helpdesk, its own", Identity{Role: Helpdesk, Domains: []string{"Example.com"}}, func(ctx context.Context) error { _, err := client.Show(ctx, name(1)); return err }, true},
		{"helpdesk, another's", Identity{Role: Helpdesk, Domains: []string{"example.com"}}, func(ctx context.Context) error { _, err := client.Show(ctx, name(0)); return err }, false},
		{"helpdesk, another's content", Identity{Role: Helpdesk, Domains: []string{"example.com"}}, func(ctx context.Context) error { return client.Content(ctx, name(0), io.Discard) }, false},
		{"helpdesk of nothing", Identity{Role: Helpdesk}, func(ctx context.Context) error { _, err := client.Show(ctx, name(1)); return err }, false},
		{"security deletes", Identity{Role: Security}, func(ctx context.Context) error { _, err := client.Apply(ctx, Delete, Request{All: true}); return err }, false},
		{"admin of a domain deletes", Identity{Role: Admin, Domains: []string{"example.com"}}, func(ctx context.Context) error { _, err := client.Apply(ctx, Delete, Request{All: true}); return err }, false},
		{"admin of a domain reloads", Identity{Role: Admin, Domains: []string{"example.com"}}, func(ctx context.Context) error { return client.Reload(ctx) }, false},
		{"admin of a domain, its own", Identity{Role: Admin, Domains: []string{"example.com"}}, func(ctx context.Context) error { _, err := client.Show(ctx, name(1)); return err }, true},
		{"admin of a domain, another's", Identity{Role: Admin, Domains: []string{"example.com"}}, func(ctx context.Context) error { _, err := client.Show(ctx, name(0)); return err }, false},
		{"admin, state", Identity{Role: Admin}, func(ctx context.Context) error { _, err := client.Show(ctx, name(0)); return err }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.ask(WithIdentity(t.Context(), tt.id))
			if (err == nil) != tt.ok {
				t.Errorf("%v", err)
			}
			if strings.Contains(tt.name, "another's") && !errors.Is(err, spool.ErrNotFound) {
				t.Errorf("it is told that there is one: %v", err)
			}
		})
	}
	if q.calls != 0 {
		t.Errorf("%d actions", q.calls)
	}
	n := 0
	if err := client.List(WithIdentity(t.Context(), Identity{Role: Helpdesk, Domains: []string{"example.com"}}), Filter{}, func(Message) error { n++; return nil }); err != nil || n != len(q.messages)-1 {
		t.Errorf("helpdesk lists %d, %v", n, err)
	}
	for _, r := range c.Routes() {
		if (Role("")).May(r.Needs) {
			t.Errorf("%s is for everybody", r.Pattern)
		}
	}
}

// A handler that panics is an error for the client, as over a socket.
func TestInProcess(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"at once": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"half": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "{")
			panic(http.ErrAbortHandler)
		},
	} {
		if _, err := ClientOf(h).Status(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
