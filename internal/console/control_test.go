package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// memory is a queue of a few messages.
type memory struct {
	messages []Message
	asked    Filter
	done     []string // "action id"
	broken   bool     // content ends early
}

func (q *memory) List(f Filter) iter.Seq[Message] {
	q.asked = f
	return slices.Values(q.messages)
}

func (q *memory) Show(id string) (Message, error) {
	for _, m := range q.messages {
		if m.ID == id {
			return m, nil
		}
	}
	return Message{}, fmt.Errorf("queue: message %s: %w", id, spool.ErrNotFound)
}

func (q *memory) WriteContent(id string, w io.Writer) error {
	if _, err := q.Show(id); err != nil {
		return err
	}
	_, err := io.WriteString(w, "Subject: x\r\n\r\nbody\r\n")
	if q.broken {
		err = errors.New("disk")
	}
	return err
}

func (q *memory) Apply(_ context.Context, a Action, ids []string) (int, error) {
	var errs []error
	done := 0
	for _, id := range ids {
		if _, err := q.Show(id); err != nil {
			errs = append(errs, err)
			continue
		}
		q.done = append(q.done, string(a)+" "+id)
		done++
	}
	return done, errors.Join(errs...)
}

var ids = []string{mail.NewID(time.UnixMicro(1)), mail.NewID(time.UnixMicro(2)), mail.NewID(time.UnixMicro(3))}

func queueOf3() *memory {
	return &memory{messages: []Message{
		{ID: ids[0], State: "queue", QueueName: "deferred", Sender: "a@example.com", Recipients: []Recipient{{Address: "b@example.com", Reason: "451 later"}}},
		{ID: ids[1], State: "hold", QueueName: "hold", Reason: "spam"},
		{ID: ids[2], State: "slow", QueueName: "active"},
	}}
}

// admin is what Client and Local both offer.
type admin interface {
	List(context.Context, Filter, func(Message) error) error
	Show(context.Context, string) (Message, error)
	Content(context.Context, string, io.Writer) error
	Apply(context.Context, Action, Request) (Result, error)
}

func startControl(t *testing.T, deps ControlDeps) (*Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "control.sock")
	deps.Log = quiet()
	c := NewControl(path, deps)
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	run(t, c.Run)
	return NewClient(path), path
}

func TestQueueRemoteAndLocal(t *testing.T) {
	for _, where := range []string{"remote", "local"} {
		t.Run(where, func(t *testing.T) {
			q := queueOf3()
			var a admin = Local{q}
			if where == "remote" {
				a, _ = startControl(t, ControlDeps{Queue: q})
			}
			testQueue(t, q, a)
		})
	}
}

func testQueue(t *testing.T, q *memory, a admin) {
	ctx := t.Context()
	chosen := Filter{State: "hold", Sender: "a+b@x", NullSender: true, Recipient: "c@x", Domain: "x", Older: time.Hour, Reason: "a|b"}
	var listed []string
	if err := a.List(ctx, chosen, func(m Message) error { listed = append(listed, m.ID); return nil }); err != nil || !slices.Equal(listed, ids) {
		t.Errorf("List = %q, %v; want %q", listed, err, ids)
	}
	if q.asked != chosen {
		t.Errorf("the queue was asked for %+v, want %+v", q.asked, chosen)
	}
	if err := a.List(ctx, Filter{Reason: "("}, nil); err == nil {
		t.Error("List with a bad expression: no error")
	}
	m, err := a.Show(ctx, ids[0])
	if err != nil || m.Sender != "a@example.com" || m.Recipients[0].Reason != "451 later" {
		t.Errorf("Show = %+v, %v", m, err)
	}
	if _, err := a.Show(ctx, mail.NewID(time.UnixMicro(9))); !errors.Is(err, spool.ErrNotFound) {
		t.Errorf("Show of what is not there: %v, want ErrNotFound", err)
	}
	for _, bad := range []string{"x", "../../etc/passwd", "%2e%2e", ids[0] + "/content"} {
		if _, err := a.Show(ctx, bad); err == nil {
			t.Errorf("Show(%q): no error", bad)
		}
	}
	var b bytes.Buffer
	if err := a.Content(ctx, ids[0], &b); err != nil || b.String() != "Subject: x\r\n\r\nbody\r\n" {
		t.Errorf("Content = %q, %v", b.String(), err)
	}
	q.broken = true
	if err := a.Content(ctx, ids[0], io.Discard); err == nil {
		t.Error("Content that could not be read to its end: no error")
	}
	testActions(t, q, a)
}

