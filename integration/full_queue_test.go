package integration

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// fullQueue is how many messages wait for a dead next hop. GATEPOST_QUEUED=200000
// measures a really full one; run it alone, and with -v.
func fullQueue(t *testing.T) int {
	t.Helper()
	text := os.Getenv("GATEPOST_QUEUED")
	if text == "" {
		return 5000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 100 {
		t.Fatalf("GATEPOST_QUEUED=%s: want a number, at least 100", text)
	}
	return n
}

// arrivals keeps when messages came, by their IDs.
type arrivals struct {
	mu   sync.Mutex
	when map[string][]time.Time
}

func (a *arrivals) note(m testkit.Mail) {
	now, id := time.Now(), field(string(m.Data[:min(len(m.Data), 4000)]), "X-Test")
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.when == nil {
		a.when = map[string][]time.Time{}
	}
	a.when[id] = append(a.when[id], now)
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.when)
}

// Many messages wait for a next hop that takes connections and never says a
// word. Those for another one go past them, before a restart and after it; and
// when the dead one is back it gets each of them, once.
func TestFullQueue(t *testing.T) {
	queued := fullQueue(t)
	dead, live := testkit.NewSink(), testkit.NewSink()
	var came, passed arrivals
	dead.Each, live.Each = came.note, passed.note
	dead.Rule = func(verb, _ string) string { return map[string]string{testkit.Banner: testkit.Hang}[verb] }
	testkit.Up(t, live)
	testkit.Up(t, dead)
	g := newGateway(t, binaries.plain, live.Addr)
	g.Config.Set("relay", "domains", `["example.com", "dead.test"]`)
	g.Config.Set(`route."dead.test"`, "to", `["smtp://`+dead.Addr+`"]`)
	for key, value := range map[string]string{"first_retry": "5m", "max_retry": "1h", "first_pause": "15s", "max_pause": "5m", "grace": "1s"} {
		g.Config.Set("queue", key, `"`+value+`"`) // all but grace as they are by default
	}
	testkit.Up(t, g)

	next := 0
	measure := func(when string) {
		t.Helper()
		before := passed.count()
		took := pass(t, g, &passed, next)
		next += len(took)
		t.Logf("%s: %d messages to the live one took %v (median), %v (95 %%), %v (longest); %s of memory",
			when, passed.count()-before, took[len(took)/2], took[len(took)*95/100], took[len(took)-1], memory(t, g))
	}
	measure("empty queue")
	begin := time.Now()
	fillQueue(t, g, queued)
	t.Logf("%d messages queued in %v", queued, time.Since(begin))
	measure("full queue")
	waiting(t, g, queued)

	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Logf("it greets %v after its start", time.Since(begin))
	measure("in the first seconds") // it looks through what waits
	measure("after a restart")
	waiting(t, g, queued)
	if n := came.count(); n != 0 {
		t.Fatalf("%d messages came to the dead one", n)
	}

	if err := dead.Stop(); err != nil {
		t.Fatal(err)
	}
	dead.Rule = nil
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	command(t, g, 0, "queue", "flush")
	testkit.Eventually(t, time.Minute+time.Duration(queued)*time.Millisecond, "everything at the next hop that came back", func() bool { return came.count() == queued })
	t.Logf("%d messages went in %v", queued, time.Since(begin))
	emptyQueue(t, g)
	for id, times := range came.when {
		if len(times) != 1 {
			t.Errorf("%s came %d times", id, len(times))
		}
	}
}

// pass sends 100 messages to the live next hop, one after the other, and returns
// how long each was on its way, sorted.
func pass(t *testing.T, g *testkit.Gateway, passed *arrivals, first int) (took []time.Duration) {
	t.Helper()
	sent := map[string]time.Time{}
	for n := range 100 {
		id := fmt.Sprintf("live%d", first+n)
		sent[id] = time.Now()
		sendWant(t, g.Addr, letter(fmt.Appendf(nil, "X-Test: %s\r\n\r\nx\r\n", id)), testkit.Dot, 250)
	}
	testkit.Eventually(t, 30*time.Second, "the live ones at their next hop", func() bool { return passed.count() == first+100 })
	passed.mu.Lock()
	defer passed.mu.Unlock()
	for id, begin := range sent {
		if times := passed.when[id]; len(times) != 1 {
			t.Errorf("%s came %d times", id, len(times))
		} else {
			took = append(took, times[0].Sub(begin))
		}
	}
	slices.Sort(took)
	return took
}

// fillQueue sends n messages to the dead next hop.
func fillQueue(t *testing.T, g *testkit.Gateway, n int) {
	t.Helper()
	var wg sync.WaitGroup
	const clients = 16
	for c := range clients {
		wg.Go(func() {
			for i := c; i < n; {
				i = fillSession(t, g.Addr, i, clients, n)
				if i < 0 {
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// fillSession sends every step-th message over one connection, and returns the
// next one's number: a connection takes only so many. It is -1 after an error.
func fillSession(t *testing.T, addr string, i, step, n int) int {
	c, err := testkit.Dial(addr)
	if err != nil {
		t.Error(err)
		return -1
	}
	defer c.Close()
	if r, err := c.Read(); err != nil || r.Code != 220 {
		t.Error(r, err)
		return -1
	}
	if r, err := c.Cmd("EHLO client.test"); err != nil || r.Code != 250 {
		t.Error(r, err)
		return -1
	}
	for ; i < n; i += step {
		id := fmt.Sprintf("dead%d", i)
		res := c.Deliver(testkit.Letter{
			From: "s@sender.test", To: []string{fmt.Sprintf("u%d@dead.test", i%1000)},
			Data: fmt.Appendf(nil, "Subject: %s\r\nX-Test: %[1]s\r\n\r\n%s\r\n", id, testkit.Filler(2000)),
		})
		switch {
		case res.Code == 421:
			return i
		case !res.Accepted():
			t.Errorf("%s: %v", id, res)
			return -1
		}
	}
	return n
}

// waiting wants so many messages in the queue.
func waiting(t *testing.T, g *testkit.Gateway, want int) {
	t.Helper()
	list := command(t, g, 0, "queue", "list", "--domain", "dead.test", "--json").Stdout
	if n := strings.Count(list, `"queue_id"`); n != want {
		t.Errorf("%d messages wait, want %d", n, want)
	}
}

// resident is a line of the metrics.
var resident = regexp.MustCompile(`(?m)^process_resident_memory_bytes (\S+)$`)

// memory is what the gateway has, as it says.
func memory(t *testing.T, g *testkit.Gateway) string {
	t.Helper()
	_, page, err := g.Get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	m := resident.FindStringSubmatch(page)
	if m == nil {
		t.Fatal("no process_resident_memory_bytes")
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%.0f MB", n/1e6)
}
