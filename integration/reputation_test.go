package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// reputed is a gateway that looks at who sends, on one host, with a DNS of its
// own. It knows no user of these names: guess0, guess1, …
func reputed(t *testing.T, change func(*testkit.Config)) (*testkit.Gateway, *testkit.Sink) {
	t.Helper()
	dns, err := testkit.NewDNS(
		"2.0.0.127.zen.test. 60 IN A 127.0.0.2",
		"66.0.1.127.zen.test. 60 IN A 127.0.0.4", `66.0.1.127.zen.test. 60 IN TXT "https://zen.test/q/66"`,
		"2.0.0.127.white.test. 60 IN A 127.0.0.2", "67.0.1.127.white.test. 60 IN A 127.0.5.1", "67.0.1.127.zen.test. 60 IN A 127.0.0.4",
		"68.0.1.127.zen.test. 60 IN A 127.255.255.254",
		"test.dbl.test. 60 IN A 127.0.1.2", "spammer.com.dbl.test. 60 IN A 127.0.1.2",
	)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Up(t, dns)
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.plain, sink.Addr)
	access := filepath.Join(g.Dir, "access")
	var lines strings.Builder
	for i := range 40 {
		fmt.Fprintf(&lines, "To:guess%d@example.com\tERROR:5.1.1:550 User unknown\n", i)
	}
	lines.WriteString("ClientRate:127.1.0.99\t2\n")
	if err := os.WriteFile(access, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	c := &g.Config
	c.Set("relay", "access", fmt.Sprintf("%q", access))
	c.Set("dns", "servers", fmt.Sprintf("[%q]", dns.Addr))
	c.Set("filter.dnsbl", "timeout", `"2s"`)
	c.Set(`filter.dnsbl.list."zen.test"`, "answers", `["127.0.0.2/31", "127.0.0.4/30"]`)
	c.Set(`filter.dnsbl.list."zen.test"`, "reject", "true")
	c.Set(`filter.dnsbl.list."white.test"`, "answers", `["127.0.0.0/16"]`)
	c.Set(`filter.dnsbl.list."white.test"`, "allow", "true")
	c.Set(`filter.dnsbl.list."dbl.test"`, "answers", `["127.0.1.0/24"]`)
	c.Set(`filter.dnsbl.list."dbl.test"`, "asks", `["sender", "body"]`)
	c.Set(`filter.dnsbl.list."dbl.test"`, "score", "20")
	c.Set("filter.client", "helo_no_dot", "6")
	if change != nil {
		change(c)
	}
	return testkit.Up(t, g), sink
}

func epistle(client, id string, to ...string) testkit.Letter {
	return testkit.Letter{From: "s@sender.test", To: to, Helo: "mx.sender.test", Client: client, Data: testkit.Message(id, "hello", "text")}
}

