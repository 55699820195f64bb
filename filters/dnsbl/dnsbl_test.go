package dnsbl

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"

	wire "github.com/miekg/dns"
)

// zones are lists with their test points, as the real ones have them.
var zones = []string{
	"2.0.0.127.zen.test. 60 IN A 127.0.0.2", "2.0.0.127.zen.test. 60 IN A 127.0.0.4", "2.0.0.127.zen.test. 60 IN A 127.0.0.10",
	"7.113.0.203.zen.test. 60 IN A 127.0.0.4", "7.113.0.203.zen.test. 60 IN A 127.0.0.10",
	`7.113.0.203.zen.test. 60 IN TXT "https://check.test/query/ip/203.0.113.7"`,
	"8.113.0.203.zen.test. 60 IN A 127.0.0.10",
	"9.113.0.203.zen.test. 60 IN A 127.255.255.254",
	"10.113.0.203.zen.test. 60 IN A 198.51.100.1",
	"11.113.0.203.zen.test. 60 IN A 127.0.0.2", "11.113.0.203.zen.test. 60 IN A 127.255.255.255",
	"12.113.0.203.zen.test. 60 IN A 127.0.0.9", `12.113.0.203.zen.test. 60 IN TXT "evil\013\010250 OK \027[31m" "more"`,
	"5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.zen.test. 60 IN A 127.0.0.2",
	"2.0.0.127.white.test. 60 IN A 127.0.0.2",
	"7.113.0.203.white.test. 60 IN A 127.0.1.3",
	"test.dbl.test. 60 IN A 127.0.1.2",
	"*.spammer.com.dbl.test. 60 IN A 127.0.1.2", "spammer.com.dbl.test. 60 IN A 127.0.1.2",
	"phish.co.uk.dbl.test. 60 IN A 127.0.1.4",
}

type counted struct {
	mu   sync.Mutex
	look map[string]int
	up   map[string]bool
}

func (c *counted) Look(list, result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look[list+" "+result]++
}

func (c *counted) ListUp(list string, up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.up[list] = up
}

type kit struct {
	*Filter
	server *dnstest.Server
	stats  *counted
	log    *strings.Builder
}

