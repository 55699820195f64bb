package integration

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// fates is what became of messages, by their IDs.
type fates struct {
	t  *testing.T
	mu sync.Mutex

	delivered, bounced, warned map[string]int
}

func newFates(t *testing.T) *fates {
	return &fates{t: t, delivered: map[string]int{}, bounced: map[string]int{}, warned: map[string]int{}}
}

// note takes a message from the next hop.
func (f *fates) note(m testkit.Mail) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.HasPrefix(m.From, "<>") {
		id := between(m.To[0], "<sender-", "@")
		if bytes.Contains(m.Data, []byte("\r\nAction: delayed\r\n")) {
			f.warned[id]++
		} else {
			f.bounced[id]++
		}
		return
	}
	id := field(string(m.Data[:min(len(m.Data), 4000)]), "X-Test")
	if want := simpleLetter(numberOf(id)).Data; !bytes.HasSuffix(m.Data, want) {
		f.t.Errorf("%q arrived changed", id)
	}
	f.delivered[id]++
}

// simpleLetter is message n to somebody who takes it; some are large. It comes
// from one of ours, who is warned of delays.
func simpleLetter(n int) testkit.Letter {
	id, size := messageID(n), 300
	if n%4 == 3 {
		size = 200_000
	}
	return testkit.Letter{
		From: "sender-" + id + "@example.com", To: []string{taken + "-" + id + "@example.com"}, Client: "127.0.0.9",
		Data: fmt.Appendf(nil, "Subject: %s\r\nX-Test: %s\r\n\r\n%s\r\n", id, id, testkit.Filler(size)),
	}
}

// verbKill is a verb of the queue that the gateway is killed in.
type verbKill struct {
	name, step string
	before     []string // a verb that goes before
	verb       []string // none: time does it
	// What may have become of a message, when the next hop is back: deliveries,
	// notifications, warnings.
	fates [][3]int
}

func verbKills() []verbKill {
	delivered, bounced, lost, warned := [3]int{1, 0, 0}, [3]int{0, 1, 0}, [3]int{0, 0, 0}, [3]int{1, 0, 1}
	slow, hold := []string{"move", "--to", "slow", "--all"}, []string{"hold", "--all"}
	return []verbKill{
		{"move", "queue.move", nil, slow, [][3]int{delivered}},
		{"move back", "queue.move", slow, []string{"move", "--to", "retry", "--all"}, [][3]int{delivered}},
		{"hold", "queue.admin", nil, hold, [][3]int{delivered}},
		{"release", "queue.admin", hold, []string{"unhold", "--all"}, [][3]int{delivered}},
		{"delete", "queue.admin", nil, []string{"delete", "--all", "--yes"}, [][3]int{delivered, lost}},
		{"bounce", "queue.bounce", nil, []string{"bounce", "--all", "--yes"}, [][3]int{delivered, bounced}},
		{"bounce, not told yet", "queue.bounced", nil, []string{"bounce", "--all", "--yes"}, [][3]int{delivered, bounced}},
		{"bounce, notification", "queue.dsn.commit", nil, []string{"bounce", "--all", "--yes"}, [][3]int{delivered, bounced}},
		{"bounce, notification made", "queue.dsn.committed", nil, []string{"bounce", "--all", "--yes"}, [][3]int{delivered, bounced}},
		{"expire", "queue.bounced", nil, []string{"expire", "--all", "--yes"}, [][3]int{delivered, bounced}},
		{"warning", "queue.dsn.commit", nil, nil, [][3]int{warned}},
		{"warning made", "queue.dsn.committed", nil, nil, [][3]int{warned}},
	}
}

// kill -9 in the midst of what an admin does to mail that waits, and of what
// time does: each message is afterwards delivered, or has the fate that the verb
// is for, never both and never none.
func TestKill9Verbs(t *testing.T) {
	for _, v := range verbKills() {
		for _, hit := range []int{1, 5} {
			t.Run(fmt.Sprint(v.name, " ", hit), func(t *testing.T) {
				t.Parallel()
				v.run(t, hit)
			})
		}
	}
}

