package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// With the disk full, mail gets 452 or 451 and nothing is half-queued; with
// room again it flows without a restart.
func TestDiskFull(t *testing.T) {
	needRoot(t)
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	g.Config.Set("", "spool_min_free", `"1MB"`)
	mountTmpfs(t, g.Spool, "64m")
	testkit.Up(t, g)
	sendWant(t, g.Addr, letter(testkit.Message("before", "before", "x")), testkit.Dot, 250)
	waitMails(t, sink, 1)

	ballast := filepath.Join(g.Spool, "ballast")
	fill(t, ballast)
	refused := 0
	for i := range 40 {
		// Small and large: they take different ways to the disk.
		size := []int{500, 300_000}[i%2]
		res := testkit.Send(g.Addr, letter(testkit.Message(fmt.Sprint("full", i), "full", testkit.Filler(size))))
		switch {
		case res.Err != nil:
			t.Fatalf("the gateway went away: %v", res)
		case res.Accepted(): // there was room left in what it had preallocated
		case res.Code == 452 || res.Code == 451:
			refused++
		default:
			t.Fatalf("got %v, want 452 or 451", res)
		}
	}
	if refused < 20 {
		t.Errorf("refused %d of 40: the disk was not full", refused)
	}
	accepted := 41 - refused
	waitMails(t, sink, accepted)

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 60*time.Second, "mail flows again", func() bool {
		return testkit.Send(g.Addr, letter(testkit.Message("after", "after", "x"))).Accepted()
	})
	sendWant(t, g.Addr, letter(testkit.Message("large", "large", testkit.Filler(300_000))), testkit.Dot, 250)
	waitMails(t, sink, accepted+2)
	if q, err := g.Queue(); err != nil || len(q) != 0 {
		t.Errorf("queue = %v, %v", q, err)
	}
	// What was refused is not found after a restart either.
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	// On a disk this small the segments of the life before leave little room
	// until they are cleaned up.
	testkit.Eventually(t, 60*time.Second, "mail flows after the restart", func() bool {
		return testkit.Send(g.Addr, letter(testkit.Message("last", "last", "x"))).Accepted()
	})
	waitMails(t, sink, accepted+3)
}

// mountTmpfs mounts a small disk for the length of the test. The gateway is
// stopped before it goes: clean-ups run last to first.
func mountTmpfs(t *testing.T, dir, size string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		if testkit.CI() {
			t.Fatalf("mount tmpfs: %v", err)
		}
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Logf("unmount %s: %v", dir, err)
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	})
}

// fill writes a file until the disk is full.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for n := 1 << 20; n > 0; {
		if _, err = f.Write(make([]byte, n)); err != nil {
			n /= 2
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill: %v", err)
	}
}

// An error of the disk at any step is 451 for the client at most: nothing of it
// arrives, what was answered 250 does, and mail flows again by itself.
func TestDiskErrors(t *testing.T) {
	for _, step := range failpoints(t, quickGateway(t, "127.0.0.1:1")) {
		for _, fault := range []string{"eio", "enospc"} {
			t.Run(step+"="+fault, func(t *testing.T) {
				t.Parallel()
				diskError(t, step+"="+fault)
			})
		}
	}
}

func diskError(t *testing.T, fault string) {
	l := newLedger(t)
	sink := testkit.Up(t, ledgerSink(t, l))
	g := quickGateway(t, sink.Addr)
	testkit.Watch(t, g)
	// Several hits: one error right at the start, and one under way.
	g.Env = []string{fmt.Sprintf("GATEPOST_FAILPOINTS=%s@2,%[1]s@9", fault)}
	if err := g.Start(); err != nil {
		// A spool that can't be opened is an error that says so, no crash.
		if strings.Contains(err.Error(), "panic") || !strings.Contains(err.Error(), "spool") {
			t.Fatalf("start: %v", err)
		}
		g.Env = nil
		if err := g.Start(); err != nil {
			t.Fatalf("start without a fault: %v", err)
		}
	}
	refused := 0
	for n := 1; n <= 30; n++ {
		res := testkit.Send(g.Addr, letterOf(n))
		l.answered(n, res)
		switch {
		case res.Err != nil:
			t.Fatalf("message %d: the gateway went away: %v", n, res)
		case res.Accepted():
		case res.Code == 451 || res.Code == 452:
			refused++
			time.Sleep(20 * time.Millisecond)
		default:
			t.Fatalf("message %d: %v, want 250, 451 or 452", n, res)
		}
	}
	testkit.Eventually(t, 60*time.Second, "mail flows again", func() bool {
		n := 1001
		res := testkit.Send(g.Addr, letterOf(n))
		l.answered(n, res)
		return res.Accepted()
	})
	testkit.Eventually(t, 60*time.Second, "an empty queue", func() bool {
		q, err := g.Queue()
		return err == nil && len(q) == 0
	})
	l.check()
	t.Logf("%d of 30 refused", refused)
}
