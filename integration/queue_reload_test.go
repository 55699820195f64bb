package integration

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// SIGHUP brings another schedule to a queue that waits; the lanes are in the
// metrics.
func TestQueueFollowsReload(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	g.Config.Set("queue", "first_retry", `"1h"`)
	g.Config.Set("queue", "max_retry", `"1h"`)
	testkit.Up(t, g)
	sink.Script("MAIL", "451 4.3.2 not now", "451 4.3.2 not now", "451 4.3.2 not now", "451 4.3.2 not now")
	sendWant(t, g.Addr, letter(testkit.Message("1", "waits", "x")), testkit.Dot, 250)
	inLane := func(lane, n string) {
		t.Helper()
		testkit.Eventually(t, 60*time.Second, n+" message in lane "+lane, func() bool {
			_, body, err := g.Get("/metrics")
			return err == nil && strings.Contains(body, `gatepost_queue_messages{queue="`+lane+`"} `+n)
		})
	}
	inLane("retry", "1")
	g.Config.Set("queue", "first_retry", `"50ms"`)
	g.Config.Set("queue", "max_retry", `"50ms"`)
	g.Config.Set("queue.group.internal", "slow_after", `"1ms"`) // nothing stays quick that long
	g.Config.Set("queue", "slow_retry", `"50ms"`)
	if err := g.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	if err := g.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 60*time.Second, "the reload", func() bool { return strings.Contains(g.Log(), "configuration reloaded") })
	if strings.Contains(g.Log(), "needs a restart") {
		t.Error("the queue needs a restart")
	}
	queue, err := g.Queue()
	if err != nil || len(queue) != 1 {
		t.Fatalf("%v, %v", queue, err)
	}
	if res, err := g.Run("queue", "retry", queue[0]["id"].(string)); err != nil || res.Code != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	waitMails(t, sink, 1) // after three more refusals, an hour apart by the old schedule
	if !strings.Contains(g.Log(), "moved") {
		t.Error("it was not in the slow lane on its way")
	}
	inLane("retry", "0")
}