func testActions(t *testing.T, q *memory, a admin) {
	unknown := mail.NewID(time.UnixMicro(9))
	tests := []struct {
		action Action
		req    Request
		want   []string
		failed int
	}{
		{Delete, Request{IDs: []string{ids[1], unknown, "no id"}}, []string{ids[1]}, 2},
		{Delete, Request{All: true}, ids, 0},
		{Retry, Request{All: true}, []string{ids[0], ids[2]}, 0},
		{Release, Request{All: true}, []string{ids[1]}, 0},
		{Hold, Request{All: true}, []string{ids[0], ids[2]}, 0},
		{Release, Request{}, nil, 0},
	}
	for _, tt := range tests {
		q.done = nil
		r, err := a.Apply(t.Context(), tt.action, tt.req)
		if err != nil || r.Done != len(tt.want) || len(r.Failed) != tt.failed {
			t.Errorf("%s %+v = %+v, %v; want %d done, %d failed", tt.action, tt.req, r, err, len(tt.want), tt.failed)
		}
		var want []string
		for _, id := range tt.want {
			want = append(want, string(tt.action)+" "+id)
		}
		if !slices.Equal(q.done, want) {
			t.Errorf("%s %+v did %q, want %q", tt.action, tt.req, q.done, want)
		}
	}
}

func TestControlRefuses(t *testing.T) {
	q := queueOf3()
	c, _ := startControl(t, ControlDeps{Queue: q})
	tests := []struct {
		name, method, path, body string
		code                     int
	}{
		{"unknown action", "POST", "/v1/queue/bounce", `{"all":true}`, 404},
		{"GET never acts", "GET", "/v1/queue/delete", "", 400},
		{"unknown field", "POST", "/v1/queue/delete", `{"al":true}`, 400},
		{"no body", "POST", "/v1/queue/delete", "", 400},
		{"bad ID", "GET", "/v1/queue/..%2f..%2fx", "", 400},
		{"bad ID of content", "GET", "/v1/queue/x/content", "", 400},
		{"outside of the API", "GET", "/metrics", "", 404},
	}
	for _, tt := range tests {
		req, err := http.NewRequest(tt.method, "http://gatepost"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.code {
			t.Errorf("%s: %d, want %d", tt.name, resp.StatusCode, tt.code)
		}
	}
	if q.done != nil {
		t.Errorf("did %q, want nothing", q.done)
	}
}

func TestStatusAndReload(t *testing.T) {
	bad := errors.New("gatepost.toml:1:1: x: unknown key")
	var reload error
	c, _ := startControl(t, ControlDeps{
		Queue:  queueOf3(),
		Status: func() Status { return Status{Version: "1", PID: 7, Queue: map[string]int{"hold": 1}} },
		Reload: func(context.Context) error { return reload },
	})
	s, err := c.Status(t.Context())
	if err != nil || s.PID != 7 || s.Queue["hold"] != 1 {
		t.Errorf("Status = %+v, %v", s, err)
	}
	if err := c.Reload(t.Context()); err != nil {
		t.Errorf("Reload = %v", err)
	}
	reload = bad
	var refused *Refusal
	if err := c.Reload(t.Context()); !errors.As(err, &refused) || refused.Text != bad.Error() {
		t.Errorf("Reload of a bad file = %v, want %v", err, bad)
	}
}

func TestSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "control.sock")
	deps := ControlDeps{Queue: queueOf3(), Log: quiet()}

	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := NewControl(path, deps).Listen(); err == nil {
		t.Fatal("Listen on a socket that is in use: no error")
	}
	l.Close() // as a process does that dies
	c := NewControl(path, deps)
	if err := c.Listen(); err != nil {
		t.Fatalf("Listen on a stale socket: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket's mode = %v, %v; want 0600", info.Mode(), err)
	}
	c.listener.Close()

	for name, put := range map[string]func(string) error{
		"a file":    func(p string) error { return os.WriteFile(p, []byte("precious"), 0o600) },
		"a symlink": func(p string) error { return os.Symlink("elsewhere", p) },
	} {
		p := filepath.Join(dir, name)
		if err := put(p); err != nil {
			t.Fatal(err)
		}
		if err := NewControl(p, deps).Listen(); err == nil {
			t.Errorf("Listen over %s: no error", name)
		}
		if _, err := os.Lstat(p); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
}

func TestAllowed(t *testing.T) {
	tests := []struct {
		uid  uint32
		self int
		want bool
	}{{0, 0, true}, {0, 990, true}, {990, 990, true}, {1000, 990, false}, {1000, 0, false}}
	for _, tt := range tests {
		if got := allowed(tt.uid, tt.self); got != tt.want {
			t.Errorf("allowed(%d, %d) = %v, want %v", tt.uid, tt.self, got, tt.want)
		}
	}
}
