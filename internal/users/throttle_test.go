package users

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatepost/internal/state"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// clock is time that a test moves.
type clock struct{ now time.Time }

func (c *clock) time() time.Time { return c.now }

func newClock() *clock { return &clock{time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)} }

func addr(format string, args ...any) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf(format, args...))
}

// testThrottle remembers in memory, with a clock.
func testThrottle() (*Throttle, *clock) {
	c := newClock()
	t := NewThrottle(DefaultThrottleConfig(), nil, quiet)
	t.own = state.NewMemory(c.time)
	return t, c
}

func TestThrottleClient(t *testing.T) {
	th, c := testThrottle()
	bad, ctx := addr("192.0.2.1"), t.Context()
	for i := range 10 {
		if why := th.Refuses(ctx, bad, fmt.Sprint("user", i)); why != "" {
			t.Fatalf("refused after %d failures: %s", i, why)
		}
		th.Tried(ctx, bad, fmt.Sprint("user", i), false)
	}
	if th.Refuses(ctx, bad, "another") == "" {
		t.Error("an eleventh guess is heard")
	}
	if why := th.Refuses(ctx, addr("192.0.2.2"), "another"); why != "" {
		t.Errorf("its neighbour is refused: %s", why)
	}
	c.now = c.now.Add(16 * time.Minute)
	if why := th.Refuses(ctx, bad, "another"); why != "" {
		t.Errorf("still refused after the block: %s", why)
	}
}

// An IPv6 customer has a /64 at least: all of it is one.
func TestThrottleNetwork(t *testing.T) {
	th, _ := testThrottle()
	for i := range 10 {
		th.Tried(t.Context(), addr("2001:db8::%x", i+1), fmt.Sprint("user", i), false)
	}
	if th.Refuses(t.Context(), addr("2001:db8::ffff"), "another") == "" {
		t.Error("another address of the /64 is heard")
	}
	if why := th.Refuses(t.Context(), addr("2001:db8:0:1::1"), "another"); why != "" {
		t.Errorf("another /64 is refused: %s", why)
	}
	if network(addr("::ffff:192.0.2.1")) != "192.0.2.1" || network(addr("fe80::1%%eth0")) != "fe80::/64" {
		t.Error("mapped addresses and zones")
	}
}

// Many addresses guess at one user. He goes on where he was before.
func TestThrottleUser(t *testing.T) {
	th, c := testThrottle()
	ctx, home := t.Context(), addr("198.51.100.7")
	th.Tried(ctx, home, "Alice", true)
	guessed := 0
	for i := range 5000 {
		client := addr("10.%d.%d.1", i/256, i%256)
		if th.Refuses(ctx, client, "alice") != "" {
			continue
		}
		guessed++
		th.Tried(ctx, client, "alice", false)
	}
	if guessed != 20 {
		t.Errorf("%d of 5000 guesses were heard, want 20", guessed)
	}
	if why := th.Refuses(ctx, home, "alice"); why != "" {
		t.Errorf("she herself is refused: %s", why)
	}
	if th.Refuses(ctx, addr("203.0.113.1"), "ALICE") == "" {
		t.Error("another spelling is heard")
	}
	if why := th.Refuses(ctx, addr("203.0.113.1"), "bob"); why != "" {
		t.Errorf("somebody else is refused: %s", why)
	}
	// A device at home with an old password: it is heard as often as a stranger, and then
	// nothing speaks for the place any more.
	for range 9 {
		th.Tried(ctx, home, "alice", false)
	}
	if why := th.Refuses(ctx, home, "alice"); why != "" {
		t.Errorf("after nine failures at home: %s", why)
	}
	th.Tried(ctx, home, "alice", false)
	if th.Refuses(ctx, home, "alice") == "" {
		t.Error("guesses from her own network are heard for ever")
	}
	c.now = c.now.Add(time.Hour)
	if why := th.Refuses(ctx, home, "alice"); why != "" {
		t.Errorf("after an hour: %s", why)
	}
}

// broken is a Memory that can't be reached.
type broken struct{}

func (broken) Put(context.Context, state.Set, string, string, time.Duration) error {
	return state.ErrAway
}
func (broken) Get(context.Context, state.Set, ...string) (state.Entry, bool, error) {
	return state.Entry{}, false, state.ErrAway
}
func (broken) Delete(context.Context, state.Set, ...string) (int, error) { return 0, state.ErrAway }
func (broken) Count(context.Context, string, int, time.Duration) (int, error) {
	return 0, state.ErrAway
}

func TestThrottleWithoutItsMemory(t *testing.T) {
	var log strings.Builder
	th := NewThrottle(DefaultThrottleConfig(), broken{}, slog.New(slog.NewTextHandler(&log, nil)))
	for range 10 {
		th.Tried(t.Context(), addr("192.0.2.1"), "alice", false)
	}
	if th.Refuses(t.Context(), addr("192.0.2.1"), "alice") == "" {
		t.Error("without its store it lets everybody guess")
	}
	if n := strings.Count(log.String(), "by this process alone"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &log)
	}
}

// Names of users come from strangers.
func TestThrottleNames(t *testing.T) {
	th, _ := testThrottle()
	for _, name := range []string{"", strings.Repeat("x", 5000), "a\nb", "a b c", "é\xff", "x\x00"} {
		th.Tried(t.Context(), addr("192.0.2.1"), name, false)
		if k := keysOf(addr("192.0.2.1"), name); len(k.known) > 512 || strings.ContainsAny(k.known, "\n\x00") {
			t.Errorf("key %q", k.known)
		}
	}
	for _, same := range []string{"ALICE", " alice ", "al ice", "ａlice"} {
		if keysOf(addr("192.0.2.1"), same) != keysOf(addr("192.0.2.1"), "alice") {
			t.Errorf("%q is tried beside alice", same)
		}
	}
	if k := keysOf(addr("192.0.2.1"), strings.Repeat("x", 5000)); k == keysOf(addr("192.0.2.1"), strings.Repeat("x", 5001)) {
		t.Error("two long names are one")
	}
}

func TestThrottleConfig(t *testing.T) {
	if err := DefaultThrottleConfig().Validate(); err != nil {
		t.Error(err)
	}
	err := ThrottleConfig{}.Validate()
	if err == nil || !strings.Contains(err.Error(), "client_failures") || !strings.Contains(err.Error(), "remember") {
		t.Errorf("%v", err)
	}
}
