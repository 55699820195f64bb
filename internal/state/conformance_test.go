package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now().Truncate(time.Microsecond)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// bench is a store with a clock that a test moves.
type bench struct {
	Store
	forward func(time.Duration)
	noPlus  bool // it takes "[+" for the end of all keys
}

// conform is what every Store must do.
func conform(t *testing.T, open func(t *testing.T) bench) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, bench)
	}{
		{"sets", testSets}, {"sets end", testSetsEnd}, {"list", testList}, {"sets are apart", testSetsApart}, {"any bytes", testAnyBytes},
		{"count", testCount}, {"take", testTake}, {"take more than there is", testTakeTooMuch}, {"enter and leave", testEnter},
		{"grey", testGrey}, {"grey too late", testGreyLate}, {"grey network", testGreyNetwork}, {"grey without a network", testGreyNoNetwork},
		{"refused", testRefused}, {"many at once", testAtOnce}, {"canceled", testCanceled},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t)) })
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (b bench) put(t *testing.T, set Set, key, value string, ttl time.Duration) {
	t.Helper()
	if err := b.Put(t.Context(), set, key, value, ttl); err != nil {
		t.Fatal(err)
	}
}

func (b bench) wants(t *testing.T, set Set, want string, keys ...string) {
	t.Helper()
	e, ok, err := b.Get(t.Context(), set, keys...)
	got := ""
	if ok {
		got = e.Key + "=" + e.Value
	}
	if got != want || err != nil {
		t.Errorf("get %q: %q, %v, want %q", keys, got, err, want)
	}
}

func testSets(t *testing.T, b bench) {
	b.wants(t, Blocked, "", "192.0.2.1")
	b.put(t, Blocked, "192.0.2.1", "virus", time.Hour)
	b.put(t, Blocked, "192.0.2", "", time.Hour)
	b.wants(t, Blocked, "192.0.2.1=virus", "192.0.2.1", "192.0.2")
	b.wants(t, Blocked, "192.0.2=", "192.0.2.7", "192.0.2", "192.0.2.1")
	b.put(t, Blocked, "192.0.2.1", "spam", time.Hour)
	b.wants(t, Blocked, "192.0.2.1=spam", "192.0.2.1")
	b.wants(t, Blocked, "")
	if n := must[int](t)(b.Delete(t.Context(), Blocked, "192.0.2.1", "192.0.2.2", "192.0.2")); n != 2 {
		t.Errorf("deleted %d, want 2", n)
	}
	b.wants(t, Blocked, "", "192.0.2.1", "192.0.2")
	if n := must[int](t)(b.Delete(t.Context(), Blocked)); n != 0 {
		t.Errorf("deleted %d of none", n)
	}
}

func testSetsEnd(t *testing.T, b bench) {
	b.put(t, Windows, "a", "", time.Minute)
	b.put(t, Windows, "b", "", time.Hour)
	b.forward(59 * time.Second)
	e, ok, err := b.Get(t.Context(), Windows, "a")
	if left := time.Until(e.Expires); !ok || err != nil || left > 2*time.Hour || left < -2*time.Hour {
		t.Errorf("%v, %v: ends in %v", ok, err, left)
	}
	b.forward(2 * time.Second)
	b.wants(t, Windows, "", "a")
	b.wants(t, Windows, "b=", "a", "b")
	if list := must[[]Entry](t)(b.List(t.Context(), Windows, "", 10)); len(list) != 1 || list[0].Key != "b" {
		t.Errorf("list: %v", list)
	}
	if n := must[int](t)(b.Delete(t.Context(), Windows, "a")); n != 0 {
		t.Errorf("deleted %d that had ended", n)
	}
	// One that is put again has its new end, be it sooner.
	b.put(t, Windows, "b", "", time.Minute)
	b.forward(61 * time.Second)
	b.wants(t, Windows, "", "b")
}

