package integration

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// SIGHUP with a bad file keeps what runs and says so; with a good one it
// changes, and open sessions stay open.
func TestReload(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	testkit.Up(t, g)
	session := testkit.Connect(t, g.Addr)
	session.Do("EHLO client.test", 250)

	good := g.Config.Text()
	for _, bad := range []struct{ name, text, says string }{
		{"a typo", strings.Replace(good, "[relay]", "[relay]\ndomain = [\"x.test\"]", 1), "domain"},
		{"no TOML at all", good + "\n[[[", "toml"},
		{"an empty file", "", "hostname"},
	} {
		logged := len(g.Log())
		if err := os.WriteFile(g.File, []byte(bad.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := g.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, 60*time.Second, bad.name+" named in the log", func() bool {
			return strings.Contains(strings.ToLower(g.Log()[logged:]), bad.says)
		})
		sendWant(t, g.Addr, letter(testkit.Message("bad", "bad", "x")), testkit.Dot, 250)
		sendWant(t, g.Addr, testkit.Letter{From: "s@sender.test", To: []string{"u@second.test"}}, "RCPT", 5)
	}
	waitMails(t, sink, 3)

	g.Config.Set("relay", "domains", `["example.com", "second.test"]`)
	g.Config.Set(`route."second.test"`, "to", `["smtp://`+sink.Addr+`"]`)
	if err := g.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	if err := g.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	second := testkit.Letter{From: "s@sender.test", To: []string{"u@second.test"}, Data: testkit.Message("2", "2", "x")}
	testkit.Eventually(t, 60*time.Second, "the new domain is accepted", func() bool {
		return testkit.Send(g.Addr, second).Accepted()
	})
	waitMails(t, sink, 4)
	if res := session.Deliver(letter(testkit.Message("old", "old", "x"))); !res.Accepted() {
		t.Errorf("the session from before: %v", res)
	}
}

// SIGTERM with sessions in DATA: each ends with 250 and its message is there,
// or with 421 and it is not.
func TestDrain(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	g.Config.Set("listener.mx", "grace", `"5s"`)
	testkit.Up(t, g)
	const sessions = 30
	type open struct {
		*testkit.Client
		id   string
		rest string
	}
	var all []open
	for i := range sessions {
		d := testkit.Connect(t, g.Addr)
		d.Do("EHLO client.test", 250)
		d.Do("MAIL FROM:<s@sender.test>", 250)
		d.Do("RCPT TO:<u@example.com>", 250)
		d.Do("DATA", 354)
		id := fmt.Sprintf("drain%02d", i)
		data := string(testkit.Message(id, id, testkit.Filler(200_000)))
		half := len(data) / 2
		d.Send(data[:half])
		all = append(all, open{d.Client, id, string(testkit.Stuff([]byte(data)))[half:]})
	}
	idle := testkit.Connect(t, g.Addr)
	idle.Do("EHLO client.test", 250)

	if err := g.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 60*time.Second, "no new sessions", func() bool {
		c, err := testkit.Dial(g.Addr)
		if err != nil {
			return true
		}
		defer c.Close()
		r, err := c.Read()
		return err != nil || r.Code == 421
	})
	idle.Timeout = 10 * time.Second
	if r, err := idle.Read(); err != nil || r.Code != 421 {
		t.Errorf("the idle session was told %v, %v; want 421", r, err)
	}

	// Two thirds finish at once, the others never do.
	replies := make([]testkit.Reply, sessions)
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() {
			if i%3 != 0 {
				_ = s.Write(s.rest + ".\r\n")
			}
			replies[i], _ = s.Read()
		})
	}
	wg.Wait()
	if !g.Exited(60 * time.Second) {
		t.Fatal("still there after the grace time")
	}
	if err := g.Stop(); err != nil {
		t.Errorf("exit: %v", err)
	}
	// What was accepted arrives, at the latest after a start.
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	want := 0
	for i, r := range replies {
		switch {
		case r.Code == 250:
			want++
		case r.Code != 421:
			t.Errorf("%s was told %v, want 250 or 421", all[i].id, r)
		case i%3 != 0:
			t.Errorf("%s was finished in time and told %v", all[i].id, r)
		}
	}
	arrived := map[string]int{}
	for _, m := range waitMails(t, sink, want) {
		arrived[field(string(m.Data[:2000]), "Subject")]++
	}
	for i, r := range replies {
		if (r.Code == 250) != (arrived[all[i].id] == 1) {
			t.Errorf("%s was told %v and arrived %d times", all[i].id, r, arrived[all[i].id])
		}
	}
	t.Logf("%d of %d finished", want, sessions)
}

// Two gateways on one spool would lose mail: the second one does not start.
func TestSecondGatewayOnTheSpool(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	first := testkit.Up(t, newGateway(t, binaries.race, sink.Addr))
	second := newGateway(t, binaries.race, sink.Addr)
	second.Config.Set("", "spool", fmt.Sprintf("%q", first.Spool))
	if err := second.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	res := command(t, second, 75, "serve")
	if !strings.Contains(res.Stderr, first.Spool) {
		t.Errorf("the error does not name the spool: %s", res.Stderr)
	}
	sendWant(t, first.Addr, letter(testkit.Message("1", "1", "x")), testkit.Dot, 250)
	waitMails(t, sink, 1)
}

// The console's listener tells how it goes.
func TestHealthAndMetrics(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g := testkit.Up(t, newGateway(t, binaries.race, sink.Addr))
	sendWant(t, g.Addr, letter(testkit.Message("1", "1", "x")), testkit.Dot, 250)
	waitMails(t, sink, 1)
	for _, page := range []struct{ path, has string }{
		{"/healthz", ""}, {"/readyz", ""}, {"/metrics", "gatepost_messages_total"},
	} {
		status, body, err := g.Get(page.path)
		if err != nil || status != 200 || !strings.Contains(body, page.has) {
			t.Errorf("%s: %d %v %.300s", page.path, status, err, body)
		}
	}
	// Strangers must not be able to make series.
	if _, body, err := g.Get("/metrics"); err != nil || strings.Contains(body, "sender.test") || strings.Contains(body, "u@") {
		t.Errorf("addresses in the metrics, %v:\n%s", err, body)
	}
}
