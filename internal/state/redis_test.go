package state

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"gatepost/internal/testkit"
)

func openRedis(t *testing.T, address string, o Options) *Redis {
	t.Helper()
	cfg, err := Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	r, err := NewRedis(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestMiniredis(t *testing.T) {
	m := miniredis.RunT(t)
	conform(t, func(t *testing.T) bench {
		c := newClock()
		m.FlushAll()
		m.SetTime(c.now())
		return bench{Store: openRedis(t, "redis://"+m.Addr()+"/0", Options{Now: c.now}), noPlus: true, forward: func(d time.Duration) {
			c.forward(d)
			m.SetTime(c.now())
			m.FastForward(d)
		}}
	})
}

// standing gives a store a clock that stands still: the scripts have the time in
// them. The real prelude is what testRedisClock is about.
func (r *Redis) standing(c *clock) bench {
	set := func() {
		now := c.now()
		time := fmt.Sprintf("{%d, %d}", now.Unix(), now.Nanosecond()/1000)
		r.scripts = loadScripts(strings.Replace(source("prelude"), "redis.call('TIME')", time, 1))
	}
	set()
	return bench{Store: r, forward: func(d time.Duration) { c.forward(d); set() }}
}

func TestRedis(t *testing.T) {
	server := testkit.Up(t, testkit.NewRedis(testkit.Dir(t)))
	n := 0
	conform(t, func(t *testing.T) bench {
		n++
		c := newClock()
		return openRedis(t, fmt.Sprintf("redis://%s/1?prefix=test%d:", server.Addr, n), Options{Now: c.now}).standing(c)
	})
	t.Run("clock", func(t *testing.T) { testRedisClock(t, server) })
	t.Run("foreign", func(t *testing.T) { testForeign(t, server) })
	t.Run("long lists", func(t *testing.T) { testLongList(t, server) })
	t.Run("leaves nothing", func(t *testing.T) { testLeavesNothing(t, server) })
}

// The clocks of gateways don't matter.
func testRedisClock(t *testing.T, server *testkit.Redis) {
	behind := openRedis(t, "redis://"+server.Addr+"?prefix=clock:", Options{Now: func() time.Time { return time.Now().Add(-24 * time.Hour) }})
	ahead := openRedis(t, "redis://"+server.Addr+"?prefix=clock:", Options{Now: func() time.Time { return time.Now().Add(24 * time.Hour) }})
	a, b := bench{Store: behind}, bench{Store: ahead}
	a.put(t, Windows, "k", "v", time.Minute)
	b.wants(t, Windows, "k=v", "k")
	if wait := must[time.Duration](t)(a.Take(t.Context(), "r", Rate{1, time.Hour}, 1)); wait != 0 {
		t.Errorf("first: wait %v", wait)
	}
	if wait := must[time.Duration](t)(b.Take(t.Context(), "r", Rate{1, time.Hour}, 1)); wait < 59*time.Minute || wait > time.Hour {
		t.Errorf("second: wait %v", wait)
	}
	must[Grey](t)(a.Grey(t.Context(), policy))
	if g := must[Grey](t)(b.Grey(t.Context(), policy)); g.Pass || g.Wait > policy.Delay || g.Wait < policy.Delay-time.Minute {
		t.Errorf("grey: %+v", g)
	}
}

// Somebody else's data under our prefix is an error, whatever is asked.
func testForeign(t *testing.T, server *testkit.Redis) {
	r := openRedis(t, "redis://"+server.Addr+"?prefix=foreign:", Options{})
	ctx := t.Context()
	ask := map[string]func() error{
		r.entry(Blocked, "k"):                                 func() error { _, ok, err := r.Get(ctx, Blocked, "k"); return noFalse(ok, err) },
		r.indexes(Passed)[0]:                                  func() error { return r.Put(ctx, Passed, "k", "v", time.Hour) },
		r.indexes(Senders)[0]:                                 func() error { _, err := r.List(ctx, Senders, "", 10); return err },
		r.cfg.Prefix + "count:" + tag("k") + "k":              func() error { _, err := r.Count(ctx, "k", 1, time.Hour); return err },
		r.cfg.Prefix + "rate:" + tag("k") + "k":               func() error { _, err := r.Take(ctx, "k", Rate{1, time.Hour}, 1); return err },
		r.place("k"):                                          func() error { _, ok, err := r.Enter(ctx, "k", "i", 1, time.Hour); return noFalse(ok, err) },
		r.cfg.Prefix + "grey:" + tag(policy.Key) + policy.Key: func() error { g, err := r.Grey(ctx, policy); return noFalse(g.Pass, err) },
	}
	kinds := map[string]func(key string) error{
		"a list":   func(key string) error { return r.client.RPush(ctx, key, "x").Err() },
		"a hash":   func(key string) error { return r.client.HSet(ctx, key, "x", "y").Err() },
		"no text":  func(key string) error { return r.client.Set(ctx, key, "", 0).Err() },
		"a number": func(key string) error { return r.client.Set(ctx, key, 99, 0).Err() },
		"bytes":    func(key string) error { return r.client.Set(ctx, key, "\x00\xff 1 2", 0).Err() },
		"too much": func(key string) error {
			return r.client.Set(ctx, key, strings.Repeat("9", 16)+" "+strings.Repeat("9 ", 1<<20), 0).Err()
		},
	}
	for key, do := range ask {
		for kind, set := range kinds {
			if err := errors.Join(r.client.Del(ctx, key).Err(), set(key)); err != nil {
				t.Fatal(err)
			}
			if err := do(); err == nil || errors.Is(err, ErrAway) || !strings.Contains(err.Error(), "somebody else's data") {
				t.Errorf("%s in %s: %v", kind, key, err)
			}
		}
	}
}

func noFalse(ok bool, err error) error {
	if ok {
		return errors.New("yes")
	}
	return err
}

func testLongList(t *testing.T, server *testkit.Redis) {
	b := bench{Store: openRedis(t, "redis://"+server.Addr+"?prefix=long:", Options{})}
	const n = 2*listAtOnce + 1
	for i := range n {
		b.put(t, Senders, fmt.Sprintf("k%05d", i), "v", time.Hour)
	}
	for _, limit := range []int{1, listAtOnce, listAtOnce + 1, n - 1, n, n + 1} {
		list := must[[]Entry](t)(b.List(t.Context(), Senders, "k", limit))
		if len(list) != min(n, limit) || list[len(list)-1].Key != fmt.Sprintf("k%05d", len(list)-1) {
			t.Errorf("at most %d: %d", limit, len(list))
		}
	}
}

// What has ended is gone without anybody asking for it.
func testLeavesNothing(t *testing.T, server *testkit.Redis) {
	r := openRedis(t, "redis://"+server.Addr+"?prefix=short:", Options{})
	ctx, short := t.Context(), 50*time.Millisecond
	if err := r.Put(ctx, Passed, "k", "v", short); err != nil {
		t.Fatal(err)
	}
	must[int](t)(r.Count(ctx, "k", 1, short))
	must[time.Duration](t)(r.Take(ctx, "k", Rate{1, short}, 1))
	must[Grey](t)(r.Grey(ctx, Triple{Key: "k", Network: "n", Window: short, Keep: short, Auto: 3}))
	if _, _, err := r.Enter(ctx, "k", "i", 1, short); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 60*time.Second, "no key is left", func() bool {
		keys, err := r.client.Keys(ctx, "short:*").Result()
		return err == nil && len(keys) == 0
	})
}

func BenchmarkRedis(b *testing.B) {
	server := testkit.Up(b, testkit.NewRedis(testkit.Dir(b)))
	cfg, err := Parse("redis://" + server.Addr)
	if err != nil {
		b.Fatal(err)
	}
	f, err := Open(cfg, Options{Timeout: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	benchStore(b, f)
}
