package console

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/console/audit"
)

// lines are the entries of an audit, the oldest first.
func lines(t *testing.T, l *audit.Log) (all []string) {
	entries, err := audit.Read(l.Path(), audit.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range slices.Backward(entries) {
		all = append(all, strings.Join(strings.Fields(strings.Join([]string{e.Who, e.Role, e.From, e.What, e.Result, strings.Join(e.IDs, " "), e.Detail}, " ")), " "))
	}
	return all
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("it did not come")
		case <-time.After(time.Millisecond):
		}
	}
}

// W5, W9: what is done, by whom, from where, is kept; so is what was refused.
func TestAudit(t *testing.T) {
	q := sixLanes()
	for i := range q.messages {
		q.messages[i].Recipients = []Recipient{{Address: "bob@example.com"}}
	}
	kept := audit.New(filepath.Join(t.TempDir(), "audit.jsonl"), quiet())
	c := NewControl("", ControlDeps{
		Queue: q, Status: func() Status { return Status{} }, Users: func() []User { return nil },
		Reload: func(context.Context) error { return nil }, Audit: kept, Log: quiet(),
	})
	client := ClientOf(c.Handler())
	as := func(name string, role Role) context.Context {
		id := Identity{Name: name, Role: role, From: "192.0.2.7"}
		if role == Helpdesk {
			id.Domains = []string{"example.com"}
		}
		return WithIdentity(t.Context(), id)
	}
	tests := []struct {
		name string // for readers
		do   func() error
		want string // of the entry; "": none is written
	}{
		{"a list", func() error { return client.List(as("hal", Helpdesk), Filter{}, func(Message) error { return nil }) }, ""},
		{"a body", func() error { return client.Content(as("hal", Helpdesk), name(1), io.Discard) }, "hal helpdesk 192.0.2.7 queue content done " + name(1)},
		{"a body that is not there", func() error { return client.Content(as("hal", Helpdesk), name(nothing), io.Discard) }, "hal helpdesk 192.0.2.7 queue content failed " + name(nothing)},
		{"a body that is not his", func() error { return client.Content(as("vic", Viewer), name(1), io.Discard) }, "vic viewer 192.0.2.7 queue content refused " + name(1)},
		{"a look", func() error { _, err := client.Show(as("vic", Viewer), name(1)); return err }, ""},
		{"delete", func() error {
			_, err := client.Apply(as("ann", Admin), Delete, Request{IDs: []string{name(0), name(nothing)}})
			return err
		}, "ann admin 192.0.2.7 queue delete done " + name(0) + " " + name(nothing) + " 1 of 1 done, 1 failures"},
		{"delete by a filter", func() error {
			_, err := client.Apply(as("ann", Admin), Delete, Request{Filter: Filter{Lanes: []string{Slow}}})
			return err
		}, `ann admin 192.0.2.7 queue delete done {"filter":{"lanes":["slow"]}} 1 of 1 done`},
		{"delete, refused", func() error {
			_, err := client.Apply(as("sue", Security), Delete, Request{All: true})
			return err
		}, "sue security 192.0.2.7 queue delete refused"},
		{"dry run", func() error {
			_, err := client.Apply(as("ann", Admin), Delete, Request{All: true, DryRun: true})
			return err
		}, ""},
		{"reload", func() error { return client.Reload(as("ann", Admin)) }, "ann admin 192.0.2.7 reload done"},
		{"reload, refused", func() error { return client.Reload(as("sue", Security)) }, "sue security 192.0.2.7 reload refused"},
		{"who there is", func() error { _, err := client.Users(as("ann", Admin)); return err }, ""},
		{"the audit", func() error { _, err := client.Audit(as("ann", Admin), audit.Query{}); return err }, ""},
	}
	var want []string
	for _, tt := range tests {
		_ = tt.do() // what it says is another test's
		if tt.want != "" {
			want = append(want, tt.want)
			waitFor(t, func() bool { return len(lines(t, kept)) >= len(want) }) // the answer is there before the entry
		}
	}
	if got := lines(t, kept); !slices.Equal(got, want) {
		t.Errorf("kept\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := client.Audit(as("sue", Security), audit.Query{}); err == nil {
		t.Error("security reads the audit")
	}
}

// What can't be kept is not done, but by who has the disk anyway.
func TestAuditThatFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	q := sixLanes()
	c := NewControl("", ControlDeps{Queue: q, Audit: audit.New(filepath.Join(dir, "audit.jsonl"), quiet()), Log: slog.New(slog.DiscardHandler)})
	client := ClientOf(c.Handler())
	ann := WithIdentity(t.Context(), Identity{Name: "root", Role: Admin, From: "192.0.2.7"})
	if _, err := client.Apply(ann, Delete, Request{All: true}); err == nil || q.calls != 0 || !strings.Contains(err.Error(), "audit can't be written") {
		t.Errorf("%v, %d calls", err, q.calls)
	}
	if err := client.Content(ann, name(0), io.Discard); err == nil {
		t.Error("a body is shown")
	}
	if _, err := client.Apply(WithIdentity(t.Context(), root), Delete, Request{IDs: []string{name(0)}}); err != nil || q.calls != 1 {
		t.Errorf("over the socket: %v, %d calls", err, q.calls)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Apply(ann, Delete, Request{IDs: []string{name(0)}}); err != nil {
		t.Error(err)
	}
}
