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
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// memory is a queue of a few messages. Of a Filter it knows IDs and Lanes.
type memory struct {
	messages []Message
	asked    Filter
	done     []string // "action id"
	calls    int      // of Apply
	broken   bool     // content ends early
	after    func()   // after each call of Apply
}

func (q *memory) List(f Filter) iter.Seq[Message] {
	q.asked = f
	all := q.messages
	if f.IDs != nil {
		all = nil
		for _, id := range f.IDs {
			if m, err := q.Show(id); err == nil {
				all = append(all, m)
			}
		}
	}
	return func(yield func(Message) bool) {
		for _, m := range all {
			if (f.Lanes == nil || slices.Contains(f.Lanes, m.Lane)) && !yield(m) {
				return
			}
		}
	}
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

func (q *memory) Apply(_ context.Context, a Action, lane string, ids []string) (int, error) {
	q.calls++
	if q.after != nil {
		defer q.after()
	}
	var errs []error
	done := 0
	for _, id := range ids {
		if _, err := q.Show(id); err != nil {
			errs = append(errs, err)
			continue
		}
		q.done = append(q.done, strings.TrimSpace(string(a)+" "+lane)+" "+id)
		done++
	}
	return done, errors.Join(errs...)
}

var ids = []string{mail.NewID(time.UnixMicro(1)), mail.NewID(time.UnixMicro(2)), mail.NewID(time.UnixMicro(3))}

func queueOf3() *memory {
	return &memory{messages: []Message{
		{ID: ids[0], Lane: Waiting, Sender: "a@example.com", Recipients: []Recipient{{Address: "b@example.com", Reason: "451 later"}}},
		{ID: ids[1], Lane: Held, Reason: "spam"},
		{ID: ids[2], Lane: Slow},
	}}
}

// admin is what Client and Local both offer.
type admin interface {
	List(context.Context, Filter, func(Message) error) error
	Show(context.Context, string) (Message, error)
	Content(context.Context, string, io.Writer) error
	Apply(context.Context, Action, Request) (Result, error)
	DryRun(context.Context, Action, Request, func(Message) error) (Result, error)
	Shape(context.Context, ShapeRequest) (Shape, error)
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
			var a admin = Local{Queue: q}
			if where == "remote" {
				a, _ = startControl(t, ControlDeps{Queue: q})
			}
			testQueue(t, q, a)
		})
	}
}

func testQueue(t *testing.T, q *memory, a admin) {
	ctx := t.Context()
	score := -0.5
	chosen := Filter{
		Lanes: Lanes(), Sender: "a+b@x", Recipient: "@.x", Domain: ".x", Route: ". x", Listener: "mx", User: "u", Older: time.Hour, Younger: time.Minute,
		SizeAbove: 1, SizeBelow: 2, ScoreAbove: &score, ScoreBelow: &score, Reason: "a|b",
	}
	var listed []string
	if err := a.List(ctx, chosen, func(m Message) error { listed = append(listed, m.ID); return nil }); err != nil || !slices.Equal(listed, ids) {
		t.Errorf("List = %q, %v; want %q", listed, err, ids)
	}
	if !reflect.DeepEqual(q.asked, chosen) {
		t.Errorf("the queue was asked for %+v, want %+v", q.asked, chosen)
	}
	for _, bad := range []Filter{
		{Reason: "("}, {Lanes: []string{"deferred"}}, {Sender: "nobody"}, {Recipient: "a@b@c"}, {Domain: "a..b"}, {Sender: "a@x", NullSender: true},
		{Older: -1}, {SizeBelow: -1},
	} {
		if err := a.List(ctx, bad, nil); err == nil {
			t.Errorf("List of %+v: no error", bad)
		}
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
}

func TestControlRefuses(t *testing.T) {
	q := queueOf3()
	c, _ := startControl(t, ControlDeps{Queue: q})
	tests := []struct {
		name, method, path, body string
		code                     int
	}{
		{"unknown action", "POST", "/v1/queue/burn", `{"all":true}`, 404},
		{"GET never acts", "GET", "/v1/queue/delete", "", 400},
		{"unknown field", "POST", "/v1/queue/delete", `{"al":true}`, 400},
		{"unknown field of the filter", "POST", "/v1/queue/delete", `{"filter":{"sendr":"a@x"}}`, 400},
		{"bad filter", "POST", "/v1/queue/delete", `{"filter":{"sender":"a"}}`, 400},
		{"IDs in the filter", "POST", "/v1/queue/delete", `{"filter":{"ids":["` + ids[0] + `"]}}`, 400},
		{"negative limit", "POST", "/v1/queue/delete", `{"all":true,"limit":-1}`, 400},
		{"move to nowhere", "POST", "/v1/queue/move", `{"all":true}`, 400},
		{"move to hold", "POST", "/v1/queue/move", `{"all":true,"lane":"hold"}`, 400},
		{"bad filter of a shape", "POST", "/v1/queue/shape", `{"filter":{"reason":"("}}`, 400},
		{"bad filter of a list", "POST", "/v1/queue/list", `{"lanes":["x"]}`, 400},
		{"too long", "POST", "/v1/queue/delete", `{"ids":["` + strings.Repeat("x", maxRequest) + `"]}`, 400},
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
