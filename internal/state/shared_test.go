package state

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// site is three gateways with one store.
type site struct {
	gateways [3]*Fallback
	log      logged
	stats    counts
	slowest  [3]time.Duration // decision of each
}

func openSite(t *testing.T, address string, timeout time.Duration) *site {
	t.Helper()
	cfg, err := Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{}
	for i := range s.gateways {
		if s.gateways[i], err = Open(cfg, Options{Timeout: timeout, Stats: &s.stats, Log: slog.New(slog.NewTextHandler(io.MultiWriter(&s.log, t.Output()), nil))}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.gateways[i].Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return s
}

// load lets each gateway decide, some thousand times a second, until the function it returns is
// called. No decision may fail.
func (s *site) load(t *testing.T) (stop func() (decisions int)) {
	t.Helper()
	end, counted := make(chan struct{}), make([]int, len(s.gateways))
	var wg sync.WaitGroup
	for i, g := range s.gateways {
		wg.Go(func() {
			pace := time.NewTicker(time.Millisecond)
			defer pace.Stop()
			for {
				select {
				case <-end:
					return
				case <-pace.C:
				}
				begun := time.Now()
				if err := decide(t, g, i, counted[i]); err != nil {
					t.Errorf("gateway %d: %v", i, err)
					return
				}
				counted[i]++
				s.slowest[i] = max(s.slowest[i], time.Since(begun)/5)
			}
		})
	}
	return func() (n int) {
		close(end)
		wg.Wait()
		for _, c := range counted {
			n += c
		}
		return 5 * n
	}
}

// decide is five of the decisions that a session needs.
func decide(t *testing.T, g Store, i, n int) error {
	ctx, key := t.Context(), fmt.Sprint("192.0.2.", rand.IntN(250))
	_, _, err := g.Get(ctx, Blocked, key, "192.0.2")
	_, err2 := g.Count(ctx, key, 1, time.Minute)
	_, err3 := g.Take(ctx, key, Rate{1000, time.Minute}, 1)
	_, err4 := g.Grey(ctx, Triple{Key: key, Network: "192.0.2", Delay: time.Minute, Window: time.Hour, Keep: time.Hour, Auto: 5})
	err5 := g.Put(ctx, Windows, fmt.Sprint("gateway", i, "/", n%50), fmt.Sprint(n), time.Hour)
	return errors.Join(err, err2, err3, err4, err5)
}

func (s *site) all(is func(*Fallback) bool) func() bool {
	return func() bool {
		for _, g := range s.gateways {
			if !is(g) {
				return false
			}
		}
		return true
	}
}

func (s *site) returned(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, 60*time.Second, "all ask the store again", s.all(func(g *Fallback) bool { return g.Away() == nil }))
}

// agree checks that what one gateway does is known to the others.
func (s *site) agree(t *testing.T) {
	t.Helper()
	// A moment in which nobody is away: what is said in the others is in memory.
	var lists [3]string
	testkit.Eventually(t, 60*time.Second, "all list the same", func() bool {
		for i, g := range s.gateways {
			list, err := g.List(t.Context(), Windows, "", 1000)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, e := range list {
				fmt.Fprint(&b, e.Key, "=", e.Value, " ")
			}
			lists[i] = b.String()
		}
		return lists[0] == lists[1] && lists[1] == lists[2] && s.all(func(g *Fallback) bool { return g.Away() == nil })()
	})
	for i := range s.gateways {
		if !strings.Contains(lists[0], fmt.Sprint("gateway", i, "/")) {
			t.Errorf("nothing of gateway %d in %s", i, lists[0])
		}
	}
	a, b := bench{Store: s.gateways[0]}, bench{Store: s.gateways[1]}
	a.put(t, Blocked, "shared", "now", time.Hour)
	b.wants(t, Blocked, "shared=now", "shared")
	for i, g := range s.gateways {
		if n := must[int](t)(g.Count(t.Context(), "shared", 1, time.Hour)); n != i+1 {
			t.Errorf("gateway %d counted %d", i, n)
		}
		wait := must[time.Duration](t)(g.Take(t.Context(), "shared", Rate{2, time.Hour}, 1))
		if (wait > 0) != (i == 2) {
			t.Errorf("gateway %d waits %v", i, wait)
		}
		tr := Triple{Key: "shared", Delay: time.Hour, Window: 2 * time.Hour, Keep: time.Hour}
		if grey := must[Grey](t)(g.Grey(t.Context(), tr)); (grey.Wait == time.Hour) != (i == 0) {
			t.Errorf("gateway %d: %+v", i, grey)
		}
	}
}

// Redis crashes and comes back while three gateways work.
func TestThreeGateways(t *testing.T) {
	server := testkit.Up(t, testkit.NewRedis(testkit.Dir(t)))
	s := openSite(t, "redis://"+server.Addr, time.Second)
	stop := s.load(t)
	testkit.Eventually(t, 60*time.Second, "all have written", s.wrote(t))
	server.Kill()
	testkit.Eventually(t, 60*time.Second, "all go on alone", s.all(func(g *Fallback) bool { return g.Away() != nil }))
	for i, g := range s.gateways {
		if err := g.Put(t.Context(), Blocked, fmt.Sprint("alone", i), "", time.Hour); err != nil {
			t.Error(err)
		}
	}
	testkit.Eventually(t, 60*time.Second, "decisions without Redis", func() bool { return s.stats.of("redis grey") > 300 })
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	s.returned(t)
	t.Logf("%d decisions, the slowest %v", stop(), s.slowest)
	s.agree(t)
	for i := range s.gateways {
		bench{Store: s.gateways[(i+1)%3]}.wants(t, Blocked, fmt.Sprint("alone", i, "="), fmt.Sprint("alone", i))
	}
	if n := s.log.count("level=WARN"); n > 6 {
		t.Errorf("%d warnings", n)
	}
}

func (s *site) wrote(t *testing.T) func() bool {
	return func() bool {
		for i := range s.gateways {
			if _, ok, err := s.gateways[0].Get(t.Context(), Windows, fmt.Sprint("gateway", i, "/0")); err != nil || !ok {
				return false
			}
		}
		return true
	}
}

// A server that hangs is waited for once, not at each decision.
func TestServerHangs(t *testing.T) {
	server := testkit.Up(t, testkit.NewRedis(testkit.Dir(t)))
	s := openSite(t, "redis://"+server.Addr, 200*time.Millisecond)
	b := bench{Store: s.gateways[0]}
	b.put(t, Windows, "known", "", time.Hour)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for range 200 {
		b.wants(t, Windows, "known=", "known")
	}
	if took := time.Since(begun); took > 5*time.Second || b.Store.(*Fallback).Away() == nil {
		t.Errorf("200 decisions took %v", took)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	s.returned(t)
	b.wants(t, Windows, "known=", "known")
}

// Two servers with two Sentinels: the first crashes, the second takes over.
func TestSentinel(t *testing.T) {
	dirs := [4]string{testkit.Dir(t), testkit.Dir(t), testkit.Dir(t), testkit.Dir(t)}
	const secret = "s%3Acret"
	first := testkit.Up(t, testkit.NewRedis(dirs[0], "requirepass s:cret", "masterauth s:cret"))
	host := "127.0.0.1 " + testkit.Port(first.Addr)
	second := testkit.Up(t, testkit.NewRedis(dirs[1], "requirepass s:cret", "masterauth s:cret", "replicaof "+host))
	watch := []string{"sentinel monitor main " + host + " 2", "sentinel auth-pass main s:cret", "sentinel down-after-milliseconds main 300", "sentinel failover-timeout main 1000"}
	one := testkit.Up(t, testkit.NewSentinel(dirs[2], watch...))
	two := testkit.Up(t, testkit.NewSentinel(dirs[3], watch...))
	for _, r := range []*testkit.Redis{one, two} {
		testkit.Eventually(t, 60*time.Second, "the Sentinels know all", func() bool {
			answer, err := r.Ask("SENTINEL master main")
			return err == nil && strings.Contains(answer, "num-slaves\r\n$1\r\n1") && strings.Contains(answer, "num-other-sentinels\r\n$1\r\n1")
		})
	}

	s := openSite(t, fmt.Sprintf("redis-sentinel://:%s@%s,%s/main/2", secret, one.Addr, two.Addr), time.Second)
	stop := s.load(t)
	testkit.Eventually(t, 60*time.Second, "all have written", s.wrote(t))
	first.Kill()
	testkit.Eventually(t, 60*time.Second, "the second one took over", func() bool {
		answer, err := one.Ask("SENTINEL get-master-addr-by-name main")
		return err == nil && strings.Contains(answer, testkit.Port(second.Addr))
	})
	s.returned(t)
	t.Logf("%d decisions, the slowest %v", stop(), s.slowest)
	s.agree(t)
	// What comes back as a replica is not written to.
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	s.agreeAgain(t)
}

func (s *site) agreeAgain(t *testing.T) {
	t.Helper()
	a, b := bench{Store: s.gateways[1]}, bench{Store: s.gateways[2]}
	a.put(t, Blocked, "again", "1", time.Hour)
	b.wants(t, Blocked, "again=1", "again")
}

// Every call of a Store works on a Cluster, and one that has lost a node is
// away.
func TestCluster(t *testing.T) {
	var nodes [3]*testkit.Redis
	var hosts []string
	for i := range nodes {
		nodes[i] = testkit.NewRedis(testkit.Dir(t), "cluster-enabled yes", "cluster-node-timeout 500")
		testkit.Up(t, nodes[i])
		hosts = append(hosts, nodes[i].Addr)
	}
	if err := testkit.MakeCluster(nodes[:]...); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		testkit.Eventually(t, 60*time.Second, "the Cluster is whole", func() bool {
			answer, err := n.Ask("CLUSTER INFO")
			return err == nil && strings.Contains(answer, "cluster_state:ok") && strings.Contains(answer, "cluster_known_nodes:3")
		})
	}
	address := "redis-cluster://" + strings.Join(hosts, ",")
	t.Run("alone", func(t *testing.T) {
		n := 0
		conform(t, func(t *testing.T) bench {
			n++
			c := newClock()
			return openRedis(t, fmt.Sprintf("%s?prefix=test%d:", address, n), Options{Now: c.now}).standing(c)
		})
	})
	t.Run("shared", func(t *testing.T) {
		s := openSite(t, address, time.Second)
		stop := s.load(t)
		testkit.Eventually(t, 60*time.Second, "all have written", s.wrote(t))
		nodes[2].Kill()
		testkit.Eventually(t, 60*time.Second, "all go on alone", s.all(func(g *Fallback) bool { return g.Away() != nil }))
		if err := nodes[2].Start(); err != nil {
			t.Fatal(err)
		}
		s.returned(t)
		t.Logf("%d decisions, the slowest %v", stop(), s.slowest)
		s.agree(t)
	})
}
