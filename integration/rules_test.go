package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// siteRules treat four recipients in four ways.
const siteRules = `
[[rule]]
name   = "refuse"
to     = "refuse@example.com"
action = "reject"
reply  = "550 5.7.1 This recipient takes no mail"

[[rule]]
name = "tag"
to   = "tag@example.com"
tag  = "[EXT] "
header = { add = { X-Class = "external" } }

[[rule]]
name   = "hold"
to     = "hold@example.com"
when   = 'subject contains "papers"'
action = "hold"

[[rule]]
name  = "watch"
when  = 'any(parts, .ext == "txt") and size > 10'
score = 30
mode  = "observe"
`

// withRules gives a gateway a rule file, and returns its path.
func withRules(t *testing.T, g *testkit.Gateway, text string) string {
	t.Helper()
	path := filepath.Join(testkit.Dir(t), "site.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	g.Config.Set("", "rules", fmt.Sprintf("[%q]", path))
	return path
}

// fourRecipients are those of siteRules, one without a rule first.
func fourRecipients() testkit.Letter {
	l := letter([]byte("From: s@sender.test\r\nSubject: papers\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; name=a.txt\r\n\r\nSee you.\r\n"))
	l.To = []string{"plain@example.com", "tag@example.com", "hold@example.com", "refuse@example.com"}
	return l
}

// becomes waits for what the next hop gets and what is held, each as
// "recipient subject class".
func becomes(t *testing.T, g *testkit.Gateway, sink *testkit.Sink, delivered, held string) {
	t.Helper()
	gotDelivered, gotHeld := "", ""
	testkit.Eventually(t, 60*time.Second, "every recipient has his outcome", func() bool {
		var arrived, kept []string
		for _, m := range sink.Mails() {
			head, _, _ := strings.Cut(string(m.Data), "\r\n\r\n")
			subject, class := "papers", ""
			if strings.Contains(head, "Subject: [EXT] papers") {
				subject = "[EXT] papers"
			}
			if strings.Contains(head, "X-Class: external") {
				class = " external"
			}
			from := ""
			if strings.HasPrefix(m.From, "<>") {
				from = " a bounce"
			}
			arrived = append(arrived, strings.Join(mailboxes(m.To), ",")+" "+subject+class+from)
		}
		for _, m := range inState(t, g, "hold") {
			for _, r := range m["recipients"].([]any) {
				kept = append(kept, fmt.Sprint(r.(map[string]any)["address"]))
			}
		}
		slices.Sort(arrived)
		slices.Sort(kept)
		gotDelivered, gotHeld = strings.Join(arrived, "; "), strings.Join(kept, "; ")
		return gotDelivered == delivered && gotHeld == held || len(arrived) > 4
	})
	if gotDelivered != delivered || gotHeld != held {
		t.Errorf("delivered %q, held %q", gotDelivered, gotHeld)
	}
}

// mailboxes are the addresses of commands, without what stands behind them.
func mailboxes(paths []string) []string {
	var all []string
	for _, p := range paths {
		path, _, _ := strings.Cut(p, " ")
		all = append(all, strings.Trim(path, "<>"))
	}
	return all
}

const twoArrive = "plain@example.com papers; tag@example.com [EXT] papers external"

// Recipients with different policies each get their outcome, over every entry,
// and nobody gets a bounce.
func TestRulesForEachRecipient(t *testing.T) {
	t.Run("SMTP", func(t *testing.T) {
		sink := testkit.Up(t, testkit.NewSink())
		g := newGateway(t, binaries.race, sink.Addr)
		withRules(t, g, siteRules)
		testkit.Up(t, g)
		sendWant(t, g.Addr, fourRecipients(), testkit.Dot, 250)
		becomes(t, g, sink, twoArrive, "hold@example.com; refuse@example.com")
		if hits := command(t, g, 0, "rules", "hits").Stdout; !strings.Contains(hits, "watch (observes)") || !strings.Contains(hits, "refuse") {
			t.Errorf("hits:\n%s", hits)
		}
	})
	t.Run("SMTP with PRDR", func(t *testing.T) {
		sink := testkit.Up(t, testkit.NewSink())
		g := newGateway(t, binaries.race, sink.Addr)
		withRules(t, g, siteRules)
		testkit.Up(t, g)
		prdr(t, g.Addr, fourRecipients(), []string{"353", "250", "250", "250", "550 5.7.1 This recipient takes no mail", "250"})
		becomes(t, g, sink, twoArrive, "hold@example.com")
	})
	t.Run("one class for each message", func(t *testing.T) {
		sink := testkit.Up(t, testkit.NewSink())
		g := newGateway(t, binaries.race, sink.Addr)
		withRules(t, g, siteRules)
		g.Config.Set("policy", "recipients", `"one-class"`)
		testkit.Up(t, g)
		res := testkit.Send(g.Addr, fourRecipients())
		for _, to := range []string{"tag@example.com", "hold@example.com", "refuse@example.com"} {
			if res.Refused[to].Code != 452 {
				t.Errorf("%s: %v, want 452", to, res.Refused[to])
			}
			l := fourRecipients()
			l.To = []string{to}
			if r := testkit.Send(g.Addr, l); (to == "refuse@example.com") == r.Accepted() {
				t.Errorf("%s alone: %v", to, r)
			}
		}
		becomes(t, g, sink, twoArrive, "hold@example.com")
	})
	t.Run("a milter of Postfix", func(t *testing.T) {
		needRoot(t)
		sink := testkit.Up(t, testkit.NewSink())
		g := newGateway(t, binaries.race, sink.Addr)
		withRules(t, g, siteRules)
		socket := milterSocket(t, g, "unix")
		g.Config.Set("milter.main", "quarantine", `"hold"`)
		g.Config.Set("milter.main", "reinject", fmt.Sprintf("%q", "smtp://"+sink.Addr))
		testkit.Up(t, g)
		postfix := testkit.Up(t, testkit.NewMilterPostfix(testkit.Dir(t), sink.Addr, "unix:"+socket))
		sendWant(t, postfix.Addr, fourRecipients(), testkit.Dot, 250)
		becomes(t, g, sink, twoArrive, "hold@example.com; refuse@example.com")
	})
}

// prdr sends a message and wants these answers to its end.
func prdr(t *testing.T, addr string, l testkit.Letter, answers []string) {
	t.Helper()
	c, err := testkit.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say := func(line, want string) {
		t.Helper()
		r, err := c.Cmd(line)
		if err != nil || !strings.HasPrefix(r.String(), want) {
			t.Fatalf("%s: %v %v, want %s", line, r, err, want)
		}
	}
	if _, err := c.Read(); err != nil {
		t.Fatal(err)
	}
	say("EHLO client.test", "250")
	say("MAIL FROM:<"+l.From+"> PRDR", "250")
	for _, to := range l.To {
		say("RCPT TO:<"+to+">", "250")
	}
	say("DATA", "354")
	if err := c.Write(string(l.Data) + ".\r\n"); err != nil {
		t.Fatal(err)
	}
	for i, want := range answers {
		if r, err := c.Read(); err != nil || !strings.HasPrefix(r.String(), want) {
			t.Errorf("answer %d: %v %v, want %s", i+1, r, err, want)
		}
	}
	say("QUIT", "221")
}

// A file with a mistake changes nothing, one without is taken over, and every
// message is judged by one generation or the other.
func TestRulesReload(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	path := withRules(t, g, "[[rule]]\nname = \"old\"\nfrom = \"s@sender.test\"\naction = \"reject\"\nreply = \"550 5.7.1 old\"\n")
	testkit.Up(t, g)
	answer := func() string { return testkit.Send(g.Addr, letter(testkit.Message("r", "r", "x"))).String() }
	if got := answer(); !strings.Contains(got, "5.7.1 old") {
		t.Fatalf("answer %q", got)
	}
	bad := "[[rule]]\nname = \"new\"\nwhen = 'sendr.domain == \"sender.test\"'\naction = \"reject\"\n"
	for name, text := range map[string]string{
		"unknown name": bad,
		"syntax":       "[[rule]\n",
		"failing test": "[[rule]]\nname = \"new\"\nwhen = 'subject == \"a\"'\naction = \"reject\"\n[[rule.test]]\nsubject = \"b\"\n",
		"no such list": "[[rule]]\nname = \"new\"\nfrom = \"list:nobody\"\naction = \"reject\"\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out := command(t, g, 78, "rules", "check", path)
		if !strings.Contains(out.Stderr, path+":") {
			t.Errorf("%s: check says %s", name, out.Stderr)
		}
		before := strings.Count(g.Log(), "the old one stays")
		if err := g.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, 30*time.Second, "the reload is refused", func() bool { return strings.Count(g.Log(), "the old one stays") > before })
		if got := answer(); !strings.Contains(got, "5.7.1 old") {
			t.Errorf("%s: answer %q", name, got)
		}
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(strings.ReplaceAll(bad, "sendr", "sender"), "action =", "reply = \"550 5.7.1 new\"\naction =")), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := g.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 30*time.Second, "the new rule acts", func() bool { return strings.Contains(answer(), "5.7.1 new") })
}

