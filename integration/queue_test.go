package integration

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// What the next hop says decides: again, for good, or to another host.
func TestNextHopDecides(t *testing.T) {
	msg := testkit.Message("1", "hello", "x")
	tests := []struct {
		name    string
		script  map[string][]string
		mails   int // that the sink takes in the end
		bounces int // of these
	}{
		{"later at the message", map[string][]string{testkit.Dot: {"451 4.3.0 later", "452 4.3.1 full"}}, 1, 0},
		{"later at the recipient", map[string][]string{"RCPT": {"450 4.2.0 greylisted"}}, 1, 0},
		{"busy", map[string][]string{testkit.Banner: {"421 4.3.2 busy", "421 4.3.2 busy"}}, 1, 0},
		{"connection lost before the answer", map[string][]string{testkit.Dot: {testkit.Drop}}, 1, 0},
		{"taken, answer lost: once more", map[string][]string{testkit.Dot: {testkit.TakeAndDrop}}, 2, 0},
		{"nobody of that name", map[string][]string{"RCPT": {"550 5.1.1 no such user"}}, 1, 1},
		{"refused after the dot", map[string][]string{testkit.Dot: {"554 5.7.1 spam"}}, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sink := testkit.Up(t, testkit.NewSink())
			for verb, answers := range tt.script {
				sink.Script(verb, answers...)
			}
			g := testkit.Up(t, newGateway(t, binaries.race, sink.Addr))
			l := letter(msg)
			l.From = "sender@example.com"
			sendWant(t, g.Addr, l, testkit.Dot, 250)
			bounces := 0
			for _, m := range waitMails(t, sink, tt.mails) {
				if strings.HasPrefix(m.From, "<>") {
					bounces++
					checkDSN(t, m, msg)
					continue
				}
				added(t, m.Data, msg)
			}
			if bounces != tt.bounces {
				t.Errorf("%d notifications, want %d", bounces, tt.bounces)
			}
			testkit.Eventually(t, 60*time.Second, "an empty queue", func() bool {
				q, err := g.Queue()
				return err == nil && len(q) == 0
			})
		})
	}
}

// checkDSN: an RFC 3464 report, to the sender, from nobody.
func checkDSN(t *testing.T, m testkit.Mail, original []byte) {
	t.Helper()
	if len(m.To) != 1 || !strings.HasPrefix(m.To[0], "<sender@example.com>") {
		t.Errorf("the notification goes to %q", m.To)
	}
	for _, want := range []string{
		"multipart/report", "report-type=delivery-status", "Auto-Submitted: auto-replied", "message/delivery-status",
		"Final-Recipient: rfc822;", "u@example.com", "Action: failed", "Status: 5.",
	} {
		if !bytes.Contains(m.Data, []byte(want)) && !bytes.Contains(m.Data, []byte(strings.ReplaceAll(want, "rfc822;", "rfc822; "))) {
			t.Errorf("the notification has no %q:\n%s", want, m.Data)
		}
	}
	if !bytes.Contains(m.Data, []byte("Message-ID: <1@sender.test>")) {
		t.Errorf("the notification does not hold the header of what failed:\n%s", m.Data)
	}
}

// Nobody is told of what failed for the null sender, and there is no loop.
func TestNoNotificationForTheNullSender(t *testing.T) {
	sink := testkit.NewSink()
	sink.Rule = func(verb, arg string) string {
		if verb == "RCPT" {
			return "550 5.1.1 nobody"
		}
		return ""
	}
	testkit.Up(t, sink)
	g := testkit.Up(t, newGateway(t, binaries.race, sink.Addr))
	for _, from := range []string{"", "sender@example.com"} {
		l := letter(testkit.Message("1", "x", "x"))
		l.From = from
		sendWant(t, g.Addr, l, testkit.Dot, 250)
	}
	testkit.Eventually(t, 60*time.Second, "an empty queue", func() bool {
		q, err := g.Queue()
		return err == nil && len(q) == 0 && sink.Sessions() > 0
	})
	if n := len(sink.Mails()); n != 0 {
		t.Errorf("%d messages arrived", n)
	}
}

// With the first host away the second one gets the mail, at the first attempt.
func TestSecondHostOfARoute(t *testing.T) {
	away, sink := testkit.NewSink(), testkit.Up(t, testkit.NewSink())
	if err := away.Start(); err != nil {
		t.Fatal(err)
	}
	if err := away.Stop(); err != nil {
		t.Fatal(err)
	}
	g := testkit.Up(t, newGateway(t, binaries.race, away.Addr, sink.Addr))
	sendWant(t, g.Addr, letter(testkit.Message("1", "x", "x")), testkit.Dot, 250)
	waitMails(t, sink, 1)
	// It comes back, and the second one goes: back to the first at once, though
	// that one has just failed.
	testkit.Up(t, away)
	if err := sink.Stop(); err != nil {
		t.Fatal(err)
	}
	sendWant(t, g.Addr, letter(testkit.Message("2", "x", "x")), testkit.Dot, 250)
	waitMails(t, away, 1)
}

// With the next hop away mail waits, can be seen and handled, and goes when it
// is back; a restart changes nothing.
func TestQueueCommands(t *testing.T) {
	sink := testkit.NewSink()
	if err := sink.Start(); err != nil { // to have its address
		t.Fatal(err)
	}
	if err := sink.Stop(); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, binaries.race, sink.Addr)
	g.Config.Set("queue", "first_retry", `"1h"`)
	g.Config.Set("queue", "max_retry", `"1h"`)
	testkit.Up(t, g)
	for i := range 3 {
		sendWant(t, g.Addr, letter(testkit.Message(fmt.Sprint(i), "hello", "x")), testkit.Dot, 250)
	}
	var waiting []map[string]any
	testkit.Eventually(t, 60*time.Second, "three waiting messages", func() bool {
		waiting = inState(t, g, "queue")
		return len(waiting) == 3
	})
	id := waiting[0]["id"].(string)
	for _, running := range []bool{true, false} {
		if !running {
			if err := g.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		if list := command(t, g, 0, "queue", "list"); !strings.Contains(list.Stdout, id) || !strings.Contains(list.Stdout, "u@example.com") {
			t.Errorf("running = %v: list:\n%s", running, list.Stdout)
		}
		if show := command(t, g, 0, "queue", "show", id); !strings.Contains(show.Stdout, "u@example.com") || !strings.Contains(show.Stdout, "s@sender.test") {
			t.Errorf("running = %v: show:\n%s", running, show.Stdout)
		}
		// One is deleted each time.
		left := inState(t, g, "queue")
		command(t, g, 0, "queue", "delete", left[len(left)-1]["id"].(string))
		if now := inState(t, g, "queue"); len(now) != len(left)-1 {
			t.Errorf("running = %v: %d messages after delete, want %d", running, len(now), len(left)-1)
		}
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Up(t, sink)
	command(t, g, 0, "queue", "retry", id)
	if m := waitMails(t, sink, 1)[0]; !bytes.Contains(m.Data, []byte("X-Gatepost-ID: "+id)) {
		t.Errorf("another message than %s arrived:\n%s", id, m.Data)
	}
}