func prefixes(all ...string) (p []netip.Prefix) {
	for _, s := range all {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// lists are all that the zones above have.
func lists() map[string]List {
	return map[string]List{
		"zen.test": {Answers: prefixes("127.0.0.2/32", "127.0.0.4/30", "127.0.0.9/32"), Score: 4, Reject: true},
		"pbl":      {Zone: "zen.test", Answers: prefixes("127.0.0.10/31"), Score: 1.5},
		"white":    {Zone: "white.test", Answers: prefixes("127.0.0.0/16"), Score: 3, Allow: true},
		"dbl.test": {Asks: []Subject{Helo, Sender, Body}, Answers: prefixes("127.0.1.0/24"), Score: 2.5},
	}
}

// start is a filter that has the time that a busy machine may need.
func start(t *testing.T, all map[string]List, records ...string) *kit {
	t.Helper()
	return startWith(t, 20*time.Second, all, records...)
}

// startWith is a filter whose resolver waits so long for an answer.
func startWith(t *testing.T, patience time.Duration, all map[string]List, records ...string) *kit {
	t.Helper()
	server := dnstest.Start(t, append(slices.Clone(zones), records...)...)
	k := &kit{server: server, stats: &counted{look: map[string]int{}, up: map[string]bool{}}, log: new(strings.Builder)}
	cfg := DefaultConfig()
	cfg.Timeout, cfg.List = 60*time.Second, all
	var err error
	k.Filter, err = New(cfg, Deps{Resolver: resolver(t, server, patience), Stats: k.stats, Log: slog.New(slog.NewTextHandler(k.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func resolver(t *testing.T, server *dnstest.Server, patience time.Duration) *dns.Client {
	t.Helper()
	client, err := dns.NewClient(dns.ClientConfig{Servers: []string{server.Addr()}, Timeout: patience, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func from(addr, helo, sender string) *mail.Transaction {
	a, _ := mail.ParseAddress(sender, false)
	return &mail.Transaction{
		Stage:    mail.StageMail,
		Session:  &mail.Session{Client: netip.AddrPortFrom(netip.MustParseAddr(addr), 25000), Helo: helo, Via: mail.ViaSMTP},
		Envelope: mail.Envelope{Sender: mail.Path{Address: a}},
	}
}

// said prints findings as "name value score".
func said(r filters.Report, err error) string {
	if err != nil {
		return "error"
	}
	var all []string
	for _, f := range r.Findings {
		if f.Name == mail.FindingFailed {
			all = append(all, "failed "+f.Value)
			continue
		}
		all = append(all, fmt.Sprintf("%s %s %g", f.Name, f.Value, f.Score))
	}
	return strings.Join(all, ", ")
}

func TestAnswersOfRealLists(t *testing.T) {
	k := start(t, lists())
	for _, tt := range []struct{ name, addr, helo, sender, want string }{
		{"nowhere", "203.0.113.1", "mx.clean.org", "a@clean.org", ""},
		{"listed by codes of two lists of one zone, and on a white list", "203.0.113.7", "", "", "listed pbl 1.5, allowed white -3, denied zen.test 4"},
		{"listed by a code that has a list of its own", "203.0.113.8", "", "", "listed pbl 1.5"},
		{"an IPv6 address", "2001:db8:1::5", "", "", "denied zen.test 4"},
		{"an IPv4 address in an IPv6 one", "::ffff:203.0.113.8", "", "", "listed pbl 1.5"},
		{"a name below a listed one", "203.0.113.1", "mail7.spammer.com", "", "listed dbl.test 2.5"},
		{"the sender, by its registered domain", "203.0.113.1", "mx.clean.org", "a@x.phish.co.uk", "listed dbl.test 2.5"},
		{"both count once", "203.0.113.1", "spammer.com", "a@spammer.com", "listed dbl.test 2.5"},
		{"a literal is no name", "203.0.113.1", "[203.0.113.7]", "", ""},
		{"an address is no name", "203.0.113.1", "203.0.113.7", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := said(k.Check(t.Context(), from(tt.addr, tt.helo, tt.sender))); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if n := k.stats.look["zen.test listed"]; n != 2 {
		t.Errorf("zen.test listed = %d, want 2", n)
	}
}

func TestNotForOurs(t *testing.T) {
	k := start(t, lists())
	for name, change := range map[string]func(*mail.Session){
		"trusted": func(s *mail.Session) { s.Trusted = true },
		"user":    func(s *mail.Session) { s.User = "joe" },
		"window":  func(s *mail.Session) { s.Window = true },
		"unix":    func(s *mail.Session) { s.Client = netip.AddrPort{} },
		"local":   func(s *mail.Session) { s.Client = netip.MustParseAddrPort("127.0.0.1:99") },
	} {
		tx := from("203.0.113.7", "spammer.com", "a@spammer.com")
		change(tx.Session)
		if got := said(k.Check(t.Context(), tx)); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
	if asked := k.server.Asked(); len(asked) > 0 {
		t.Errorf("asked %q", asked)
	}
}

// A list that refuses, or is none any more, lists nobody and is switched off.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct{ name, addr, why string }{
		{"a public resolver", "203.0.113.9", "127.255.255.254: it refuses"},
		{"a wildcard of whoever has the domain now", "203.0.113.10", "198.51.100.1: this is no list"},
		{"a refusal beside a code", "203.0.113.11", "127.255.255.255: it refuses"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := start(t, map[string]List{"zen.test": lists()["zen.test"]})
			if got := said(k.Check(t.Context(), from(tt.addr, "", ""))); got != "error" {
				t.Errorf("got %q", got)
			}
			if got := said(k.Check(t.Context(), from("203.0.113.7", "", ""))); got != "" {
				t.Errorf("asked when it is off: %q", got)
			}
			if k.stats.up["zen.test"] || !strings.Contains(k.log.String(), tt.why) {
				t.Errorf("up = %v, log:\n%s", k.stats.up, k.log)
			}
		})
	}
}

func TestTestPoints(t *testing.T) {
	for _, tt := range []struct {
		name    string
		list    List
		records []string
		why     string // "": good
	}{
		{"as it is to be", List{Zone: "zen.test"}, nil, ""},
		{"a list of names", List{Zone: "dbl.test", Asks: []Subject{Sender}}, nil, ""},
		{"lists nothing", List{Zone: "empty.test"}, nil, "lists nothing"},
		{"lists everything", List{Zone: "all.test"}, []string{"*.all.test. 60 IN A 127.0.0.2"}, "lists everything"},
		{"has everything somewhere else", List{Zone: "park.test"}, []string{"*.park.test. 60 IN A 198.51.100.1"}, "no list any more"},
		{"refuses", List{Zone: "no.test"}, []string{"*.no.test. 60 IN A 127.255.255.254"}, "refuses our questions"},
		{"without a test point", List{Zone: "small.test", Test: "none"}, nil, ""},
		{"without one, lists everything", List{Zone: "all.test", Test: "none"}, []string{"*.all.test. 60 IN A 127.0.0.2"}, "lists everything"},
		{"a point of its own", List{Zone: "own.test", Test: "203.0.113.99"}, []string{"99.113.0.203.own.test. 60 IN A 127.0.0.2"}, ""},
		{"a name of its own", List{Zone: "own.test", Asks: []Subject{Body}, Test: "dbltest.com"}, []string{"dbltest.com.own.test. 60 IN A 127.0.1.2"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.list.Answers = prefixes("127.0.0.0/8")
			k := start(t, map[string]List{"l": tt.list}, tt.records...)
			ctx, stop := context.WithCancel(t.Context())
			var ran sync.WaitGroup
			ran.Go(func() { _ = k.Run(ctx) })
			eventually(t, func() bool { k.stats.mu.Lock(); defer k.stats.mu.Unlock(); _, known := k.stats.up["l"]; return known })
			stop()
			ran.Wait()
			if up := k.stats.up["l"]; up != (tt.why == "") || !strings.Contains(k.log.String(), tt.why) {
				t.Errorf("up = %v, log:\n%s", up, k.log)
			}
			if ok, _ := k.lists[0].known(); ok != (tt.why == "") {
				t.Errorf("asked: %v", ok)
			}
		})
	}
}

func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time")
		}
	}
}

// A list comes back when its test points are right again; one that nobody could
// test stays as it is known.
func TestBackAgain(t *testing.T) {
	k := start(t, map[string]List{"zen.test": lists()["zen.test"]})
	l := k.lists[0]
	now := time.Now()
	l.now = func() time.Time { return now }
	state := func() string { return said(k.Check(t.Context(), from("203.0.113.7", "", ""))) }
	if state() != "denied zen.test 4" {
		t.Fatal("not listed")
	}
	l.switchOff("for the test")
	l.testOnce(t.Context(), l.isDue)
	if state() != "" {
		t.Error("tested again before it was due")
	}
	now = now.Add(retryOff)
	l.testOnce(t.Context(), l.isDue)
	if state() != "denied zen.test 4" {
		t.Error("still off")
	}
	now = now.Add(time.Hour)
	k.server.Misbehave("2.0.0.127.zen.test", dnstest.Quirk{Rcode: wire.RcodeServerFailure})
	l.resolver = resolver(t, k.server, 20*time.Second) // that remembers nothing
	l.testOnce(t.Context(), l.isDue)
	if state() != "denied zen.test 4" {
		t.Errorf("a test without an answer switched it off:\n%s", k.log)
	}
}

// What does not answer costs no more than the timeout, and nobody's mail.
func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		name  string
		quirk dnstest.Quirk
	}{
		{"SERVFAIL", dnstest.Quirk{Rcode: wire.RcodeServerFailure}},
		{"REFUSED", dnstest.Quirk{Rcode: wire.RcodeRefused}},
		{"silence", dnstest.Quirk{Silent: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			all := lists()
			delete(all, "pbl")
			k := startWith(t, 500*time.Millisecond, all)
			if got := said(k.Check(t.Context(), from("203.0.113.1", "", ""))); got != "" {
				t.Fatal(got)
			}
			k.server.Misbehave("7.113.0.203.zen.test", tt.quirk)
			began := time.Now()
			if got := said(k.Check(t.Context(), from("203.0.113.7", "spammer.com", ""))); got != "listed dbl.test 2.5, allowed white -3, failed continue" {
				t.Errorf("got %q", got)
			}
			if took := time.Since(began); took > 10*time.Second { // the filter has 60
				t.Errorf("took %v", took)
			}
			for range patience {
				_, _ = k.Check(t.Context(), from("203.0.113.7", "", ""))
			}
			if got := said(k.Check(t.Context(), from("203.0.113.7", "", ""))); got != "allowed white -3" {
				t.Errorf("not left alone: %q", got)
			}
		})
	}
}

func TestDeadlineOfAll(t *testing.T) {
	k := start(t, lists())
	_, _ = k.Check(t.Context(), from("203.0.113.1", "", "")) // tested now
	k.Filter.cfg.Timeout = 50 * time.Millisecond
	k.server.Misbehave("", dnstest.Quirk{Silent: true})
	began := time.Now()
	if got := said(k.Check(t.Context(), from("203.0.113.7", "a.b.spammer.com", "x@spammer.com"))); got != "error" {
		t.Errorf("got %q", got)
	}
	if took := time.Since(began); took > 10*time.Second { // the resolver would wait for 20
		t.Errorf("took %v", took)
	}
}

func TestRemembered(t *testing.T) {
	k := start(t, lists())
	for range 5 {
		_, _ = k.Check(t.Context(), from("203.0.113.8", "mx.clean.org", "a@clean.org"))
	}
	seen := map[string]int{}
	for _, q := range k.server.Asked() {
		if seen[q]++; seen[q] > 1 {
			t.Errorf("%s was asked twice", q)
		}
	}
	if len(seen) < 5 {
		t.Errorf("asked %v", seen)
	}
}

func TestWordsOfAList(t *testing.T) {
	k := start(t, lists())
	for addr, want := range map[string]string{
		"203.0.113.7":  "client 203.0.113.7 is listed by zen.test (127.0.0.4): https://check.test/query/ip/203.0.113.7",
		"203.0.113.12": "client 203.0.113.12 is listed by zen.test (127.0.0.9): evil\\013\\010250 OK \\027[31mmore",
	} {
		r, err := k.Check(t.Context(), from(addr, "", ""))
		i := slices.IndexFunc(r.Findings, func(f mail.Finding) bool { return f.Name == mail.FindingDenied })
		if err != nil || i < 0 || r.Findings[i].Text != want {
			t.Errorf("%s: %+v, %v; want %q", addr, r.Findings, err, want)
		}
	}
	all := lists()
	own := all["zen.test"]
	own.Text = "go to https://mx.example.com/listed"
	k = start(t, map[string]List{"zen.test": own})
	r, err := k.Check(t.Context(), from("203.0.113.7", "", ""))
	if err != nil || len(r.Findings) != 1 || !strings.HasSuffix(r.Findings[0].Text, own.Text) {
		t.Errorf("%+v, %v", r.Findings, err)
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		list List
		want string
	}{
		{"good", List{Answers: prefixes("127.0.0.2/32")}, ""},
		{"no answers", List{}, "answers: is missing"},
		{"answers of nobody", List{Answers: prefixes("10.0.0.0/8")}, "not in 127.0.0.0/8"},
		{"answers that are all", List{Answers: prefixes("0.0.0.0/0")}, "not in 127.0.0.0/8"},
		{"negative", List{Answers: prefixes("127.0.0.2/32"), Score: -1}, "score: -1"},
		{"both", List{Answers: prefixes("127.0.0.2/32"), Allow: true, Reject: true}, "can't refuse"},
		{"zone", List{Answers: prefixes("127.0.0.2/32"), Zone: "a b"}, "is no zone"},
		{"test", List{Answers: prefixes("127.0.0.2/32"), Test: "a b"}, "neither an address nor a name"},
	} {
		cfg := DefaultConfig()
		cfg.List = map[string]List{"zen.test": tt.list}
		err := cfg.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if err := DefaultConfig().Validate(); err == nil {
		t.Error("no lists, no error")
	}
}
