package forward

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
)

// resolver asks a server in a test.
func resolver(t testing.TB, s *dnstest.Server) *dns.Client {
	t.Helper()
	c, err := dns.NewClient(dns.ClientConfig{Servers: []string{s.Addr()}, TrustedAD: true, Timeout: time.Second, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mxForwarder delivers everything by MX, to ports of a test.
func mxForwarder(t testing.TB, s *dnstest.Server, port int, change func(*Config)) *Forwarder {
	t.Helper()
	r := quick("mx")
	r.ConnectTimeout = 2 * time.Second
	cfg := Config{
		Hostname: "mx.example.net", Resolver: resolver(t, s), Routes: map[string]Route{".": r},
		Routing: Routing{MXPort: port, MXLoopback: true},
	}
	if change != nil {
		change(&cfg)
	}
	f, err := New(cfg, quietLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// startPeersAt starts peers on one port of several addresses of loopback.
func startPeersAt(t testing.TB, addrs ...string) (port int, peers map[string]*peer) {
	t.Helper()
	for range 50 {
		peers = make(map[string]*peer)
		port = 0
		for _, a := range addrs {
			ln, err := net.Listen("tcp", net.JoinHostPort(a, strconv.Itoa(port)))
			if err != nil {
				break
			}
			port = ln.Addr().(*net.TCPAddr).Port
			peers[a] = startPeerOn(t, ln, &peer{offers: allOffers})
		}
		if len(peers) == len(addrs) {
			return port, peers
		}
	}
	t.Fatal("no port that is free at all addresses")
	return 0, nil
}

func destOf(t testing.TB, f *Forwarder, rcpt string) string {
	t.Helper()
	dest, ok := f.Route(mailPath(t, rcpt).Address)
	if !ok {
		t.Fatalf("no route to %s", rcpt)
	}
	return dest
}

func deliverTo(t testing.TB, f *Forwarder, rcpts ...string) []mail.Outcome {
	t.Helper()
	env := envelope(t, rcpts...)
	return f.Deliver(t.Context(), destOf(t, f, rcpts[0]), mail.Facts{ID: "TESTID"}, env, hello)
}

// TestMX delivers over real sockets to what a real DNS server says.
func TestMX(t *testing.T) {
	port, peers := startPeersAt(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	s := dnstest.Start(t,
		"simple.test. 300 IN MX 10 one.test.", "one.test. 300 IN A 127.0.0.1",
		"two.test. 300 IN A 127.0.0.2", "three.test. 300 IN A 127.0.0.3",
		"order.test. 300 IN MX 20 one.test.", "order.test. 300 IN MX 10 two.test.",
		"failover.test. 300 IN MX 10 dead.test.", "failover.test. 300 IN MX 20 three.test.", "dead.test. 300 IN A 127.0.0.9",
		"implicit.test. 300 IN A 127.0.0.2",
		"alias.test. 300 IN CNAME simple.test.",
		"mxalias.test. 300 IN MX 10 hostalias.test.", "hostalias.test. 300 IN CNAME three.test.",
		"null.test. 300 IN MX 0 .",
		"almostnull.test. 300 IN MX 0 .", "almostnull.test. 300 IN MX 10 one.test.",
		"self.test. 300 IN MX 10 MX.example.NET.", "self.test. 300 IN MX 20 one.test.",
		"backup.test. 300 IN MX 5 two.test.", "backup.test. 300 IN MX 10 mx.example.net.", "backup.test. 300 IN MX 10 one.test.", "backup.test. 300 IN MX 20 three.test.",
		"nohosts.test. 300 IN MX 10 nothing.test.", "nohosts.test. 300 IN MX 20 empty.test.", "empty.test. 300 IN TXT x",
		"onlytext.test. 300 IN TXT x",
		"forbidden.test. 300 IN MX 10 zero.test.", "zero.test. 300 IN A 0.0.0.0", "zero.test. 300 IN AAAA ::", "zero.test. 300 IN A 224.0.0.1", "zero.test. 300 IN A 255.255.255.255", "zero.test. 300 IN AAAA fe80::1", "zero.test. 300 IN AAAA ::ffff:0.0.0.0",
		"broken.test. 300 IN MX 10 one.test.", "brokenhost.test. 300 IN MX 10 servfail.test.", "servfail.test. 300 IN A 127.0.0.1",
		"halfbroken.test. 300 IN MX 10 servfail.test.", "halfbroken.test. 300 IN MX 20 two.test.",
		"silent.test. 300 IN MX 10 one.test.",
		"*.wild.test. 300 IN MX 10 one.test.",
		"xn--bcher-kva.test. 300 IN MX 10 one.test.",
		"families.test. 300 IN MX 10 both.test.", "both.test. 300 IN AAAA 2001:db8::1", "both.test. 300 IN A 127.0.0.3",
	)
	s.Misbehave("broken.test.", dnstest.Quirk{Rcode: wire.RcodeServerFailure})
	s.Misbehave("servfail.test.", dnstest.Quirk{Rcode: wire.RcodeServerFailure})
	s.Misbehave("silent.test.", dnstest.Quirk{Silent: true})
	f := mxForwarder(t, s, port, nil)
	tests := []struct{ rcpt, want, host string }{
		{"a@simple.test", sent, "127.0.0.1"},
		{"a@SIMPLE.test", sent, "127.0.0.1"},
		{"a@order.test", sent, "127.0.0.2"},
		{"a@failover.test", sent, "127.0.0.3"},
		{"a@implicit.test", sent, "127.0.0.2"},
		{"a@alias.test", sent, "127.0.0.1"},
		{"a@mxalias.test", sent, "127.0.0.3"},
		{"a@null.test", "bounced 556 5.1.10 the domain null.test takes no mail (null MX)", ""},
		{"a@almostnull.test", sent, "127.0.0.1"},
		{"a@self.test", "bounced 554 5.4.6 mail for self.test would come back…", ""},
		{"a@backup.test", sent, "127.0.0.2"},
		{"a@nohosts.test", "bounced 550 5.4.4 the domain nohosts.test has no mail host with a usable address", ""},
		{"a@onlytext.test", "bounced 550 5.4.4 the domain onlytext.test has no mail host…", ""},
		{"a@forbidden.test", "bounced 550 5.4.4 the domain forbidden.test has no mail host…", ""},
		{"a@nosuch.test", "bounced 550 5.1.2 the domain nosuch.test does not exist", ""},
		{"a@broken.test", "deferred 451 4.4.3 the MX records of broken.test can't be found out…", ""},
		{"a@brokenhost.test", "deferred 451 4.4.3 the mail hosts of brokenhost.test can't be found out…", ""},
		{"a@halfbroken.test", sent, "127.0.0.2"},
		{"a@silent.test", "deferred 451 4.4.3 the MX records of silent.test can't be found out…", ""},
		{"a@any.wild.test", sent, "127.0.0.1"},
		{"a@bücher.test", sent, "127.0.0.1"},
		{"a@families.test", sent, "127.0.0.3"},
		{"a@[127.0.0.2]", sent, "127.0.0.2"},
		{"a@[0.0.0.0]", "bounced 550 5.4.4 mail for [0.0.0.0] can't be delivered", ""},
	}
	for _, tt := range tests {
		t.Run(tt.rcpt, func(t *testing.T) {
			before := make(map[string]int)
			for a, p := range peers {
				before[a] = len(p.got())
			}
			outs := deliverTo(t, f, tt.rcpt)
			check(t, outs, tt.want)
			for a, p := range peers {
				if got := len(p.got()) - before[a]; got != 0 != (a == tt.host) {
					t.Errorf("%s got %d messages", a, got)
				}
			}
			if tt.host != "" && !strings.Contains(outs[0].Remote, "["+tt.host+"]:"+strconv.Itoa(port)) {
				t.Errorf("remote %q", outs[0].Remote)
			}
		})
	}
}

// TestMXDestinations: each domain is a destination, hosts and connections are shared.
func TestMXDestinations(t *testing.T) {
	port, peers := startPeersAt(t, "127.0.0.1")
	s := dnstest.Start(t, "a.test. 300 IN MX 10 mx.test.", "b.test. 300 IN MX 10 mx.test.", "mx.test. 300 IN A 127.0.0.1")
	f := mxForwarder(t, s, port, func(c *Config) {
		c.Routes["via.test"] = Route{To: []string{"mx:a.test"}, TLS: TLSNone}
		c.Routes["fixed.test"] = Route{To: []string{"smtp://127.0.0.1"}}
		c.Routes["own.test"] = Route{To: []string{"smtp://127.0.0.1"}, Group: "customers"}
	})
	for rcpt, want := range map[string]string{
		"x@a.test": ". a.test", "x@B.test.": ". b.test", "x@bücher.test": ". xn--bcher-kva.test", "x@via.test": "via.test", "x@fixed.test": "fixed.test",
	} {
		if got := destOf(t, f, rcpt); got != want {
			t.Errorf("%s: destination %q, want %q", rcpt, got, want)
		}
	}
	for dest, want := range map[string]string{". a.test": "remote", "via.test": "remote", "fixed.test": "internal", "own.test": "customers", "gone.test": "", ". ": "", ".": ""} {
		if got := f.Group(dest); got != want {
			t.Errorf("group of %q is %q, want %q", dest, got, want)
		}
	}
	check(t, deliverTo(t, f, "x@a.test"), sent)
	check(t, deliverTo(t, f, "x@b.test"), sent)
	if n := len(peers["127.0.0.1"].commands()); n != 1 {
		t.Errorf("%d connections for two domains at one host, want 1", n)
	}
	out := f.Deliver(t.Context(), ".", mail.Facts{}, envelope(t, "x@a.test"), hello) // of another configuration
	check(t, out, "deferred 451 4.4.4 no route .")
}

// TestMXLoopback: what a stranger's zone says of 127.0.0.1 is not for us.
func TestMXLoopback(t *testing.T) {
	port, peers := startPeersAt(t, "127.0.0.1")
	s := dnstest.Start(t, "evil.test. 300 IN MX 10 evil.test.", "evil.test. 300 IN A 127.0.0.1", "evil.test. 300 IN AAAA ::1", "evil.test. 300 IN AAAA ::ffff:127.0.0.1")
	f := mxForwarder(t, s, port, func(c *Config) { c.Routing.MXLoopback = false })
	check(t, deliverTo(t, f, "a@evil.test"), "bounced 550 5.4.4 the domain evil.test has no mail host with a usable address")
	check(t, deliverTo(t, f, "a@[127.0.0.1]"), "bounced 550 5.4.4 mail for [127.0.0.1] can't be delivered")
	check(t, deliverTo(t, f, "a@[IPv6:::1]"), "bounced 550 5.4.4…")
	if n := len(peers["127.0.0.1"].commands()); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// TestMXOrder: preference first, equals as drawn, and no end of hosts.
func TestMXOrder(t *testing.T) {
	var records []string
	for i := range 40 {
		records = append(records, fmt.Sprintf("many.test. 300 IN MX 10 h%d.test.", i), fmt.Sprintf("h%d.test. 300 IN A 192.0.2.%d", i, i+1))
	}
	records = append(records, "two.test. 300 IN MX 10 h1.test.", "two.test. 300 IN MX 10 h2.test.", "two.test. 300 IN MX 20 h3.test.",
		"own.test. 300 IN MX 10 h1.test.", "own.test. 300 IN MX 20 h7.test.", "own.test. 300 IN MX 30 h3.test.",
		"allown.test. 300 IN MX 10 h7.test.")
	s := dnstest.Start(t, records...)
	s.Secure(true)
	s.Misbehave("h2.test.", dnstest.Quirk{Insecure: true})
	own := netip.MustParseAddr("192.0.2.8")
	e := exchange{resolver: resolver(t, s), hostname: "mx.example.net", own: func() []netip.Addr { return []netip.Addr{own} }}
	hosts := func(domain string) (names []string, why *failure) {
		places, why := e.places(t.Context(), domain)
		for _, p := range places {
			names = append(names, p.host)
		}
		return names, why
	}
	firsts := make(map[string]bool)
	for range 50 {
		got, _ := hosts("two.test")
		if len(got) != 3 || got[2] != "h3.test" {
			t.Fatalf("order %v", got)
		}
		firsts[got[0]] = true
	}
	if len(firsts) != 2 {
		t.Errorf("of two equals %v came first in 50 draws", firsts)
	}
	if got, _ := hosts("many.test"); len(got) > maxTries {
		t.Errorf("%d hosts are tried", len(got))
	}
	if got, _ := hosts("own.test"); !slices.Equal(got, []string{"h1.test"}) {
		t.Errorf("with our own address among them: %v, want only the better one", got)
	}
	if _, why := hosts("allown.test"); why == nil || why.reply.Detail != "4.6" || !why.final {
		t.Errorf("only we ourselves: %v", why)
	}
	places, _ := e.places(t.Context(), "two.test")
	for _, p := range places {
		if p.secure != (p.host != "h2.test") {
			t.Errorf("%s: secure = %v", p.host, p.secure)
		}
	}
}

// TestTargets: what stands in To leads where it should.
func TestTargets(t *testing.T) {
	port, peers := startPeersAt(t, "127.0.0.1", "127.0.0.2")
	one, two := fmt.Sprintf("smtp://127.0.0.1:%d", port), fmt.Sprintf("smtp://[127.0.0.2]:%d", port)
	s := dnstest.Start(t, "x.test. 300 IN MX 10 nobody.test.", "nobody.test. 300 IN A 127.0.0.9", "x2.test. 300 IN A 127.0.0.2", "null.test. 300 IN MX 0 .")
	f := mxForwarder(t, s, port, func(c *Config) {
		fallback := quick("mx", one)
		c.Routes["."] = fallback
		c.Routes["robin.test"] = Route{To: []string{one, two}, TLS: TLSNone, Balance: RoundRobin}
		c.Routes["other.test"] = Route{To: []string{"mx:x2.test"}, TLS: TLSNone}
		c.Routes["closed.test"] = Route{To: []string{"error:5.7.1:550 closed for good"}}
		c.Routes["later.test"] = Route{To: []string{"error:tempfail:come again"}}
	})
	check(t, deliverTo(t, f, "a@x.test"), sent) // its hosts are dead: the fallback
	check(t, deliverTo(t, f, "a@nosuch.test"), sent)
	if n := len(peers["127.0.0.1"].got()); n != 2 {
		t.Errorf("the fallback has %d messages, want 2", n)
	}
	check(t, deliverTo(t, f, "a@null.test"), "bounced 556 5.1.10…") // whoever delivers it
	check(t, deliverTo(t, f, "a@other.test"), sent)
	if n := len(peers["127.0.0.2"].got()); n != 1 {
		t.Errorf("the MX of another domain has %d messages, want 1", n)
	}
	for range 6 {
		check(t, deliverTo(t, f, "a@robin.test"), sent)
	}
	if a, b := len(peers["127.0.0.1"].got())-2, len(peers["127.0.0.2"].got())-1; a != 3 || b != 3 {
		t.Errorf("round robin: %d and %d", a, b)
	}
	peers["127.0.0.2"].stop()
	for range 4 {
		check(t, deliverTo(t, f, "a@robin.test"), sent)
	}
	check(t, deliverTo(t, f, "a@closed.test"), "bounced 550 5.7.1 closed for good")
	check(t, deliverTo(t, f, "a@later.test"), "deferred 451 4.3.0 come again")
	if r := f.Refusal(mailPath(t, "a@closed.test").Address); r.Code != 550 {
		t.Errorf("refusal %v", r)
	}
	if r := f.Refusal(mailPath(t, "a@x.test").Address); !r.IsZero() {
		t.Errorf("refusal %v", r)
	}
}

// TestLoop: a message that came through us again and again goes no further.
func TestLoop(t *testing.T) {
	p := startPeer(t, &peer{})
	f := newForwarder(t, quick(p.url()))
	ours := "Received: from a (b [192.0.2.1])\r\n\tby MX.example.NET (Gatepost) with ESMTP id X; date\r\n"
	others := strings.Repeat("Received: from a by mx.example.org; date\r\nReceived: by notmx.example.net; x\r\n", 30)
	for n, want := range map[int]string{mail.MaxPasses: sent, mail.MaxPasses + 1: "bounced 554 5.4.6 the message has come through…"} {
		m := text(strings.Repeat(ours, n) + others + "Subject: x\r\n\r\n" + strings.Repeat(ours, 10))
		check(t, deliver(t, f, envelope(t, "a@example.com"), m), want)
	}
	env := envelope(t, "a@example.com")
	env.Sender = mailPath(t, "bounces+x=y@list.example")
	check(t, deliver(t, f, env, hello), sent)
	if got := p.got(); got[len(got)-1].from != "<bounces+x=y@list.example>" {
		t.Errorf("the return path became %q", got[len(got)-1].from)
	}
}

// TestManyHostsAreForgotten: mail to ever new hosts does not fill the memory.
func TestManyHostsAreForgotten(t *testing.T) {
	f := newForwarder(t, quick("smtp://127.0.0.1:1"))
	table := f.current.Load()
	s, _ := quick("mx").settings()
	for i := range 3 * maxHosts {
		table.giveBack([]hop{{host: table.use(endpoint{network: "tcp", name: fmt.Sprintf("h%d.test", i), port: "25"}, s)}})
	}
	if n := len(table.hosts); n > maxHosts+1 {
		t.Errorf("%d hosts are remembered", n)
	}
	held := table.use(endpoint{network: "tcp", name: "held.test", port: "25"}, s)
	for i := range 2 * maxHosts {
		table.giveBack([]hop{{host: table.use(endpoint{network: "tcp", name: fmt.Sprintf("g%d.test", i), port: "25"}, s)}})
	}
	if again := table.use(endpoint{network: "tcp", name: "held.test", port: "25"}, s); again != held {
		t.Error("a host in use was forgotten")
	}
}

func TestNoResolver(t *testing.T) {
	r := quick("mx")
	f := newForwarder(t, r)
	out := f.Deliver(context.Background(), ". x.test", mail.Facts{}, envelope(t, "a@x.test"), hello)
	check(t, out, "deferred 451 4.4.3 the mail hosts of x.test can't be found out: there is no resolver")
}