// A rule puts senders on a list, which another one asks at RCPT; friends never
// get there. Somebody is told.
func TestRulesDynamicList(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	withRules(t, g, `
[list.friends]
type    = "domain"
entries = ["friend.test"]

[list.poisoners]
type    = "address"
dynamic = true
never   = ["friends"]

[[rule]]
name     = "remember"
when     = 'subject == "poison"'
action   = "discard"
list_add = { list = "poisoners", key = "sender", for = "1h" }
notify   = "security@example.com"

[[rule]]
name   = "poisoners"
stage  = "rcpt"
from   = "list:poisoners"
action = "reject"
reply  = "550 5.7.1 Not from you today"
`)
	testkit.Up(t, g)
	poison := letter(testkit.Message("p", "poison", "x"))
	sendWant(t, g.Addr, poison, testkit.Dot, 250)
	if r := testkit.Send(g.Addr, letter(testkit.Message("q", "clean", "x"))); r.Accepted() || !strings.Contains(r.Text(), "Not from you today") {
		t.Errorf("the poisoner's next mail: %v", r)
	}
	poison.From = "a@friend.test"
	sendWant(t, g.Addr, poison, testkit.Dot, 250)
	clean := letter(testkit.Message("c", "clean", "x"))
	clean.From = "a@friend.test"
	sendWant(t, g.Addr, clean, testkit.Dot, 250)
	testkit.Eventually(t, 60*time.Second, "two notices and the friend's mail arrive", func() bool { return len(sink.Mails()) == 3 })
	notices := 0
	for _, m := range sink.Mails() {
		if slices.Equal(mailboxes(m.To), []string{"security@example.com"}) && strings.HasPrefix(m.From, "<>") && strings.Contains(string(m.Data), "Rule remember matched") {
			notices++
		}
	}
	if notices != 2 {
		t.Errorf("%d notices, want 2", notices)
	}
	testkit.Eventually(t, 30*time.Second, "the store knows the entry", func() bool {
		return strings.Contains(command(t, g, 0, "state", "list").Stdout, "poisoners:s@sender.test")
	})
}
