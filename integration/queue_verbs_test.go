package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// newStuckGateway has a next hop for second.test and one for other domains that
// do not answer yet, and mail for both: an ordinary message, a notification,
// one with a subject that is made for a terminal. Nothing is tried for an hour.
func newStuckGateway(t *testing.T) (g *testkit.Gateway, sink, second *testkit.Sink, ids []string) {
	t.Helper()
	sink, second = testkit.NewSink(), testkit.NewSink()
	for _, s := range []*testkit.Sink{sink, second} {
		if err := s.Start(); err != nil { // to have its address
			t.Fatal(err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	g = newGateway(t, binaries.race, sink.Addr)
	g.Config.Set("relay", "domains", `["example.com", "second.test", "sender.test"]`)
	g.Config.Set(`route."sender.test"`, "to", fmt.Sprintf("[%q]", "smtp://"+sink.Addr))
	g.Config.Set(`route."second.test"`, "to", fmt.Sprintf("[%q]", "smtp://"+second.Addr))
	for _, wait := range []string{"first_retry", "max_retry", "first_pause", "max_pause"} {
		g.Config.Set("queue", wait, `"1h"`)
	}
	testkit.Up(t, g)
	evil := "\x1b[2J\x1b]0;owned\x07 0twv0000000000000000BB 1 Mon Jan  1 00:00:00 forged@x.test"
	for _, l := range []testkit.Letter{
		{From: "s@sender.test", To: []string{"u@example.com"}, Data: testkit.Message("1", "hello", "x")},
		{To: []string{"u@second.test"}, Data: testkit.Message("2", "bounce", "x")},
		{From: "s@sender.test", To: []string{"u@second.test", "v@example.com"}, Data: testkit.Message("3", evil, "x")},
	} {
		sendWant(t, g.Addr, l, testkit.Dot, 250)
	}
	testkit.Eventually(t, 60*time.Second, "three messages that were tried", func() bool {
		ids = nil
		all, err := g.Queue()
		for _, m := range all {
			if m["attempts"].(float64) > 0 && m["active"] == false {
				ids = append(ids, m["id"].(string))
			}
		}
		return err == nil && len(ids) == 3
	})
	return g, sink, second, ids
}

// Whether a gateway runs or not, commands that look say the same.
func TestQueueLooksTheSameAtRest(t *testing.T) {
	t.Parallel()
	g, _, _, ids := newStuckGateway(t)
	looks := [][]string{
		{"queue"}, {"queue", "list", "-j"}, {"queue", "list", "--domain", "second.test", "--older", "1ms"}, {"queue", "list", ids[1], ids[0]},
		{"queue", "list", "--route", "second.test", "--size-above", "1B", "--score-below", "1", "--lane", "retry"},
		{"queue", "shape"}, {"queue", "shape", "-j", "--sender"}, {"queue", "show", ids[2]}, {"queue", "cat", ids[2]}, {"queue", "cat", "-e", ids[2]},
		{"queue", "delete", "--all", "--dry-run"}, {"queue", "move", "--to", "slow", "--null-sender", "-n", "-j"},
		{"queue", "list", "--sender", "nobody"}, {"queue", "show", "0twv0000009999999999BB"}, {"queue", "unhold", ids[0]},
	}
	running := make([]testkit.CLIResult, len(looks))
	run := func(args []string) testkit.CLIResult {
		res, err := g.Run(args...)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	for i, args := range looks {
		running[i] = run(args)
		if strings.ContainsAny(running[i].Stdout, "\x1b\x07") && args[1] != "cat" {
			t.Errorf("%v: an escape sequence gets through:\n%q", args, running[i].Stdout)
		}
		if strings.Contains(running[i].Stdout, "\n0twv0000000000000000BB") {
			t.Errorf("%v: a line is forged:\n%s", args, running[i].Stdout)
		}
	}
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	for i, args := range looks {
		if got := run(args); got != running[i] {
			t.Errorf("%v at rest: %+v\nbefore: %+v", args, got, running[i])
		}
	}
}

// What the verbs do while a gateway runs is done at once, and to nothing else.
func TestQueueVerbs(t *testing.T) {
	t.Parallel()
	g, sink, second, ids := newStuckGateway(t)
	says := func(want string, args ...string) {
		t.Helper()
		if res := command(t, g, 0, append([]string{"queue"}, args...)...); res.Stdout != want+"\n" {
			t.Errorf("%v: %q, want %q", args, res.Stdout, want)
		}
	}
	lane := func(want string, ids ...string) {
		t.Helper()
		all, err := g.Queue()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			for _, id := range ids {
				if m["queue_id"] == id && m["queue_name"] != want {
					t.Errorf("%s is in %v, want %s", id, m["queue_name"], want)
				}
			}
		}
	}
	says("Held: 2 messages", "hold", "--domain", "second.test")
	lane("hold", ids[1], ids[2])
	says("Released from hold: 1 message", "unhold", "--null-sender")
	says("Moved to slow: 1 message", "move", "--to", "slow", "--null-sender", "--lane", "retry,fresh")
	lane("slow", ids[1])
	says("Moved to retry: 1 message", "move", "--to", "retry", ids[1])

	// The next hops are back: what is not held goes when it is told to.
	testkit.Up(t, sink)
	testkit.Up(t, second)
	says("Retried: 1 message", "flush", "--route", "example.com")
	if m := waitMails(t, sink, 1)[0]; !bytes.Contains(m.Data, []byte(ids[0])) {
		t.Errorf("another message than %s arrived:\n%s", ids[0], m.Data)
	}
	says("Retried: 1 message", "flush")
	waitMails(t, second, 1)

	// What is left is bounced, though it is held: its sender hears of both
	// recipients.
	says("Bounced: 0 messages", "bounce", "--all", "--yes")
	says("Bounced: 1 message", "bounce", "--lane", "hold")
	dsn := waitMails(t, sink, 2)[1]
	for _, want := range []string{"Auto-Submitted: auto-replied", "u@second.test", "v@example.com", "Action: failed"} {
		if !bytes.Contains(dsn.Data, []byte(want)) {
			t.Errorf("the notification has no %q:\n%s", want, dsn.Data)
		}
	}
	testkit.Eventually(t, 60*time.Second, "an empty queue", func() bool {
		q, err := g.Queue()
		return err == nil && len(q) == 0
	})
}

// A list that is read while its messages go is whole, and IDs from it that are
// gone are named.
func TestQueueDeleteFromList(t *testing.T) {
	t.Parallel()
	g, _, _, ids := newStuckGateway(t)
	list := command(t, g, 0, "queue", "list", "-j").Stdout
	command(t, g, 0, "queue", "delete", ids[0])
	res, err := g.RunInput(strings.NewReader(list), "queue", "delete", "-", "-j", "-c", g.File)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Chosen, Done, Failures int
		Failed                 []string
	}
	if err := json.Unmarshal([]byte(res.Stdout), &r); err != nil || res.Code != 66 || r.Done != 2 || r.Failures != 1 || !strings.Contains(r.Failed[0], ids[0]) {
		t.Errorf("exit %d, %+v, %v", res.Code, r, err)
	}
	if out := command(t, g, 0, "queue").Stdout; out != "Mail queue is empty\n" {
		t.Errorf("left:\n%s", out)
	}
}
