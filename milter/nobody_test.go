package milter

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

// sighted is a handler that knows whether it looks behind the header.
type sighted struct {
	*fakeHandler
	reads bool
}

func (s sighted) ReadsBody() bool { return s.reads }

// Where nobody looks behind the header, the MTA keeps the body.
func TestBodyStaysWithTheMTA(t *testing.T) {
	for _, tt := range []struct {
		name  string
		offer milter.OptProtocol
		reads bool
		hold  bool
		want  bool // that the MTA is told so
	}{
		{"nobody reads it", wire.AllProtocol, false, false, true},
		{"somebody does", wire.AllProtocol, true, false, false},
		{"we hold messages", wire.AllProtocol, false, true, false},
		{"the MTA offers no such thing", wire.AllProtocol &^ milter.OptNoBody, false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &fakeHandler{}
			path := start(t, h, func(c *Config, d *Deps) {
				if tt.hold {
					c.Quarantine = QuarantineHold
					d.Hold = func(context.Context, *mail.Transaction, []Held) error { return nil }
				}
				d.NewHandler = func() mail.Handler { return sighted{h, tt.reads} }
				d.ReadsBody = func() bool { return tt.reads }
			})
			m := dial(t, path, wire.Negotiation{Version: 6, Actions: wire.AllActions, Protocol: tt.offer})
			if got := m.neg.Protocol&milter.OptNoBody != 0; got != tt.want {
				t.Fatalf("NOBODY = %v, want %v", got, tt.want)
			}
			m.hello()
			m.ask(envelope('M', "<a@example.org>", "SIZE=123456"))
			m.ask(envelope('R', "<b@example.com>"))
			if got := strings.Join(m.content(plain, "x\r\n"), " "); got != "c" {
				t.Errorf("end: %q", got)
			}
			if !strings.HasPrefix(h.content(0), "From: s@sender.test\r\nSubject:") {
				t.Errorf("the handler saw %q", h.content(0))
			}
		})
	}
}

// A reload after the negotiation: what the handler would have to judge without
// the body is not judged, at no message of the session, and the MTA is brought
// to negotiate anew.
func TestNothingIsJudgedWithoutItsBody(t *testing.T) {
	for name, after := range map[string]func(*fakeHandler) mail.Handler{
		"reads it":       func(h *fakeHandler) mail.Handler { return sighted{h, true} },
		"doesn't say so": func(h *fakeHandler) mail.Handler { return h },
	} {
		t.Run(name, func(t *testing.T) {
			h := &fakeHandler{}
			var reloaded atomic.Bool
			path := start(t, h, func(_ *Config, d *Deps) {
				d.ReadsBody = reloaded.Load
				d.NewHandler = func() mail.Handler {
					if reloaded.Load() {
						return after(h)
					}
					return sighted{h, false}
				}
				d.Decides = func() []mail.Stage { return nil }
			})
			m := dial(t, path, full)
			if m.neg.Protocol&milter.OptNoBody == 0 || m.neg.Protocol&milter.OptNoRcptReply == 0 {
				t.Fatalf("negotiated %#x", m.neg.Protocol)
			}
			reloaded.Store(true)
			m.send(wire.Connect{Host: "h.example", Family: '4', Port: 2525, Address: "192.0.2.9"}.Append(nil))
			for range 2 {
				m.send(envelope('M', "<a@example.org>"))
				m.send(envelope('R', "<b@example.com>"))
				if got := strings.Join(m.content(plain, ""), " "); got != "t" {
					t.Errorf("end: %q, want a tempfail", got)
				}
			}
			if len(h.contents) != 0 {
				t.Errorf("the handler judged %q", h.contents)
			}
			m.send(wire.Append(nil, byte(milter.CodeQuitNewConn)))
			if p, err := m.in.Next(); err == nil {
				t.Errorf("after QUIT_NC: %q, want the end of the connection", p.Code)
			}
			fresh := dial(t, path, full)
			if fresh.neg.Protocol&milter.OptNoBody != 0 {
				t.Error("a new connection spares the body, too")
			}
		})
	}
}

// What the client says of the size counts where the body stays with the MTA.
func TestSizeWithoutBody(t *testing.T) {
	for arg, want := range map[string]string{
		"SIZE=1000": "c", "size=1001": "y552 5.3.4 message larger than max_size|", "SIZE=x": "c", "SIZE=-1": "c", "BODY=7BIT": "c",
	} {
		h := &fakeHandler{}
		var log lockedBuffer
		m := dial(t, start(t, h, func(c *Config, d *Deps) {
			c.MaxSize = 1000
			d.NewHandler = func() mail.Handler { return sighted{h, false} }
			d.ReadsBody = func() bool { return false }
			d.Log = slog.New(slog.NewTextHandler(&log, nil))
		}), full)
		m.hello()
		m.ask(envelope('M', "<a@example.org>", arg))
		m.ask(envelope('R', "<b@example.com>"))
		if got := strings.Join(m.content(plain, ""), " "); got != want {
			t.Errorf("%s: %q, want %q", arg, got, want)
		}
		if size, ok := strings.CutPrefix(arg, "SIZE=10"); ok && !strings.Contains(log.String(), "size=10"+size) {
			t.Errorf("%s: logged %s", arg, log.String())
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
