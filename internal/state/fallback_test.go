package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// distant is a store that can be cut off.
type distant struct {
	*Memory
	cut   atomic.Bool
	calls atomic.Int64 // while it was cut off
	other error        // of Get, when it is not
}

func (d *distant) reach() error {
	if d.cut.Load() {
		d.calls.Add(1)
		return fmt.Errorf("%w: cut off", ErrAway)
	}
	return nil
}

func (d *distant) probe(context.Context) error {
	if d.cut.Load() {
		return ErrAway
	}
	return nil
}

func (d *distant) Put(ctx context.Context, set Set, key, value string, ttl time.Duration) error {
	if err := d.reach(); err != nil {
		return err
	}
	return d.Memory.Put(ctx, set, key, value, ttl)
}

func (d *distant) Delete(ctx context.Context, set Set, keys ...string) (int, error) {
	if err := d.reach(); err != nil {
		return 0, err
	}
	return d.Memory.Delete(ctx, set, keys...)
}

func (d *distant) Get(ctx context.Context, set Set, keys ...string) (Entry, bool, error) {
	if err := errors.Join(d.reach(), d.other); err != nil {
		return Entry{}, false, err
	}
	return d.Memory.Get(ctx, set, keys...)
}

func (d *distant) Grey(ctx context.Context, t Triple) (Grey, error) {
	if err := d.reach(); err != nil {
		return Grey{}, err
	}
	return d.Memory.Grey(ctx, t)
}

// counts is the Stats of a test.
type counts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counts) StoreError(store, op string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]int)
	}
	c.n[store+" "+op]++
}

func (c *counts) of(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}

// logged is a log that several goroutines write.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

type fallen struct {
	bench
	f     *Fallback
	far   *distant
	stats counts
	log   logged
	c     *clock
}