// Lists, greylisting, limits of the access map and odd clients, each with the
// words that a client hears.
func TestReputation(t *testing.T) {
	t.Parallel()
	g, sink := reputed(t, func(c *testkit.Config) {
		c.Set("filter.rates", "timeout", `"3s"`)
		c.Set("filter.greylist", "delay", `"1s"`)
		c.Set("filter.greylist", "networks", `["127.1.0.0/24"]`)
	})
	hears := func(l testkit.Letter, want string) testkit.Result {
		t.Helper()
		r := testkit.Send(g.Addr, l)
		if !strings.HasPrefix(r.String(), want) {
			t.Errorf("%s to %v: %s, want %s", l.Client, l.To, r, want)
		}
		return r
	}
	hears(epistle("127.1.0.66", "r1", "u@example.com"), "RCPT: 550 5.7.1 Service unavailable; client 127.1.0.66 is listed by zen.test (127.0.0.4): https://zen.test/q/66")
	hears(epistle("127.1.0.66", "r2", "postmaster@example.com"), ".: 250")
	hears(epistle("127.1.0.67", "r3", "u@example.com"), ".: 250") // on the white list, too
	hears(epistle("127.0.0.9", "r4", "x@elsewhere.test"), "RCPT: 550")

	l := epistle("127.1.0.1", "r5", "u@example.com")
	l.From = "s@news.spammer.com"
	hears(l, ".: 550 5.7.1 Message refused: it looks like spam")
	l = epistle("127.1.0.1", "r6", "u@example.com")
	l.Data = testkit.Message("r6", "hello", "see https://www.spammer.com/x")
	hears(l, ".: 550 5.7.1 Message refused: it looks like spam")
	l = epistle("127.1.0.1", "r7", "u@example.com")
	l.Helo = "localhost"
	hears(l, ".: 250")

	first := hears(epistle("127.1.1.1", "r8", "u@example.com"), "RCPT: 450 4.2.0 Greylisted, please try again in ")
	if first.Stage == "RCPT" {
		testkit.Eventually(t, 60*time.Second, "it may come again", func() bool {
			return testkit.Send(g.Addr, epistle("127.1.1.77", "r8", "u@example.com")).Accepted()
		})
	}
	for i, want := range []string{".: 250", ".: 250", "BANNER: 421 4.3.2 Connection rate limit exceeded."} {
		if i == 2 {
			want = testkit.Banner + want[len("BANNER"):]
		}
		hears(epistle("127.1.0.99", fmt.Sprint("r9-", i), "u@example.com"), want)
	}

	// A refusal of the list is no statement about the client, and switches it off.
	hears(epistle("127.1.0.68", "r10", "u@example.com"), ".: 250")
	hears(epistle("127.1.0.66", "r11", "u@example.com"), ".: 250")
	_, metrics, err := g.Get("/metrics")
	if err != nil || !strings.Contains(metrics, `gatepost_dnsbl_list_up{list="zen.test"} 0`) || !strings.Contains(metrics, `gatepost_dnsbl_list_up{list="white.test"} 1`) {
		t.Errorf("%v\n%s", err, grep(metrics, "dnsbl"))
	}
	if !strings.Contains(g.Log(), "DNS list is switched off") {
		t.Error("the log does not say that the list is off")
	}
	tagged := 0
	for _, m := range sink.Wait(8, 10*time.Second) {
		if strings.Contains(string(m.Data), "X-Spam-Flag: YES") {
			tagged++
		}
	}
	if tagged != 1 { // HELO localhost
		t.Errorf("%d messages with X-Spam-Flag, want 1", tagged)
	}
}

// grep has the lines of a text with a word in them.
func grep(text, word string) string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

// The same for an MTA that asks.
func TestReputationForAnMTA(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(testkit.Dir(t), "milter.socket")
	g, _ := reputed(t, func(c *testkit.Config) {
		c.Set("milter.mta", "socket", fmt.Sprintf("%q", "unix:"+socket))
		c.Set("filter.greylist", "delay", `"1h"`)
	})
	for _, tt := range []struct {
		client string
		code   int
		says   string
	}{
		{"127.1.0.66", 1, "550 5.7.1 Service unavailable; client 127.1.0.66 is listed by zen.test"},
		{"127.1.0.7", 75, "450 4.2.0 Greylisted, please try again in 1h"},
		{"127.1.0.67", 0, ""},
	} {
		res, err := g.RunInput(nil, "milter", "test", "--to", "unix:"+socket, "--client", tt.client, "--rcpt", "u@example.com")
		if err != nil || res.Code != tt.code || !strings.Contains(res.Stdout, tt.says) {
			t.Errorf("%s: exit %d, %v, want %d and %q\n%s%s", tt.client, res.Code, err, tt.code, tt.says, res.Stdout, res.Stderr)
		}
	}
}

// onrush is what became of many connections.
type onrush struct{ served, refused, failed atomic.Int64 }

func (f *onrush) String() string {
	return fmt.Sprintf("%d served, %d put off, %d failed", f.served.Load(), f.refused.Load(), f.failed.Load())
}

// knock connects, says hello, and does what is given with a connection that is
// served.
func (f *onrush) knock(addr, client string, then func(*testkit.Client)) {
	c, err := testkit.DialFrom(client, addr)
	if err != nil {
		f.failed.Add(1)
		return
	}
	defer c.Close()
	r, err := c.Read()
	switch {
	case err != nil:
		f.failed.Add(1)
	case r.Code == 421:
		f.refused.Add(1)
	case r.Code != 220:
		f.failed.Add(1)
	default:
		f.served.Add(1)
		if _, err := c.Cmd("EHLO mx.sender.test"); err == nil && then != nil {
			then(c)
		}
	}
}

