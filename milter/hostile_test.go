package milter

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

// countedDraft is a draft that is counted while it is open.
type countedDraft struct {
	bytes.Buffer
	open *atomic.Int64
	once sync.Once
}

func (d *countedDraft) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(d.Bytes()).ReadAt(p, off)
}
func (d *countedDraft) Size() int64 { return int64(d.Len()) }
func (d *countedDraft) Discard()    { d.once.Do(func() { d.open.Add(-1) }) }

// What a hostile or dying MTA does costs it its own connection at most: no
// draft and no goroutine is left, and the next connection is answered (P5).
func TestHostileMTA(t *testing.T) {
	cut := func(b []byte, n int) []byte { return b[:len(b)-n] }
	field := func(data string) []byte { return wire.Append(nil, 'L', []byte(data)) }
	all := bytes.Join
	begun := all([][]byte{
		full.Append(nil), wire.Connect{Host: "h", Family: '4', Address: "192.0.2.1"}.Append(nil), wire.AppendText(nil, 'H', "h"),
		envelope('M', "<a@b.example>"), envelope('R', "<c@b.example>"), wire.Append(nil, 'T'), wire.Header{Name: "A", Value: " b"}.Append(nil, 'L'),
	}, nil)
	ended := all([][]byte{wire.Append(nil, 'N'), wire.Append(nil, 'B', []byte("x")), wire.Append(nil, 'E')}, nil)
	whole := all([][]byte{begun, ended}, nil)
	million := bytes.Repeat(wire.Header{Name: "X", Value: " y"}.Append(nil, 'L'), 1_000_000)
	var everywhere []byte // K, U and A before and behind every command
	for rest := whole[len(full.Append(nil)):]; len(rest) > 0; {
		n := 4 + int(rest[3])
		for _, extra := range "AU" {
			everywhere = append(everywhere, wire.AppendText(nil, byte(extra), "")...)
		}
		everywhere, rest = append(everywhere, rest[:n]...), rest[n:]
	}
	const (
		answered = "c" // the last answer, to the message
		refused  = "y"
		closed   = "" // without an answer to it
	)
	for _, tt := range []struct {
		name string
		in   []byte
		stay bool // the MTA neither closes nor goes on
		rst  bool
		last string
	}{
		{name: "body of 65536", in: all([][]byte{begun, wire.Append(nil, 'N'), wire.Append(nil, 'B', make([]byte, 65536)), wire.Append(nil, 'E')}, nil), last: answered},
		{name: "a million headers", in: all([][]byte{begun, million, ended}, nil), last: refused},
		{name: "header without a name", in: all([][]byte{begun, field("\x00v\x00"), ended}, nil)},
		{name: "header without NUL", in: all([][]byte{begun, field("A\x00v"), ended}, nil)},
		{name: "header with three strings", in: all([][]byte{begun, field("A\x00v\x00w\x00"), ended}, nil)},
		{name: "header with a line end in its name", in: all([][]byte{begun, field("A\nB\x00v\x00"), ended}, nil)},
		{name: "macros for nothing", in: all([][]byte{begun, wire.Append(nil, 'D'), ended}, nil)},
		{name: "odd macros", in: all([][]byte{begun, wire.Append(nil, 'D', []byte("Bi\x00")), ended}, nil)},
		{name: "macros without a value list", in: all([][]byte{begun, wire.Append(nil, 'D', []byte("B")), ended}, nil), last: answered},
		{name: "10000 macros", in: all([][]byte{begun, wire.Append(nil, 'D', []byte("B"), bytes.Repeat([]byte("a\x00b\x00"), 10_000)), ended}, nil)},
		{name: "unknown in a message", in: all([][]byte{begun, wire.AppendText(nil, 'U', "XYZZY"), ended}, nil), last: answered},
		{name: "abort in a message", in: all([][]byte{begun, wire.Append(nil, 'A'), ended}, nil)},
		{name: "aborts everywhere", in: all([][]byte{full.Append(nil), everywhere}, nil)},
		{name: "quit_nc in a message, then its end", in: all([][]byte{begun, wire.Append(nil, 'K'), ended}, nil)},
		{name: "quit_nc in a message, then another", in: all([][]byte{begun, wire.Append(nil, 'K'), whole[len(full.Append(nil)):]}, nil), last: answered},
		{name: "quit_nc a thousand times", in: all([][]byte{begun, bytes.Repeat(wire.Append(nil, 'K'), 1000), whole[len(full.Append(nil)):]}, nil), last: answered},
		{name: "MAIL after MAIL", in: all([][]byte{begun, bytes.Repeat(envelope('M', "<a@b.example>"), 1000), ended}, nil), last: answered},
		{name: "end of header twice", in: all([][]byte{begun, wire.Append(nil, 'N'), ended}, nil), last: answered},
		{name: "end twice", in: all([][]byte{whole, wire.Append(nil, 'E')}, nil), last: answered},
		{name: "second negotiation", in: all([][]byte{begun, full.Append(nil), ended}, nil)},
		{name: "half a packet, then silence", in: cut(begun, 3), stay: true},
		{name: "half a length, then silence", in: append(bytes.Clone(begun), 0, 0), stay: true},
		{name: "silence in a message", in: begun, stay: true},
		{name: "silence before the negotiation", stay: true},
		{name: "reset in a message", in: begun, rst: true},
		{name: "reset in a packet", in: cut(begun, 3), rst: true},
		{name: "reset at the end", in: whole, rst: true},
		{name: "gone in a message", in: begun},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			var drafts, handlers atomic.Int64
			stop, address := serveTCP(t, &drafts, &handlers)
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			heard := make(chan string, 1)
			go func() { heard <- lastAnswer(c) }()
			_, _ = c.Write(tt.in)
			switch {
			case tt.rst:
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			case !tt.stay:
				_ = c.(*net.TCPConn).CloseWrite()
			}
			last := <-heard // ends when the server closes
			c.Close()
			if !tt.rst && last != tt.last {
				t.Errorf("last answer to the message %q, want %q", last, tt.last)
			}
			eventually(t, "drafts", func() bool { return drafts.Load() == 0 })
			eventually(t, "handlers", func() bool { return handlers.Load() == 0 })
			next, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			_ = next.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = next.Write(whole)
			_ = next.(*net.TCPConn).CloseWrite()
			if got := lastAnswer(next); got != answered {
				t.Errorf("the next connection hears %q", got)
			}
			next.Close()
			stop()
			eventually(t, "goroutines", func() bool { return runtime.NumGoroutine() <= before })
		})
	}
}

