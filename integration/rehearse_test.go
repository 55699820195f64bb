package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// changedRules is a site whose rules people change while mail comes.
type changedRules struct {
	*testkit.Gateway
	t    *testing.T
	dir  string // of what the configuration names
	next string // of candidates
}

// numbered are rules that write n into each message, beside a long list.
func numbered(n string, entries int) map[string]string {
	var list strings.Builder
	for i := range entries {
		fmt.Fprintf(&list, "host%d.example\n", i)
	}
	return map[string]string{
		"a.toml":   "[[rule]]\nname = \"number\"\nheader = { add = { X-Number = \"" + n + "\" } }\n",
		"b.toml":   "[[rule]]\nname = \"bad\"\nfrom = [\"list:bad\"]\naction = \"reject\"\n[list.bad]\ntype = \"host\"\nfile = \"bad.list\"\n[[rule]]\nname = \"again\"\nheader = { add = { X-Again = \"" + n + "\" } }\n",
		"bad.list": list.String(),
	}
}

func (c *changedRules) write(dir string, files map[string]string) {
	c.t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
}

func newChangedRules(t *testing.T, binary func() (string, error), sink string) *changedRules {
	t.Helper()
	c := &changedRules{Gateway: newGateway(t, binary, sink), t: t, dir: testkit.Dir(t), next: testkit.Dir(t)}
	c.write(c.dir, numbered("1", 100))
	c.Config.Set("", "rules", fmt.Sprintf("[%q]", filepath.Join(c.dir, "*.toml")))
	return c
}

// stamps are what rules wrote into each message that arrived.
func stamps(sink *testkit.Sink) map[string]int {
	all := make(map[string]int)
	for _, m := range sink.Mails() {
		head, _, _ := strings.Cut(string(m.Data), "\r\n\r\n")
		all[stamp(head, "X-Number: ")+"/"+stamp(head, "X-Again: ")]++
	}
	return all
}

func stamp(head, field string) string {
	_, rest, _ := strings.Cut(head, field)
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

// underLoad sends mail until what is done ends. Each message is taken.
func (c *changedRules) underLoad(do func()) (sent int) {
	c.t.Helper()
	stop, done := make(chan struct{}), make(chan int, 2)
	var once sync.Once
	for range 2 {
		go func() {
			n := 0
			defer func() { done <- n }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if r := testkit.Send(c.Addr, letter(testkit.Message("", "load", "x"))); !r.Accepted() {
					once.Do(func() { c.t.Errorf("a message was not taken: %v", r) })
					return
				}
				n++
			}
		}()
	}
	do()
	close(stop)
	return <-done + <-done
}

