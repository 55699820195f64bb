package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// interactive is a gateway that delivers while the client waits.
func interactive(t *testing.T, binary func() (string, error), next ...string) *testkit.Gateway {
	t.Helper()
	g := newGateway(t, binary, next...)
	g.Config.Set("listener.mx", "delivery", `"interactive"`)
	g.Config.Set("listener.mx", "interactive_timeout", `"30s"`) // a busy machine may need some of it
	return g
}

func emptyQueue(t *testing.T, g *testkit.Gateway) {
	t.Helper()
	testkit.Eventually(t, 60*time.Second, "an empty queue", func() bool {
		q, err := g.Queue()
		return err == nil && len(q) == 0
	})
}

// The next hop's answer is the client's, where it is one; what it leaves open
// the queue settles, and nothing that was answered 250 is lost.
func TestInteractive(t *testing.T) {
	two := []string{"u@example.com", "v@example.com"}
	tests := []struct {
		name    string
		script  map[string][]string
		to      []string
		code    int
		text    string // of the answer
		mails   int    // that the sink takes in the end
		bounces int    // of these
	}{
		{"taken", map[string][]string{testkit.Dot: {"250 2.6.0 taken by the backend"}}, nil, 250, "2.6.0 taken by the backend", 1, 0},
		{"taken for two", nil, two, 250, "kept", 1, 0},
		{"nobody of that name", map[string][]string{"RCPT": {"550 5.1.1 no such user"}}, nil, 550, "5.1.1 no such user", 0, 0},
		{"nobody of both names", map[string][]string{"RCPT": {"550 5.1.1 not her", "551 5.1.6 not him"}}, two, 550, "5.1.1 not her", 0, 0},
		{"refused after the dot", map[string][]string{testkit.Dot: {"554 5.7.1 spam, says the backend"}}, nil, 554, "5.7.1 spam, says the backend", 0, 0},
		{"one of two is nobody", map[string][]string{"RCPT": {"550 5.1.1 not her", "250 ok"}}, two, 250, "queued as", 2, 1},
		{"one of two later", map[string][]string{"RCPT": {"450 4.2.0 greylisted", "250 ok"}}, two, 250, "queued as", 2, 0},
		{"later at the message", map[string][]string{testkit.Dot: {"451 4.3.0 later"}}, nil, 250, "queued as", 1, 0},
		{"busy", map[string][]string{testkit.Banner: {"421 4.3.2 busy"}}, nil, 250, "queued as", 1, 0},
		{"connection lost before the answer", map[string][]string{testkit.Dot: {testkit.Drop}}, nil, 250, "queued as", 1, 0},
		{"no answer in time", map[string][]string{testkit.Dot: {testkit.Hang}}, nil, 250, "queued as", 1, 0},
		{"taken, answer lost: once more", map[string][]string{testkit.Dot: {testkit.TakeAndDrop}}, nil, 250, "queued as", 2, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sink := testkit.Up(t, testkit.NewSink())
			for verb, answers := range tt.script {
				sink.Script(verb, answers...)
			}
			g := interactive(t, binaries.plain, sink.Addr)
			if tt.name == "no answer in time" {
				g.Config.Set("listener.mx", "interactive_timeout", `"1s"`)
			}
			testkit.Up(t, g)
			msg := testkit.Message("1", "hello", ".dot\r\nx")
			l := letter(msg)
			l.From = "sender@example.com"
			if tt.to != nil {
				l.To = tt.to
			}
			res := sendWant(t, g.Addr, l, testkit.Dot, tt.code)
			if !strings.Contains(res.Text(), tt.text) {
				t.Errorf("the client is told %q, want %q", res.Text(), tt.text)
			}
			emptyQueue(t, g)
			mails, bounces := waitMails(t, sink, tt.mails), 0
			for _, m := range mails {
				if strings.HasPrefix(m.From, "<>") {
					bounces++
					continue
				}
				added(t, m.Data, msg)
			}
			if bounces != tt.bounces {
				t.Errorf("%d notifications, want %d", bounces, tt.bounces)
			}
			if log := g.Log(); !strings.Contains(log, ": delivery: ") || !strings.Contains(log, ": message: ") {
				t.Error("the log has no line of the decision, or none of the delivery")
			}
		})
	}
}

// With nobody at the next hop the client does not wait, and the mail goes later.
func TestInteractiveNextHopAway(t *testing.T) {
	sink := testkit.NewSink()
	if err := sink.Start(); err != nil {
		t.Fatal(err)
	}
	if err := sink.Stop(); err != nil {
		t.Fatal(err)
	}
	g := testkit.Up(t, interactive(t, binaries.race, sink.Addr))
	for i := range 5 {
		start := time.Now()
		sendWant(t, g.Addr, letter(testkit.Message(fmt.Sprint(i), "x", "x")), testkit.Dot, 250)
		if took := time.Since(start); took > 15*time.Second { // half of what it may
			t.Errorf("message %d: the client waited %v", i, took)
		}
	}
	testkit.Up(t, sink)
	waitMails(t, sink, 5)
	emptyQueue(t, g)
}