// lastAnswer reads until the end and returns the last final answer to a
// message: those before the end of message are the same in number for all.
func lastAnswer(c net.Conn) string {
	in := wire.Reader{R: c}
	last, edited := "", false
	for {
		p, err := in.Next()
		if err != nil {
			return last
		}
		switch {
		case p.Code == byte(milter.ActInsertHeader), p.Code == byte(milter.ActAddHeader): // X-Gatepost-ID
			edited = true
		case p.Code == 'y' || edited && p.Code == 'c':
			last, edited = string(p.Code), false
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s are left", what)
		}
	}
}

// countedHandler accepts everything and counts itself until it is closed.
type countedHandler struct {
	fakeHandler
	open *atomic.Int64
}

func (h *countedHandler) Message(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	_, _ = io.Copy(io.Discard, tx.Message.Reader())
	return mail.Verdict{}
}
func (h *countedHandler) Close() { h.open.Add(-1) }

func serveTCP(t *testing.T, drafts, handlers *atomic.Int64) (stop func(), address string) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Name, cfg.Socket, cfg.IdleTimeout = "main", "inet:0@127.0.0.1", 2*time.Second
	s, err := New(cfg, Deps{
		NewHandler: func() mail.Handler { handlers.Add(1); return &countedHandler{open: handlers} },
		NewDraft:   func(string) Draft { drafts.Add(1); return &countedDraft{open: drafts} },
		Log:        slog.New(slog.NewTextHandler(panicAlarm{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop, s.Addr().String()
}

// panicAlarm is a log that fails the test when it tells of a panic.
type panicAlarm struct{ t testing.TB }

func (a panicAlarm) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "panicked") {
		a.t.Errorf("%s", b)
	}
	return len(b), nil
}