// What is wrong with rules changes nothing while mail comes, what is right is in
// use at once, and each message was judged by one generation.
func TestRulesChangeUnderLoad(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	c := newChangedRules(t, binaries.race, sink.Addr)
	testkit.Up(t, c.Gateway)
	refused := func(want string, args ...string) {
		t.Helper()
		res, err := c.Run(append([]string{"rules", "apply", c.next, "--reason", "test"}, args...)...)
		if err != nil || res.Code == 0 || !strings.Contains(res.Stderr, want) {
			t.Errorf("want a refusal with %q, got %d %s%s", want, res.Code, res.Stdout, res.Stderr)
		}
	}
	change := func(n string, entries int, more map[string]string) {
		files := numbered(n, entries)
		for name, text := range more {
			files[name] += text
		}
		c.write(c.next, files)
	}
	sent := c.underLoad(func() {
		change("2", 100, map[string]string{"b.toml": "[[rule]\n"})
		refused("b.toml:")
		change("2", 100, map[string]string{"b.toml": "[[test]]\nfrom = \"a@host1.example\"\naction = \"accept\"\n"})
		refused("b.toml:")
		change("2", 0, nil)
		refused(`"bad" is empty`)
		change("2", 10, nil)
		refused(`"bad" has 10 of 100 entries`)
		change("2", 100, nil)
		if err := os.Remove(filepath.Join(c.next, "bad.list")); err != nil {
			t.Fatal(err)
		}
		refused("can't be read")
		c.write(c.dir, numbered("x", 5)) // by SIGHUP, too
		if err := c.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, 60*time.Second, "the reload is refused", func() bool {
			return strings.Contains(command(t, c.Gateway, 0, "rules", "log").Stdout, "has 5 of 100 entries")
		})
		c.write(c.dir, numbered("1", 100))
		change("2", 10, nil)
		if out := command(t, c.Gateway, 0, "rules", "apply", c.next, "--force", "--reason", "the feed is dead").Stdout; !strings.Contains(out, "is in use") {
			t.Error(out)
		}
		if err := c.Signal(syscall.SIGHUP); err != nil { // the files are as they were: what was applied stays
			t.Fatal(err)
		}
		change("3", 10, nil)
		command(t, c.Gateway, 0, "rules", "apply", c.next, "--reason", "third")
	})
	testkit.Eventually(t, 120*time.Second, "all arrive", func() bool { return len(sink.Mails()) >= sent })
	got := stamps(sink)
	for stamp, n := range got {
		if stamp != "1/1" && stamp != "2/2" && stamp != "3/3" {
			t.Errorf("%d messages were judged by %s", n, stamp)
		}
	}
	sendWant(t, c.Addr, letter(testkit.Message("", "after", "x")), testkit.Dot, 250)
	testkit.Eventually(t, 60*time.Second, "the third generation is in use", func() bool { return stamps(sink)["3/3"] > got["3/3"] })
	t.Logf("%d messages: %v", sent, got)
	names := make(map[string]bool)
	for _, r := range traced(t, c.Gateway, min(sent+1, 500)) {
		_, name, ok := strings.Cut(r.Generation, "/")
		if !ok || len(name) != 16 {
			t.Errorf("%s was judged by %q", r.ID, r.Generation)
		}
		names[name] = true
	}
	if len(names) > 3 {
		t.Errorf("generations %v", names)
	}
	command(t, c.Gateway, 0, "rules", "rollback", "--reason", "third was wrong")
	log := command(t, c.Gateway, 0, "rules", "log", "--json").Stdout
	for _, want := range []string{"rollback 2", "third was wrong", "the feed is dead", `"forced":true`, `"who":"root"`, "list bad: 100 → 10 entries"} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is not in the log:\n%s", want, log)
		}
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	before := stamps(sink)["2/2"]
	sendWant(t, c.Addr, letter(testkit.Message("", "after a restart", "x")), testkit.Dot, 250)
	testkit.Eventually(t, 60*time.Second, "what was gone back to stays after a restart", func() bool { return stamps(sink)["2/2"] > before })
}

// kill -9 at each step of applying: then one whole generation is in use, and that
// which was told to be in use.
func TestRulesKilled(t *testing.T) {
	for _, step := range []string{"rules.blob", "rules.blobs", "rules.write", "rules.rename", "rules.done"} {
		t.Run(step, func(t *testing.T) {
			sink := testkit.Up(t, testkit.NewSink())
			c := newChangedRules(t, binaries.failpoint, sink.Addr)
			testkit.Watch(t, c.Gateway)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			if err := c.Stop(); err != nil {
				t.Fatal(err)
			}
			hit := 1
			if step == "rules.blob" {
				hit = 5 // a start reads three files
			}
			c.Env = []string{fmt.Sprintf("GATEPOST_FAILPOINTS=%s=kill@%d", step, hit)}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			c.write(c.next, numbered("2", 100))
			if res, err := c.Run("rules", "apply", c.next, "--reason", "killed"); err == nil && res.Code == 0 {
				t.Fatalf("it was not killed: %s", res.Stdout)
			}
			if !c.Exited(60 * time.Second) {
				t.Fatal("it lives")
			}
			c.Env = nil
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			sendWant(t, c.Addr, letter(testkit.Message("", "after", "x")), testkit.Dot, 250)
			testkit.Eventually(t, 60*time.Second, "it arrives", func() bool { return len(sink.Mails()) > 0 })
			want := "1/1"
			if step == "rules.done" {
				want = "2/2" // it is written
			}
			if got := stamps(sink); got[want] != 1 {
				t.Errorf("judged by %v, want %s", got, want)
			}
			command(t, c.Gateway, 0, "rules", "apply", c.next, "--reason", "once more")
		})
	}
}

