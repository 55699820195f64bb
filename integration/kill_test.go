package integration

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// How many times the gateway is killed at random, on top of the failpoints.
const randomKills = 100

// recipe is what it takes to reach a failpoint that mail alone does not reach.
type recipe struct {
	failpoints string                 // what goes wrong before
	fresh      bool                   // on a spool that is new
	waiting    bool                   // with mail that waits; a test of its own
	trigger    func(*testkit.Gateway) // of the step, when mail waits; none: time is
}

// recipes by step.
func recipes() map[string]recipe {
	return map[string]recipe{
		"spool.content.cut":      {failpoints: "spool.content.write=eio@5"},
		"spool.progress.cut":     {failpoints: "spool.progress.write=eio@5"},
		"spool.clean.move":       {failpoints: "spool.progress.sync=eio@2"},
		"spool.progress.retire":  {failpoints: "spool.progress.sync=eio@2"},
		"spool.content.create":   {fresh: true},
		"spool.content.allocate": {fresh: true},
		"spool.compact.read":     {waiting: true},
		"spool.compact.move":     {waiting: true},
		"queue.admin":            {waiting: true, trigger: holdAll},
	}
}

// holdAll asks for all messages to be held. The gateway dies of it.
func holdAll(g *testkit.Gateway) {
	_, _ = g.Run(append([]string{"queue", "hold"}, queueIDs(g)...)...)
}

func queueIDs(g *testkit.Gateway) []string {
	all, _ := g.Queue()
	ids := make([]string, len(all))
	for i, m := range all {
		ids[i], _ = m["id"].(string)
	}
	return ids
}

// kill -9 at every failpoint of spool and queue, and at random under load. Each
// message that was answered 250 arrives, unchanged; nothing that was refused
// does; a second copy only where a kill explains it.
func TestKill9(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	sink := ledgerSink(t, l)
	testkit.Up(t, sink)
	g := quickGateway(t, sink.Addr)
	testkit.Watch(t, g)

	var next atomic.Int64
	for _, step := range failpoints(t, g) {
		r := recipes()[step]
		if r.waiting {
			continue // TestKill9Waiting
		}
		if r.fresh {
			other := quickGateway(t, sink.Addr)
			testkit.Watch(t, other)
			killAtStep(t, other, l, &next, step, r)
			settle(t, other)
			continue
		}
		killAtStep(t, g, l, &next, step, r)
	}
	for range randomKills {
		killAtRandom(t, g, l, &next)
	}
	settle(t, g)
	l.check()
	if n := len(l.kills); n < 200 {
		t.Errorf("killed %d times, want at least 200", n)
	}
}

// Steps that are taken for mail that waits, some of them half a minute after a
// start.
func TestKill9Waiting(t *testing.T) {
	for step, r := range recipes() {
		if r.waiting {
			t.Run(step, func(t *testing.T) {
				t.Parallel()
				killWaiting(t, step, r)
			})
		}
	}
}

func killWaiting(t *testing.T, step string, r recipe) {
	l := newLedger(t)
	sink := ledgerSink(t, l)
	if err := sink.Start(); err != nil { // to have its address
		t.Fatal(err)
	}
	if err := sink.Stop(); err != nil {
		t.Fatal(err)
	}
	g := quickGateway(t, sink.Addr)
	g.Config.Set("queue", "first_retry", `"1h"`)
	g.Config.Set("queue", "max_retry", `"1h"`)
	testkit.Watch(t, g)
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	for n := range 40 {
		l.answered(n, testkit.Send(g.Addr, letterOf(n)))
	}
	g.Kill()
	l.killed()
	g.Env = []string{"GATEPOST_FAILPOINTS=" + step + "=kill@3"}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	if r.trigger != nil {
		r.trigger(g)
	}
	if !g.Exited(60 * time.Second) {
		t.Fatalf("step %s was not taken", step)
	}
	l.killed()
	testkit.Up(t, sink)
	g.Config.Set("queue", "first_retry", `"50ms"`)
	g.Config.Set("queue", "max_retry", `"200ms"`)
	g.Env = nil
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	for _, m := range inState(t, g, "hold") {
		command(t, g, 0, "queue", "release", m["id"].(string))
	}
	command(t, g, 0, "queue", "retry", "--all")
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	settle(t, g)
	l.check()
}

// ledgerSink is a next hop that keeps the ledger.
func ledgerSink(t *testing.T, l *ledger) *testkit.Sink {
	t.Helper()
	sink := testkit.NewSink()
	sink.Each, sink.Rule = l.note, l.rule()
	return sink
}