// each runs f for the numbers below n, some at a time.
func each(n, atOnce int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// A flood of connections and one of guesses, each from many addresses, while
// others send their mail: the floods are slowed and listed, the others unharmed.
func TestFloods(t *testing.T) {
	t.Parallel()
	g, sink := reputed(t, func(c *testkit.Config) {
		c.Set("filter.rates.client", "connections", `"10/1m"`)
		c.Set("filter.rates.client", "concurrent", "5")
		c.Set("filter.blocklist", "unknown_users", "10")
		c.Set("filter.blocklist", "window", `"1m"`)
		c.Set("filter.blocklist", "block_for", `"10m"`)
		c.Set("filter.greylist", "delay", `"1s"`)
		c.Set("filter.greylist", "auto_allow", "2")
	})
	const honest, letters = 10, 6
	host := func(i int) string { return fmt.Sprintf("127.2.0.%d", i+1) }
	for i := range 2 { // their network is known
		l := epistle(host(200+i), fmt.Sprint("k", i), fmt.Sprintf("k%d@example.com", i))
		if r := testkit.Send(g.Addr, l); r.Code != 450 {
			t.Errorf("first heard %s", r)
		}
		began := time.Now()
		testkit.Eventually(t, 60*time.Second, "known", func() bool {
			return time.Since(began) > 1100*time.Millisecond && testkit.Send(g.Addr, l).Accepted()
		})
	}

	// Each honest host sends while both floods run.
	var floods sync.WaitGroup
	var knocks, guesses onrush
	began := time.Now()
	floods.Go(func() {
		each(30*50, 40, func(i int) { knocks.knock(g.Addr, fmt.Sprintf("127.3.0.%d", i%30+1), nil) })
	})
	floods.Go(func() {
		each(20*6, 20, func(i int) {
			guesses.knock(g.Addr, fmt.Sprintf("127.4.0.%d", i%20+1), func(c *testkit.Client) {
				_, _ = c.Cmd("MAIL FROM:<s@sender.test>")
				for n := range 5 {
					_, _ = c.Cmd(fmt.Sprintf("RCPT TO:<guess%d@example.com>", (i+n)%40))
				}
			})
		})
	})
	var took []time.Duration
	var mu sync.Mutex
	lost := 0
	each(honest*letters, honest, func(i int) {
		start := time.Now()
		r := testkit.Send(g.Addr, epistle(host(i%honest), fmt.Sprint("h", i), "u@example.com"))
		mu.Lock()
		defer mu.Unlock()
		took = append(took, time.Since(start))
		if !r.Accepted() {
			lost++
			t.Errorf("an honest host heard %s", r)
		}
	})
	floods.Wait()
	slices.Sort(took)
	t.Logf("in %v: connections: %v; guesses: %v; honest: %d of %d taken, median %v, longest %v",
		time.Since(began).Round(time.Millisecond), &knocks, &guesses, honest*letters-lost, honest*letters, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	sink.Wait(honest*letters+2-lost, 10*time.Second)

	if served := knocks.served.Load(); served > 30*14 || knocks.refused.Load() < 30*50/2 { // 10 at once, and some more as time goes by
		t.Errorf("connections: %v", &knocks)
	}
	var blocked testkit.CLIResult
	testkit.Eventually(t, 60*time.Second, "all who guess are listed", func() bool {
		blocked = command(t, g, 0, "state", "block", "list", "--json")
		return strings.Count(blocked.Stdout, `"127.4.0.`) == 20
	})
	if strings.Contains(blocked.Stdout, "127.2.0.") || strings.Contains(blocked.Stdout, "127.3.0.") || !strings.Contains(blocked.Stdout, "unknown-user: 1") {
		t.Errorf("blocked:\n%s", blocked.Stdout)
	}
	refused := testkit.Send(g.Addr, epistle("127.4.0.1", "b1", "u@example.com"))
	if refused.Code != 421 || !strings.Contains(refused.Text(), "Too much unwanted mail") {
		t.Errorf("who is blocked heard %s", refused)
	}
	command(t, g, 0, "state", "block", "drop", "127.4.0.1")
	if r := testkit.Send(g.Addr, epistle("127.4.0.1", "b2", "u@example.com")); r.Code == 421 {
		t.Errorf("who is not blocked any more heard %s", r)
	}
}