// What a rehearsal predicts of an observing rule is what it then counts; lists
// are filled, and what came before is found.
func TestRehearsalAndLists(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	c := newChangedRules(t, binaries.race, sink.Addr)
	testkit.Up(t, c.Gateway)
	send := func() {
		for i := range 12 {
			sendWant(t, c.Addr, testkit.Letter{From: fmt.Sprintf("s%d@sender.test", i%3), To: []string{"u@example.com"}, Data: testkit.Message("", fmt.Sprintf("invoice %d", i%4), "x")}, testkit.Dot, 250)
		}
	}
	send()
	traced(t, c.Gateway, 12)
	files := numbered("1", 100)
	files["c.toml"] = "[[rule]]\nname = \"watch\"\nwhen = 'subject contains \"invoice 1\"'\naction = \"reject\"\nmode = \"observe\"\n" +
		"[[rule]]\nname = \"ioc\"\nfrom = [\"list:ioc\"]\naction = \"reject\"\n[list.ioc]\ntype = \"address\"\nmanaged = true\n"
	c.write(c.next, files)
	type report struct {
		Records, Differing int
		Hits               []struct {
			Rule string
			New  int
		}
	}
	rehearsed := func(dir string) (r report) {
		t.Helper()
		if err := json.Unmarshal([]byte(command(t, c.Gateway, 0, "rules", "rehearse", dir, "--json").Stdout), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := rehearsed(c.dir); r.Records != 12 || r.Differing != 0 {
		t.Errorf("the same rules: %+v", r)
	}
	r, predicted := rehearsed(c.next), 0
	for _, h := range r.Hits {
		if h.Rule == "watch" {
			predicted = h.New
		}
	}
	if r.Records != 12 || r.Differing != 0 || predicted != 3 {
		t.Errorf("with an observing rule: %+v", r)
	}
	command(t, c.Gateway, 0, "rules", "apply", c.next, "--reason", "watch")
	send()
	hits := func() (count int) {
		for line := range strings.Lines(command(t, c.Gateway, 0, "rules", "hits", "--json").Stdout) {
			var h struct {
				Rule  string
				Count int
			}
			if err := json.Unmarshal([]byte(line), &h); err != nil {
				t.Fatal(err)
			}
			if h.Rule == "watch" {
				count = h.Count
			}
		}
		return count
	}
	if got := hits(); got != predicted {
		t.Errorf("%d hits, %d were predicted", got, predicted)
	}
	unused := command(t, c.Gateway, 0, "rules", "hits", "--unused", "30d").Stdout
	if !strings.Contains(unused, "ioc") || strings.Contains(unused, "watch") {
		t.Errorf("unused:\n%s", unused)
	}
	add, err := c.RunInput(strings.NewReader("s1@sender[.]test # phish\n<other@sender.test>\n"), "list", "add", "-c", c.File, "ioc", "--until", "30d", "--ticket", "SEC 1", "--type", "sender")
	if err != nil || add.Code != 0 || !strings.Contains(add.Stdout, "2 added") {
		t.Fatalf("list add: %v %+v", err, add)
	}
	sendWant(t, c.Addr, testkit.Letter{From: "s1@sender.test", To: []string{"u@example.com"}, Data: testkit.Message("", "again", "x")}, testkit.Dot, 550)
	if out := command(t, c.Gateway, 0, "list", "show", "ioc").Stdout; !strings.Contains(out, "s1@sender.test until=") || !strings.Contains(out, "ticket=SEC_1 note=phish") {
		t.Errorf("list show:\n%s", out)
	}
	if res := command(t, c.Gateway, 65, "list", "add", "ioc", "x@y.example", "no address"); !strings.Contains(res.Stderr, "nothing is done") {
		t.Error(res.Stderr)
	}
	traced(t, c.Gateway, 25)
	if out := command(t, c.Gateway, 1, "hunt", "--list", "ioc", "--recall").Stdout; strings.Count(out, "u@example.com\t") != 8 {
		t.Errorf("hunt --recall:\n%s", out)
	}
	command(t, c.Gateway, 0, "hunt", "evil[.]example")
	command(t, c.Gateway, 0, "list", "drop", "ioc", "s1@sender.test")
	sendWant(t, c.Addr, testkit.Letter{From: "s1@sender.test", To: []string{"u@example.com"}, Data: testkit.Message("", "again", "x")}, testkit.Dot, 250)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if got := hits(); got != predicted {
		t.Errorf("%d hits after a restart, %d before", got, predicted)
	}
	if out := command(t, c.Gateway, 0, "list", "export", "ioc").Stdout; out != "other@sender.test\n" {
		t.Errorf("after a restart the list has %q", out)
	}
}