// quickGateway has failpoints, and tries again soon.
func quickGateway(t *testing.T, next string) *testkit.Gateway {
	t.Helper()
	g := newGateway(t, binaries.failpoint, next)
	g.Config.Set("queue", "first_retry", `"50ms"`)
	g.Config.Set("queue", "max_retry", `"200ms"`)
	g.Config.Set("queue", "first_pause", `"20ms"`)
	g.Config.Set("queue", "max_pause", `"100ms"`)
	return g
}

func failpoints(t *testing.T, g *testkit.Gateway) []string {
	t.Helper()
	res, err := g.RunInput(nil, "failpoints")
	if err != nil || res.Code != 0 {
		t.Fatalf("failpoints: %v %+v", err, res)
	}
	steps := strings.Fields(res.Stdout)
	// TestScanLaterKilled, TestKill9Verbs and TestRulesKilled have these.
	steps = slices.DeleteFunc(steps, func(s string) bool {
		return strings.HasPrefix(s, "rescan.") || strings.HasPrefix(s, "rules.") || s == "queue.move" || s == "queue.bounce" || s == "queue.bounced"
	})
	if len(steps) < 20 {
		t.Fatalf("only these failpoints: %q", steps)
	}
	return steps
}

// killAtStep kills at the first time that a step is taken after a start, and at
// some later ones.
func killAtStep(t *testing.T, g *testkit.Gateway, l *ledger, next *atomic.Int64, step string, r recipe) {
	t.Helper()
	reached := 0
	for _, hit := range []int{1, 2, 9} {
		faults := fmt.Sprintf("%s=kill@%d", step, hit)
		if r.failpoints != "" {
			faults += "," + r.failpoints
		}
		if killAt(t, g, l, next, faults) {
			reached++
		}
	}
	if reached == 0 {
		t.Errorf("step %s was never taken", step)
	}
}

// killAt starts the gateway with a failpoint and sends mail until it dies of
// it. It reports whether it did: not every step is taken so often in so short
// a time.
func killAt(t *testing.T, g *testkit.Gateway, l *ledger, next *atomic.Int64, failpoint string) bool {
	t.Helper()
	g.Env = []string{"GATEPOST_FAILPOINTS=" + failpoint}
	if !startOrDie(t, g) {
		l.killed() // while it read its spool back
		return true
	}
	load := startLoad(g.Addr, l, next, 4)
	died := g.Exited(2 * time.Second)
	if !died {
		g.Kill()
	}
	l.killed()
	load.stop()
	return died
}

// killAtRandom starts the gateway and kills it after a short time of load.
func killAtRandom(t *testing.T, g *testkit.Gateway, l *ledger, next *atomic.Int64) {
	t.Helper()
	g.Env = nil
	if !startOrDie(t, g) {
		t.Fatalf("the gateway ended by itself")
	}
	load := startLoad(g.Addr, l, next, 4)
	time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
	g.Kill()
	l.killed()
	load.stop()
}

// startOrDie reports whether the gateway came up. When it did not, it must have
// been its failpoint.
func startOrDie(t *testing.T, g *testkit.Gateway) bool {
	t.Helper()
	err := g.Start()
	if err == nil {
		return true
	}
	if len(g.Env) == 0 || !strings.Contains(err.Error(), "signal: killed") {
		t.Fatalf("%v: %v", g.Env, err)
	}
	return false
}

// settle starts the gateway without faults and waits until nothing is left to
// do. Then nothing may be left in its spool either.
func settle(t *testing.T, g *testkit.Gateway) {
	t.Helper()
	g.Env = nil
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 60*time.Second, "an empty queue", func() bool {
		q, err := g.Queue()
		return err == nil && len(q) == 0
	})
	if err := g.Stop(); err != nil {
		t.Errorf("last stop: %v", err)
	}
	for _, dir := range []string{"large", "corrupt"} {
		if left, err := filepath.Glob(filepath.Join(g.Spool, dir, "*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q %v", left, err)
		}
	}
}

// load is clients that send one message after the other.
type load struct {
	quit chan struct{}
	wg   sync.WaitGroup
}

func startLoad(addr string, l *ledger, next *atomic.Int64, clients int) *load {
	ld := &load{quit: make(chan struct{})}
	for range clients {
		ld.wg.Go(func() { ld.client(addr, l, next) })
	}
	return ld
}

func (ld *load) client(addr string, l *ledger, next *atomic.Int64) {
	for {
		select {
		case <-ld.quit:
			return
		default:
		}
		n := int(next.Add(1))
		res := testkit.Send(addr, letterOf(n))
		l.answered(n, res)
		if res.Err != nil {
			return // it is dead
		}
	}
}

func (ld *load) stop() {
	close(ld.quit)
	ld.wg.Wait()
}