// Large mail goes through without being on disk, and recipients of different
// routes each have theirs.
func TestInteractiveRoutes(t *testing.T) {
	sink, other := testkit.Up(t, testkit.NewSink()), testkit.Up(t, testkit.NewSink())
	g := interactive(t, binaries.race, sink.Addr)
	g.Config.Set("relay", "domains", `["example.com", "example.org"]`)
	g.Config.Set(`route."example.org"`, "to", fmt.Sprintf("[%q]", "smtp://"+other.Addr))
	testkit.Up(t, g)
	msg := testkit.Message("1", "large", testkit.Filler(3_000_000))
	l := letter(msg)
	l.To = []string{"u@example.com", "v@example.org"}
	res := sendWant(t, g.Addr, l, testkit.Dot, 250)
	if !strings.Contains(res.Text(), "kept") {
		t.Errorf("the client is told %q", res.Text())
	}
	for _, s := range []*testkit.Sink{sink, other} {
		added(t, waitMails(t, s, 1)[0].Data, msg)
	}
	if files, err := os.ReadDir(filepath.Join(g.Spool, "large")); err != nil || len(files) > 1 {
		t.Errorf("files of large messages: %v %v", files, err) // one may be kept for the next
	}
	// One route refuses, the other takes: the sender hears of it from the queue.
	other.Script("RCPT", "550 5.1.1 nobody")
	l.From = "sender@example.com"
	sendWant(t, g.Addr, l, testkit.Dot, 250)
	mails := waitMails(t, sink, 3)
	if !strings.HasPrefix(mails[1].From, "<>") && !strings.HasPrefix(mails[2].From, "<>") {
		t.Error("no notification")
	}
	emptyQueue(t, g)
}

// Whose 250 is lost sends again, and is answered from memory; who is cut off
// before it, too.
func TestInteractiveRepeat(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g := testkit.Up(t, interactive(t, binaries.race, sink.Addr))
	msg := testkit.Message("1", "x", "x")
	send := func() *testkit.Dialog {
		d := testkit.Connect(t, g.Addr)
		d.Do("EHLO client.test", 250)
		d.Do("MAIL FROM:<s@sender.test>", 250)
		d.Do("RCPT TO:<u@example.com>", 250)
		d.Do("DATA", 354)
		d.Send(string(msg) + ".\r\n")
		return d
	}
	d := send()
	d.Expect(250)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	waitMails(t, sink, 1)
	d = send()
	d.Expect(250)
	d.Do("QUIT", 221)
	d = send() // it has read that: it means this one
	d.Expect(250)
	waitMails(t, sink, 2)
	if !strings.Contains(g.Log(), "its answer was lost") {
		t.Error("the log does not tell of the repeat")
	}
}

// kill -9 before and after the next hop has it: the client got no answer, sends
// again, and the message arrives.
func TestInteractiveKilled(t *testing.T) {
	for step, most := range map[string]int{"queue.attempt": 1, "queue.delivered": 2, "spool.content.write": 1, "spool.content.wake": 2} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			sink := testkit.Up(t, testkit.NewSink())
			if strings.HasPrefix(step, "spool.") {
				sink.Script(testkit.Dot, "451 4.3.0 later")
			}
			g := interactive(t, binaries.failpoint, sink.Addr)
			g.Env = []string{"GATEPOST_FAILPOINTS=" + step + "=kill"}
			testkit.Watch(t, g)
			if err := g.Start(); err != nil {
				t.Fatal(err)
			}
			l := letter(testkit.Message("1", "x", "x"))
			if res := testkit.Send(g.Addr, l); res.Code != 0 {
				t.Fatalf("answered %v before it was killed", res)
			}
			if !g.Exited(60 * time.Second) {
				t.Fatal("it was not killed")
			}
			g.Env = nil
			if err := g.Start(); err != nil {
				t.Fatal(err)
			}
			sendWant(t, g.Addr, l, testkit.Dot, 250)
			emptyQueue(t, g)
			if n := len(sink.Mails()); n < 1 || n > most {
				t.Errorf("%d copies, want 1 to %d", n, most)
			}
		})
	}
}

// A gateway that stops ends the deliveries that clients wait for: what the next
// hop does not answer in time is kept, and goes after the start.
func TestInteractiveStops(t *testing.T) {
	sink := testkit.NewSink()
	asked, release := make(chan struct{}, 1), make(chan struct{})
	sink.Rule = func(verb, _ string) string {
		if verb == testkit.Dot {
			select {
			case asked <- struct{}{}:
				<-release
				return testkit.Drop
			default:
			}
		}
		return ""
	}
	testkit.Up(t, sink)
	g := interactive(t, binaries.race, sink.Addr)
	g.Config.Set("listener.mx", "interactive_timeout", `"2m"`)
	g.Config.Set("listener.mx", "grace", `"1s"`)
	testkit.Watch(t, g)
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	msg := testkit.Message("1", "x", "x")
	answer := make(chan testkit.Result, 1)
	go func() { answer <- testkit.Send(g.Addr, letter(msg)) }()
	<-asked
	if err := g.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	res := <-answer
	if !g.Exited(60 * time.Second) {
		t.Fatal("it has not stopped")
	}
	close(release)
	if res.Code != 250 || !strings.Contains(res.Text(), "queued as") {
		t.Fatalf("the client is told %v", res)
	}
	if n := len(sink.Mails()); n != 0 {
		t.Fatalf("%d messages at the next hop", n)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	if m := waitMails(t, sink, 1)[0]; !bytes.Contains(m.Data, msg) {
		t.Errorf("got %q", m.Data)
	}
	emptyQueue(t, g)
}
