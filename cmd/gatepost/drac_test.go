package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatepost/internal/state"
)

// clock is set by hand.
type clock struct{ at time.Time }

func (c *clock) now() time.Time        { return c.at }
func (c *clock) set(seconds int64)     { c.at = time.Unix(seconds, 0) }
func (c *clock) later(d time.Duration) { c.at = c.at.Add(d) }

// TestWindowVectors is rpc.dracd's arithmetic: a window of 30 minutes that is
// opened at 1000 ends behind 2800.
func TestWindowVectors(t *testing.T) {
	c := &clock{}
	w := &windows{store: state.NewMemory(c.now), now: c.now, log: slog.New(slog.DiscardHandler)}
	addr, ctx := netip.MustParseAddr("192.0.2.25"), context.Background()
	add := func(at int64) {
		t.Helper()
		c.set(at)
		if err := w.add(ctx, addr, 30*time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	open := func(want bool, a netip.Addr) {
		t.Helper()
		if got := w.Open(ctx, a); got != want {
			t.Errorf("at %d %s: open %v, want %v", c.at.Unix(), a, got, want)
		}
	}
	add(1000)
	c.set(2800)
	open(true, addr)
	open(true, netip.MustParseAddr("::ffff:192.0.2.25"))
	open(false, netip.MustParseAddr("192.0.2.26"))
	c.later(999 * time.Millisecond)
	open(true, addr)
	c.set(2801)
	open(false, addr)

	add(1000)
	add(2000) // renews
	c.set(3800)
	open(true, addr)
	c.set(3801)
	open(false, addr)

	c.set(1000)
	c.later(700 * time.Millisecond) // the seconds of the clock count, not those since then
	if err := w.add(ctx, addr, 30*time.Minute); err != nil {
		t.Fatal(err)
	}
	c.set(2800)
	open(true, addr)
	c.set(2801)
	open(false, addr)
}

// brokenStore answers what a store does that is away.
type brokenStore struct {
	state.Store
	err error
}

func (b *brokenStore) Get(context.Context, state.Set, ...string) (state.Entry, bool, error) {
	return state.Entry{}, true, b.err // whatever it may say beside an error
}

func TestWindowOfAStoreThatIsAway(t *testing.T) {
	var out bytes.Buffer
	b := &brokenStore{err: errors.New("connection refused")}
	w := &windows{store: b, now: time.Now, log: slog.New(slog.NewTextHandler(&out, nil))}
	addr := netip.MustParseAddr("192.0.2.25")
	for range 3 {
		if w.Open(context.Background(), addr) {
			t.Fatal("a window that nobody could see")
		}
	}
	if n := strings.Count(out.String(), "can't be looked up"); n != 1 {
		t.Errorf("said %d times:\n%s", n, out.String())
	}
	b.err = nil
	if !w.Open(context.Background(), addr) {
		t.Error("the store is back")
	}
	b.err = errors.New("again")
	w.Open(context.Background(), addr)
	if n := strings.Count(out.String(), "can't be looked up"); n != 2 {
		t.Errorf("said %d times", n)
	}
}
