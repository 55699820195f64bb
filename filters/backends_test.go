package filters

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// listen starts a server that answers each connection with its name; "" accepts
// and says nothing.
func listen(t *testing.T, network, address, name string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if name == "" {
				t.Cleanup(func() { c.Close() })
				continue
			}
			_, _ = io.WriteString(c, name)
			c.Close()
		}
	}()
	return network + ":" + l.Addr().String()
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "tcp:" + l.Addr().String()
}

// who returns the name of the backend that answered.
func who(ctx context.Context, b *Backends) (string, error) {
	var name []byte
	err := b.Do(ctx, func(c net.Conn) (err error) {
		name, err = io.ReadAll(c)
		if err == nil && string(name) == "bad" {
			err = errors.New("nonsense")
		}
		return err
	})
	return string(name), err
}

func parse(t *testing.T, addresses ...string) *Backends {
	t.Helper()
	b, err := ParseBackends(addresses, "unix", "tcp", "tls")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBackendsInOrder(t *testing.T) {
	one := listen(t, "unix", filepath.Join(t.TempDir(), "s"), "one")
	two := listen(t, "tcp", "127.0.0.1:0", "two")
	bad := listen(t, "tcp", "127.0.0.1:0", "bad")
	tests := []struct {
		name      string
		addresses []string
		want      string
	}{
		{name: "the first", addresses: []string{one, two}, want: "one"},
		{name: "order of the configuration", addresses: []string{two, one}, want: "two"},
		{name: "first is down", addresses: []string{closedPort(t), two}, want: "two"},
		{name: "no socket", addresses: []string{"unix:/nonexistent/socket", one}, want: "one"},
		{name: "first answers nonsense", addresses: []string{bad, one}, want: "one"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := parse(t, tt.addresses...)
			for range 2 { // the second time the failed one rests
				if got, err := who(t.Context(), b); got != tt.want || err != nil {
					t.Errorf("got %q, %v, want %q", got, err, tt.want)
				}
			}
		})
	}
}

func TestFailedBackendIsTriedLast(t *testing.T) {
	bad := listen(t, "tcp", "127.0.0.1:0", "bad")
	two := listen(t, "tcp", "127.0.0.1:0", "two")
	b := parse(t, bad, two)
	if _, err := who(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if got := b.order(); got[0] != b.list[1] || got[1] != b.list[0] {
		t.Error("the one that failed is still tried first")
	}
	b.list[0].rest(false)
	if got := b.order(); got[0] != b.list[0] {
		t.Error("the one that works again is not tried first")
	}
}

func TestAllBackendsDown(t *testing.T) {
	first, second := closedPort(t), "unix:/nonexistent/socket"
	b := parse(t, first, second)
	_, err := who(t.Context(), b)
	if err == nil || !strings.Contains(err.Error(), first) || !strings.Contains(err.Error(), second) {
		t.Errorf("error = %v, want both addresses", err)
	}
	if _, err := who(t.Context(), b); err == nil {
		t.Error("both rest, and neither was tried")
	}
}

// One that accepts and says nothing costs its share of the time, not all.
func TestSilentBackendLeavesTimeForTheNext(t *testing.T) {
	b := parse(t, listen(t, "tcp", "127.0.0.1:0", ""), listen(t, "tcp", "127.0.0.1:0", "two"))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if got, err := who(ctx, b); got != "two" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestContextEndsTheExchange(t *testing.T) {
	b := parse(t, listen(t, "tcp", "127.0.0.1:0", ""))
	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := who(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error = %v, want deadline exceeded", err)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		b.list[0].rest(false)
		if _, err := who(ctx, b); !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want canceled", err)
		}
		if b.list[0].resting() {
			t.Error("the backend is blamed for our giving up")
		}
	})
}

func TestParseBackends(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"unix:/run/clamav/clamd.ctl", ""},
		{"tcp:127.0.0.1:3310", ""},
		{"tcp:[::1]:3310", ""},
		{"tcp:scanner.example:3310", ""},
		{"unix:clamd.ctl", "no absolute path"},
		{"unix:", "no absolute path"},
		{"/run/clamav/clamd.ctl", "no scheme known here; write one of unix:, tcp:"},
		{"127.0.0.1:3310", "no scheme known here"},
		{"tls:host:783", "no scheme known here"},
		{"tcp:127.0.0.1", "not host:port"},
		{"tcp:127.0.0.1:0", "port from 1"},
		{"tcp:127.0.0.1:clamd", "port from 1"},
		{"tcp:127.0.0.1:65536", "port from 1"},
		{"tcp::3310", "port from 1"},
		{"", "no scheme known here"},
	} {
		_, err := ParseBackends([]string{tt.in}, "unix", "tcp")
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q: %v, want %q", tt.in, err, tt.want)
		}
	}
	if _, err := ParseBackends(nil, "unix"); err == nil {
		t.Error("no address at all was taken")
	}
}