func openFallback(t *testing.T) *fallen {
	c := newClock()
	x := &fallen{far: &distant{Memory: NewMemory(c.now)}, c: c}
	x.f = newFallback(x.far, "redis", Options{Now: c.now, Stats: &x.stats, Log: slog.New(slog.NewTextHandler(&x.log, nil))})
	x.bench = bench{Store: x.f, forward: c.forward}
	t.Cleanup(func() {
		if err := x.f.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func (x *fallen) returns(t *testing.T) {
	t.Helper()
	x.far.cut.Store(false)
	testkit.Eventually(t, 60*time.Second, "the store is back", func() bool { return x.f.Away() == nil })
}

func TestFallback(t *testing.T) {
	conform(t, func(t *testing.T) bench { return openFallback(t).bench })
	t.Run("away", func(t *testing.T) {
		conform(t, func(t *testing.T) bench {
			x := openFallback(t)
			x.far.cut.Store(true)
			x.wants(t, Blocked, "", "nothing")
			return x.bench
		})
	})
}

// What was known goes on, what is new is told when the store is back.
func TestOutage(t *testing.T) {
	x := openFallback(t)
	far := bench{Store: x.far.Memory}
	x.put(t, Windows, "mine", "", time.Hour)
	x.put(t, Windows, "ended", "", time.Minute)
	far.put(t, Windows, "theirs", "t", time.Hour)
	far.put(t, Windows, "unseen", "", time.Hour)
	x.wants(t, Windows, "theirs=t", "theirs")
	x.put(t, Blocked, "pardoned", "", time.Hour)
	far.Store.Delete(t.Context(), Blocked, "pardoned")
	x.wants(t, Blocked, "", "pardoned")
	x.grey(t, policy, Grey{Wait: 5 * time.Minute})
	x.forward(2 * time.Minute)

	x.far.cut.Store(true)
	for _, want := range []struct{ key, value string }{{"mine", "mine="}, {"theirs", "theirs=t"}, {"unseen", ""}, {"ended", ""}} {
		x.wants(t, Windows, want.value, want.key)
	}
	x.wants(t, Blocked, "", "pardoned")
	x.put(t, Blocked, "new", "virus", time.Hour)
	x.put(t, Blocked, "new", "spam", time.Hour)
	x.put(t, Blocked, "short", "", time.Minute)
	must[int](t)(x.Delete(t.Context(), Windows, "mine", "theirs"))
	x.put(t, Windows, "mine", "again", time.Hour)
	x.wants(t, Windows, "mine=again", "theirs", "mine")
	x.grey(t, policy, Grey{Wait: 3 * time.Minute}) // known from before
	x.forward(3 * time.Minute)
	x.grey(t, policy, Grey{Pass: true})
	if n := x.far.calls.Load(); n != 1 {
		t.Errorf("the store was asked %d times while it was away", n)
	}
	if gets, puts := x.stats.of("redis get"), x.stats.of("redis put"); gets != 6 || puts != 4 {
		t.Errorf("counted %d and %d, want 6 and 4: %v", gets, puts, x.stats.n)
	}

	x.returns(t)
	far.wants(t, Blocked, "new=spam", "new")
	far.wants(t, Blocked, "", "short")
	far.wants(t, Windows, "mine=again", "theirs", "mine")
	far.wants(t, Windows, "unseen=", "unseen")
	if x.log.count("level=WARN") != 1 || x.log.count("is away") != 1 || x.log.count("is back") != 1 {
		t.Errorf("log:\n%s", x.log.b.String())
	}
	e, _, _ := far.Get(t.Context(), Blocked, "new")
	if left := e.Expires.Sub(x.c.now()); left != 57*time.Minute {
		t.Errorf("ends in %v, want 57m", left)
	}
}

// The memory of an outage is bounded.
func TestOutageIsBounded(t *testing.T) {
	x := openFallback(t)
	x.far.cut.Store(true)
	for i := range mostUnsaid + 5 {
		x.put(t, Blocked, fmt.Sprint(i), "", time.Hour)
	}
	if n := len(x.f.unsaid.last); n != mostUnsaid {
		t.Errorf("%d entries wait", n)
	}
	m := newMemory(nil, 100)
	for i := range 1000 {
		key := fmt.Sprint(i)
		if err := m.Put(t.Context(), Blocked, key, "", time.Hour); err != nil {
			t.Fatal(err)
		}
		must[int](t)(m.Count(t.Context(), key, 1, time.Hour))
		must[time.Duration](t)(m.Take(t.Context(), key, Rate{1, time.Hour}, 1))
		tr := policy
		tr.Key = key
		must[Grey](t)(m.Grey(t.Context(), tr))
		if _, ok, err := m.Enter(t.Context(), key, key, 1, time.Hour); !ok || err != nil {
			t.Fatal(err)
		}
	}
	for what, n := range map[string]int{
		"set": len(m.sets[Blocked].m), "tallies": len(m.hot.tallies.m), "rates": len(m.hot.rates.m), "places": len(m.hot.places.m), "triples": len(m.triples.m),
	} {
		if n != 100 {
			t.Errorf("%s: %d, want 100", what, n)
		}
	}
}

// An error that is an answer is told, and is no outage.
func TestOtherErrors(t *testing.T) {
	x := openFallback(t)
	x.far.other = errors.New("somebody else's data")
	if _, _, err := x.Get(t.Context(), Blocked, "k"); err == nil || x.f.Away() != nil || x.stats.of("redis get") != 1 {
		t.Errorf("%v, away: %v", err, x.f.Away())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x.far.cut.Store(true)
	if _, _, err := x.Get(ctx, Blocked, "k"); err == nil || x.f.Away() != nil {
		t.Errorf("nobody waits: %v, away: %v", err, x.f.Away())
	}
}

// Changes at the moment of the return are not lost.
func TestReturnUnderLoad(t *testing.T) {
	x := openFallback(t)
	x.far.cut.Store(true)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	put := make([]int, 4)
	for i := range put {
		wg.Go(func() {
			for ; ; put[i]++ {
				select {
				case <-stop:
					return
				default:
					x.put(t, Blocked, fmt.Sprint(i, " ", put[i]%100), fmt.Sprint(put[i]), time.Hour)
				}
			}
		})
	}
	testkit.Eventually(t, 60*time.Second, "away", func() bool { return x.f.Away() != nil })
	x.returns(t)
	close(stop)
	wg.Wait()
	for i, n := range put {
		for j := range 100 {
			last := (n-1-j)/100*100 + j
			x.wants(t, Blocked, fmt.Sprint(i, " ", j, "=", last), fmt.Sprint(i, " ", j))
		}
	}
}