func testList(t *testing.T, b bench) {
	keys := []string{"net:a", "net:b", "net:\xff", "other", "ne", "net:"}
	for _, k := range keys {
		b.put(t, Passed, k, "v"+k, time.Hour)
	}
	for _, tt := range []struct {
		prefix string
		limit  int
		want   []string
	}{
		{"", 100, []string{"ne", "net:", "net:a", "net:b", "net:\xff", "other"}},
		{"net:", 100, []string{"net:", "net:a", "net:b", "net:\xff"}},
		{"net:", 2, []string{"net:", "net:a"}},
		{"net:\xff", 2, []string{"net:\xff"}},
		{"x", 2, nil},
		{"", 0, nil},
	} {
		var got []string
		for _, e := range must[[]Entry](t)(b.List(t.Context(), Passed, tt.prefix, tt.limit)) {
			got = append(got, e.Key)
			if e.Value != "v"+e.Key || e.Expires.IsZero() {
				t.Errorf("entry %+v", e)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q, at most %d: %q, want %q", tt.prefix, tt.limit, got, tt.want)
		}
	}
}

func testSetsApart(t *testing.T, b bench) {
	for _, s := range Sets() {
		b.put(t, s, "key", string(s), time.Hour)
	}
	for _, s := range Sets() {
		b.wants(t, s, "key="+string(s), "key")
	}
	must[int](t)(b.Delete(t.Context(), Windows, "key"))
	b.wants(t, Blocked, "key=block", "key")
}

// What a stranger wrote is kept as it is, and is nothing else.
func testAnyBytes(t *testing.T, b bench) {
	for _, k := range []string{
		"{other}", "}{", "%", "_", "*", "[a]", "ü", "\xff\xfe", "a b", "a\nb", "'; DROP TABLE entry; --", "\\", strings.Repeat("k", maxText), "1 2 3", ":", "-inf", "(", "[", "+",
	} {
		v := "v" + k[:min(len(k), maxText-1)]
		b.put(t, Senders, k, v, time.Hour)
		b.wants(t, Senders, k+"="+v, k)
		if n := must[int](t)(b.Count(t.Context(), k, 1, time.Minute)); n != 1 {
			t.Errorf("%q: counted %d", k, n)
		}
		if g := must[Grey](t)(b.Grey(t.Context(), Triple{Key: k, Network: k, Delay: time.Minute, Window: time.Hour, Keep: time.Hour, Auto: 1})); g.Pass {
			t.Errorf("%q: %+v", k, g)
		}
		if n, ok, err := b.Enter(t.Context(), k, k, 1, time.Minute); n != 1 || !ok || err != nil {
			t.Errorf("%q: %d, %v, %v", k, n, ok, err)
		}
		if list := must[[]Entry](t)(b.List(t.Context(), Senders, k, 1)); b.noPlus && k == "+" {
			continue
		} else if len(list) != 1 || list[0].Key != k || list[0].Value != v {
			t.Errorf("%q: listed as %v", k, list)
		}
		if n := must[int](t)(b.Delete(t.Context(), Senders, k)); n != 1 {
			t.Errorf("%q: deleted %d", k, n)
		}
	}
}

func testCount(t *testing.T, b bench) {
	count := func(n, want int) {
		t.Helper()
		if got := must[int](t)(b.Count(t.Context(), "virus:192.0.2.1", n, time.Minute)); got != want {
			t.Errorf("counted %d, want %d", got, want)
		}
	}
	count(0, 0)
	count(4, 4)
	count(1, 5)
	b.forward(59 * time.Second)
	count(0, 5)
	b.forward(16 * time.Second) // a quarter into the second window
	count(1, 4)                 // 3 of the 5, and this one
	b.forward(105 * time.Second)
	count(0, 0)
	b.forward(time.Hour)
	count(2, 2)
	if got := must[int](t)(b.Count(t.Context(), "another", 1, time.Minute)); got != 1 {
		t.Errorf("another: %d", got)
	}
}

func testTake(t *testing.T, b bench) {
	r := Rate{Limit: 3, Period: time.Minute}
	take := func(n int, want time.Duration) {
		t.Helper()
		got := must[time.Duration](t)(b.Take(t.Context(), "client", r, n))
		if diff := got - want; diff > 5*time.Microsecond || diff < -5*time.Microsecond {
			t.Errorf("wait %v, want %v", got, want)
		}
	}
	take(1, 0)
	take(2, 0)
	take(1, 20*time.Second)
	take(1, 20*time.Second) // nothing was taken
	take(3, time.Minute)
	b.forward(20*time.Second + time.Microsecond)
	take(2, 20*time.Second)
	take(1, 0)
	take(1, 20*time.Second)
	b.forward(time.Hour) // no more is saved up than Limit
	take(4, 20*time.Second)
	take(3, 0)
	take(1, 20*time.Second)
	r.Limit = 60 // another rate of the same key
	take(30, 30*time.Second)
	b.forward(30*time.Second + time.Microsecond)
	take(30, 0)
}

// What can never be had is not had.
func testTakeTooMuch(t *testing.T, b bench) {
	for range 3 {
		if wait := must[time.Duration](t)(b.Take(t.Context(), "client", Rate{Limit: 3, Period: time.Minute}, 4)); wait <= 0 {
			t.Error("four of three at once")
		}
		b.forward(time.Hour)
	}
}

func testEnter(t *testing.T, b bench) {
	enter := func(id string, want int, entered bool) {
		t.Helper()
		n, ok, err := b.Enter(t.Context(), "192.0.2.1", id, 2, time.Minute)
		if n != want || ok != entered || err != nil {
			t.Errorf("%s: %d, %v, %v; want %d, %v", id, n, ok, err, want, entered)
		}
	}
	leave := func(id string) {
		t.Helper()
		if err := b.Leave(t.Context(), "192.0.2.1", id); err != nil {
			t.Error(err)
		}
	}
	enter("a", 1, true)
	enter("b", 2, true)
	enter("c", 2, false)
	enter("b", 2, true) // is there already
	leave("nobody")
	leave("a")
	leave("a")
	enter("c", 2, true)
	b.forward(30 * time.Second)
	enter("c", 2, true) // stays longer
	b.forward(31 * time.Second)
	enter("d", 2, true) // b's time is over
	enter("e", 2, false)
	b.forward(time.Hour)
	enter("e", 1, true)
	leave("e")
	if n, ok, err := b.Enter(t.Context(), "192.0.2.2", "a", 2, time.Minute); n != 1 || !ok || err != nil {
		t.Errorf("elsewhere: %d, %v, %v", n, ok, err)
	}
}

var policy = Triple{Key: "192.0.2|a@x|b@y", Network: "192.0.2", Delay: 5 * time.Minute, Window: time.Hour, Keep: 100 * time.Hour}

func (b bench) grey(t *testing.T, tr Triple, want Grey) {
	t.Helper()
	if got := must[Grey](t)(b.Grey(t.Context(), tr)); got != want {
		t.Errorf("%s: %+v, want %+v", tr.Key, got, want)
	}
}

func testGrey(t *testing.T, b bench) {
	b.grey(t, policy, Grey{Wait: 5 * time.Minute})
	b.forward(2 * time.Minute)
	b.grey(t, policy, Grey{Wait: 3 * time.Minute})
	b.forward(3 * time.Minute)
	b.grey(t, policy, Grey{Pass: true})
	b.grey(t, policy, Grey{Pass: true, Known: true})
	for range 3 { // each use renews it
		b.forward(90 * time.Hour)
		b.grey(t, policy, Grey{Pass: true, Known: true})
	}
	b.forward(101 * time.Hour)
	b.grey(t, policy, Grey{Wait: 5 * time.Minute})
}

func testGreyLate(t *testing.T, b bench) {
	b.grey(t, policy, Grey{Wait: 5 * time.Minute})
	b.forward(time.Hour)
	b.grey(t, policy, Grey{Wait: 5 * time.Minute})
	b.forward(59 * time.Minute)
	b.grey(t, policy, Grey{Pass: true})
	none := policy
	none.Key, none.Delay = "no delay", 0
	b.grey(t, none, Grey{Pass: true})
}

func testGreyNetwork(t *testing.T, b bench) {
	of := func(i int) Triple {
		tr := policy
		tr.Key, tr.Auto = fmt.Sprint("t", i), 2
		return tr
	}
	wait := Grey{Wait: 5 * time.Minute}
	for i := range 3 {
		b.grey(t, of(i), wait)
	}
	b.forward(5 * time.Minute)
	b.grey(t, of(0), Grey{Pass: true})
	b.grey(t, of(0), Grey{Pass: true, Known: true}) // counts once
	b.grey(t, of(3), wait)
	b.grey(t, of(1), Grey{Pass: true})
	auto := Grey{Pass: true, Known: true, Auto: true}
	b.grey(t, of(4), auto)
	b.grey(t, of(2), auto)
	other := of(5)
	other.Network = "192.0.3"
	b.grey(t, other, wait)
	b.forward(90 * time.Hour)
	b.grey(t, of(6), auto)
	b.forward(101 * time.Hour)
	b.grey(t, of(6), wait)
	b.forward(5 * time.Minute)
	b.grey(t, of(6), Grey{Pass: true}) // the network begins anew
	b.grey(t, of(7), wait)
}

func testGreyNoNetwork(t *testing.T, b bench) {
	tr := policy
	tr.Network = ""
	b.grey(t, tr, Grey{Wait: 5 * time.Minute})
	b.forward(5 * time.Minute)
	b.grey(t, tr, Grey{Pass: true})
}

func testRefused(t *testing.T, b bench) {
	ctx, long := t.Context(), strings.Repeat("x", maxText+1)
	discard := func(_ any, err error) error { return err }
	for name, err := range map[string]error{
		"no set":            b.Put(ctx, "nothing", "k", "", time.Hour),
		"no key":            b.Put(ctx, Blocked, "", "", time.Hour),
		"NUL in a key":      b.Put(ctx, Blocked, "a\x00b", "", time.Hour),
		"NUL in a value":    b.Put(ctx, Blocked, "a", "\x00", time.Hour),
		"long key":          b.Put(ctx, Blocked, long, "", time.Hour),
		"long value":        b.Put(ctx, Blocked, "a", long, time.Hour),
		"no time":           b.Put(ctx, Blocked, "a", "", 0),
		"negative time":     b.Put(ctx, Blocked, "a", "", -time.Hour),
		"eternity":          b.Put(ctx, Blocked, "a", "", 1<<63-1),
		"delete long":       discard(b.Delete(ctx, Blocked, long)),
		"delete of no set":  discard(b.Delete(ctx, "x", "a")),
		"list long":         discard(b.List(ctx, Blocked, long, 1)),
		"list of -1":        discard(b.List(ctx, Blocked, "", -1)),
		"count NUL":         discard(b.Count(ctx, "\x00", 1, time.Minute)),
		"count down":        discard(b.Count(ctx, "a", -1, time.Minute)),
		"count all":         discard(b.Count(ctx, "a", 1<<40, time.Minute)),
		"no window":         discard(b.Count(ctx, "a", 1, 0)),
		"rate of none":      discard(b.Take(ctx, "a", Rate{0, time.Minute}, 1)),
		"rate of no time":   discard(b.Take(ctx, "a", Rate{1, 0}, 1)),
		"give back":         discard(b.Take(ctx, "a", Rate{1, time.Minute}, -1)),
		"grey no key":       discard(b.Grey(ctx, Triple{Window: 1e9, Keep: 1e9})),
		"grey never":        discard(b.Grey(ctx, Triple{Key: "a", Delay: 1e9, Window: 1e9, Keep: 1e9})),
		"grey no life":      discard(b.Grey(ctx, Triple{Key: "a", Window: 1e9})),
		"grey auto nothing": discard(b.Grey(ctx, Triple{Key: "a", Window: 1e9, Keep: 1e9, Auto: 1})),
	} {
		if !errors.Is(err, ErrBad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := b.Get(ctx, Blocked, "a", long); !errors.Is(err, ErrBad) {
		t.Errorf("get long: %v", err)
	}
	if _, _, err := b.Get(ctx, Blocked, slices.Repeat([]string{"k"}, maxKeys+1)...); !errors.Is(err, ErrBad) {
		t.Errorf("get many: %v", err)
	}
	for _, limit := range []int{0, -1} {
		if _, ok, err := b.Enter(ctx, "a", "b", limit, time.Minute); !errors.Is(err, ErrBad) || ok {
			t.Errorf("enter none: %v, %v", ok, err)
		}
	}
	b.wants(t, Blocked, "", "a")
}

// Nothing is had twice, and nothing is lost.
func testAtOnce(t *testing.T, b bench) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	taken, entered, highest, waits := 0, 0, 0, 0
	for i := range 20 {
		wg.Go(func() {
			for j := range 5 {
				n, err := b.Count(t.Context(), "n", 1, time.Hour)
				wait, err2 := b.Take(t.Context(), "r", Rate{30, time.Hour}, 1)
				_, ok, err3 := b.Enter(t.Context(), "p", fmt.Sprint(i, j), 40, time.Hour)
				g, err4 := b.Grey(t.Context(), policy)
				if err := errors.Join(err, err2, err3, err4); err != nil {
					t.Error(err)
				}
				mu.Lock()
				highest = max(highest, n)
				if wait == 0 {
					taken++
				}
				if ok {
					entered++
				}
				if g.Wait == policy.Delay {
					waits++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if highest != 100 || taken != 30 || entered != 40 || waits != 100 {
		t.Errorf("counted %d, taken %d, entered %d, waited %d; want 100, 30, 40, 100", highest, taken, entered, waits)
	}
}

func testCanceled(t *testing.T, b bench) {
	b.wants(t, Blocked, "", "k")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := b.Put(ctx, Blocked, "k", "", time.Hour)
	switch b.Store.(type) {
	case *SQLite, *Redis: // those that can make somebody wait
		if !errors.Is(err, context.Canceled) {
			t.Errorf("put: %v", err)
		}
	}
	b.wants(t, Windows, "", "k") // goes on
}

func TestMemory(t *testing.T) {
	conform(t, func(*testing.T) bench {
		c := newClock()
		return bench{Store: NewMemory(c.now), forward: c.forward}
	})
}