func (v verbKill) run(t *testing.T, hit int) {
	const messages = 12
	f, sink := newFates(t), testkit.NewSink()
	sink.Each = f.note
	if err := sink.Start(); err != nil { // to have its address
		t.Fatal(err)
	}
	if err := sink.Stop(); err != nil {
		t.Fatal(err)
	}
	g := waitingGateway(t, v, sink)
	for n := range messages {
		sendWant(t, g.Addr, simpleLetter(n), testkit.Dot, 250)
	}
	if v.before != nil {
		command(t, g, 0, append([]string{"queue"}, v.before...)...)
	}
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	g.Env = []string{fmt.Sprintf("GATEPOST_FAILPOINTS=%s=kill@%d", v.step, hit)}
	if v.verb == nil {
		g.Config.Set("queue", "delay_warning", `"1ms"`)
		g.Config.Set("queue", "first_retry", `"50ms"`)
		g.Config.Set("queue", "max_retry", `"200ms"`)
	}
	if startOrDie(t, g) {
		if v.verb != nil {
			_, _ = g.Run(append([]string{"queue"}, v.verb...)...) // the gateway dies of it
		} else {
			_, _ = g.Run("queue", "flush")
		}
		if !g.Exited(60 * time.Second) {
			t.Fatalf("step %s was not taken", v.step)
		}
	}
	v.after(t, g, sink)
	for n := range messages {
		v.check(t, f, messageID(n))
	}
	// What is recorded when it dies is done afterwards.
	if told := len(f.bounced); v.step != "queue.bounce" && strings.Contains(v.name, "bounce") && told < hit {
		t.Errorf("%d senders were told, want at least %d", told, hit)
	}
}

func waitingGateway(t *testing.T, v verbKill, sink *testkit.Sink) *testkit.Gateway {
	t.Helper()
	g := quickGateway(t, sink.Addr)
	g.Config.Set("queue", "first_retry", `"1h"`)
	g.Config.Set("queue", "max_retry", `"1h"`)
	testkit.Watch(t, g)
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	return g
}

// after lets everything go on: first with the next hop away, so that warnings
// are all due, then with it back.
func (v verbKill) after(t *testing.T, g *testkit.Gateway, sink *testkit.Sink) {
	t.Helper()
	g.Config.Set("queue", "first_retry", `"50ms"`)
	g.Config.Set("queue", "max_retry", `"200ms"`)
	g.Env = nil
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	if v.verb == nil {
		before := attempts(g)
		command(t, g, 0, "queue", "flush")
		testkit.Eventually(t, 60*time.Second, "two more attempts of each message", func() bool {
			now := attempts(g)
			for id, n := range before {
				if now[id] < n+2 {
					return false
				}
			}
			return len(before) > 0
		})
	}
	testkit.Up(t, sink)
	command(t, g, 0, "queue", "unhold", "--all")
	command(t, g, 0, "queue", "flush")
	emptyQueue(t, g)
}

// attempts of each message that waits.
func attempts(g *testkit.Gateway) map[string]float64 {
	n := map[string]float64{}
	all, _ := g.Queue()
	for _, m := range all {
		n[m["id"].(string)], _ = m["attempts"].(float64)
	}
	return n
}

func (v verbKill) check(t *testing.T, f *fates, id string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	got := [3]int{f.delivered[id], f.bounced[id], f.warned[id]}
	if slices.Contains(v.fates, got) {
		return
	}
	t.Errorf("%s: delivered, bounced, warned %v times, want one of %v", id, got, v.fates)
}

// kill -9 at random while clients wait for the next hop's answer: what was
// answered 250 is there; a second copy only beside a kill.
func TestKill9Interactive(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	sink := ledgerSink(t, l)
	testkit.Up(t, sink)
	g := quickGateway(t, sink.Addr)
	g.Config.Set("listener.mx", "delivery", `"interactive"`)
	testkit.Watch(t, g)
	var next atomic.Int64
	for _, step := range []string{"queue.save", "queue.delivered", "spool.content.wake", "spool.content.torn", "queue.dsn.committed"} {
		killAtStep(t, g, l, &next, step, recipe{})
	}
	for range 15 {
		killAtRandom(t, g, l, &next)
	}
	settle(t, g)
	l.check()
}

// kill -9 at random with journals: what was answered 250 is in the Maildir and
// at the archive, as well as where it was sent.
func TestKill9Journal(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	sink := ledgerSink(t, l)
	var mu sync.Mutex
	archived := map[string]bool{}
	sink.Each = func(m testkit.Mail) {
		if !strings.HasPrefix(m.To[0], "<archive@") {
			l.note(m)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		archived[between(string(m.Data), "X-Test: ", "\r\n")] = true
	}
	testkit.Up(t, sink)
	g := quickGateway(t, sink.Addr)
	maildir := filepath.Join(testkit.Dir(t), "journal")
	g.Config.Set("journal.legal", "maildir", `"`+maildir+`"`)
	g.Config.Set("journal.archive", "to", `"archive@example.com"`)
	testkit.Watch(t, g)
	var next atomic.Int64
	for range 15 {
		killAtRandom(t, g, l, &next)
	}
	settle(t, g)
	l.check()
	kept := map[string]bool{}
	for _, c := range journaled(t, maildir) {
		kept[between(c, "X-Test: ", "\r\n")] = true
	}
	for id, promised := range l.told {
		if promised && (!kept[id] || !archived[id]) {
			t.Errorf("%s was answered 250: in the Maildir %v, at the archive %v", id, kept[id], archived[id])
		}
	}
	t.Logf("%d copies in the Maildir, %d at the archive", len(kept), len(archived))
}
