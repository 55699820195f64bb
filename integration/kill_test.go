package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// How many times the gateway is killed at random, on top of once and more at
// each failpoint.
const randomKills = 120

// kill -9 at every failpoint of spool and queue, and at random under load, all
// on one spool. Each message that was answered 250 arrives, unchanged; nothing
// that was refused does; a second copy only where a kill explains it.
func TestKill9(t *testing.T) {
	l := newLedger(t)
	sink := testkit.NewSink()
	sink.Each, sink.Rule = l.note, l.rule()
	testkit.Up(t, sink)
	g := newGateway(t, binaries.failpoint, sink.Addr)
	testkit.Watch(t, g)
	g.Config.Set("queue", "first_retry", `"50ms"`)
	g.Config.Set("queue", "max_retry", `"200ms"`)
	g.Config.Set("queue", "first_pause", `"20ms"`)
	g.Config.Set("queue", "max_pause", `"100ms"`)
	g.Config.Set("listener.mx.limits", "max_connections_per_client", "1000")

	steps := strings.Fields(command(t, g, 0, "failpoints").Stdout)
	if len(steps) < 5 {
		t.Fatalf("only these failpoints: %q", steps)
	}
	var next atomic.Int64
	var unreached []string
	for _, step := range steps {
		reached := 0
		for _, hit := range []int{1, 2, 3, 7, 19} {
			if killAt(t, g, l, &next, fmt.Sprintf("%s=kill@%d", step, hit)) {
				reached++
			}
		}
		if reached == 0 {
			unreached = append(unreached, step)
		}
	}
	if len(unreached) > 0 {
		t.Errorf("these steps were never taken: %q", unreached)
	}
	for range randomKills {
		killAtRandom(t, g, l, &next)
	}
	settle(t, g, l)
	l.check()
	if n := len(l.kills); n < 200 {
		t.Errorf("killed %d times, want at least 200", n)
	}
	if corrupt, _ := filepath.Glob(filepath.Join(g.Spool, "corrupt", "*")); len(corrupt) > 0 {
		t.Errorf("set aside as corrupt: %q", corrupt)
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
	died := g.Exited(1500 * time.Millisecond)
	if died {
		l.killed()
	}
	load.stop()
	if !died {
		g.Kill()
		l.killed()
	}
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

// settle starts the gateway a last time and waits until nothing is left to do.
func settle(t *testing.T, g *testkit.Gateway, l *ledger) {
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
	if files := leftover(g.Spool); len(files) > 0 {
		t.Errorf("left in the spool after the last message: %q", files)
	}
}

// leftover lists files of large messages that nobody owns any more.
func leftover(spool string) []string {
	var list []string
	_ = filepath.WalkDir(spool, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil && info.Size() > 0 && info.Size() < 400_000 && info.Size() > 290_000 {
				list = append(list, path)
			}
		}
		return nil
	})
	return list
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
