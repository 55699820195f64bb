package proxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func mayXclient(c *Config, _ *gate) {
	c.XClient = prefixes("127.0.0.0/8")
	c.Trusted = prefixes("127.0.0.0/8", "10.0.0.0/8")
}

func TestXclient(t *testing.T) {
	tests := []struct {
		name, arg string
		want      mail.Session
	}{
		{"all", "NAME=spike.example.org ADDR=192.0.2.7 PORT=4711 PROTO=ESMTP HELO=spike.example LOGIN=joe",
			mail.Session{Name: "spike.example.org", Resolve: mail.ResolveOK, Client: netip.MustParseAddrPort("192.0.2.7:4711"), User: "joe", AuthMech: "XCLIENT"}},
		{"xtext, any case", "name=spike+2Eexample.org addr=192.0.2.7",
			mail.Session{Name: "spike.example.org", Resolve: mail.ResolveOK, Client: netip.MustParseAddrPort("192.0.2.7:0")}},
		{"IPv6", "ADDR=IPV6:2001:db8::7 NAME=[UNAVAILABLE]",
			mail.Session{Resolve: mail.ResolveFail, Client: netip.MustParseAddrPort("[2001:db8::7]:0")}},
		{"the name is looked up later", "NAME=[TEMPUNAVAIL] ADDR=192.0.2.7 LOGIN=[UNAVAILABLE]",
			mail.Session{Resolve: mail.ResolveTemp, Client: netip.MustParseAddrPort("192.0.2.7:0")}},
		{"one of ours", "ADDR=10.1.2.3 NAME=[UNAVAILABLE]",
			mail.Session{Resolve: mail.ResolveFail, Client: netip.MustParseAddrPort("10.1.2.3:0"), Trusted: true}},
		{"nobody knows", "ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] NAME=[UNAVAILABLE]",
			mail.Session{Resolve: mail.ResolveFail, Client: netip.MustParseAddrPort("127.0.0.1:0")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate(t, mayXclient)
			seen := g.facts()
			g.run()
			c := g.greeted()
			if ext := c.do("EHLO proxy.example", "250"); !strings.Contains(ext, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN") {
				t.Errorf("EHLO: %q", ext)
			}
			c.do("XCLIENT "+tt.arg, "220 mx1.b.example ESMTP")
			s := sessionOf(t, seen)
			want := tt.want
			if s.Name != want.Name || s.Resolve != want.Resolve || s.Client != want.Client || s.Trusted != want.Trusted || s.User != want.User || s.AuthMech != want.AuthMech || s.Proxied.String() != "127.0.0.1" {
				t.Errorf("session %+v\nwant %+v", s, want)
			}
			if g.handler.count("connect") != 2 || g.handler.count("close") != 1 {
				t.Errorf("asked %v", g.handler.calls)
			}
		})
	}
}

// The session begins again: what was said before counts no more, and the next
// command must be a greeting unless the peer has given the client's.
func TestXclientBeginsAgain(t *testing.T) {
	g := start(t, mayXclient)
	c := g.hello()
	c.do("XCLIENT ADDR=192.0.2.7 NAME=[UNAVAILABLE]", "220")
	c.do("MAIL FROM:<s@a.example>", "503")
	c.do("XCLIENT ADDR=192.0.2.8 NAME=[UNAVAILABLE] HELO=client.example PROTO=ESMTP LOGIN=joe", "220")
	c.do("MAIL FROM:<s@a.example>", "250")
	c.do("RCPT TO:<u@b.example>", "250")
	c.do("XCLIENT ADDR=192.0.2.9", "503")
	c.do("DATA", "354")
	c.do("Subject: x\r\n\r\nx\r\n.", "250")
	c.do("XCLIENT ADDR=192.0.2.9 NAME=nine.example", "220")
	c.do("EHLO nine.example", "250")
	c.do("MAIL FROM:<s@a.example>", "250")
	c.do("RCPT TO:<u@b.example>", "250")
	c.do("DATA", "354")
	c.do("Subject: y\r\n\r\ny\r\n.", "250")
	m := g.store.messages()
	if len(m) != 2 {
		t.Fatalf("%d messages", len(m))
	}
	for i, want := range []struct{ received, user string }{
		{"from client.example (unknown [192.0.2.8]) by mx1.b.example (Gatepost) with ESMTPA", "joe"},
		{"from nine.example (nine.example [192.0.2.9]) by mx1.b.example (Gatepost) with ESMTP id", ""},
	} {
		h := strings.Join(strings.Fields(string(m[i].Header)), " ")
		if !strings.Contains(h, want.received) || m[i].User != want.user {
			t.Errorf("message %d: user %q, header %s", i, m[i].User, h)
		}
	}
}

func TestXclientRefused(t *testing.T) {
	tests := []struct{ name, arg string }{
		{"nothing", ""},
		{"no value", "ADDR"},
		{"an empty value", "ADDR="},
		{"twice", "ADDR=192.0.2.7 ADDR=10.1.2.3"},
		{"an unknown attribute", "ADDR=192.0.2.7 TRUSTED=yes"},
		{"of the other side", "DESTADDR=192.0.2.7"},
		{"no address", "ADDR=localhost"},
		{"IPv6 without its tag", "ADDR=2001:db8::7"},
		{"IPv4 with the tag", "ADDR=IPV6:10.1.2.3"},
		{"an address with a zone", "ADDR=IPV6:fe80::1%eth0"},
		{"nobody's address", "ADDR=0.0.0.0"},
		{"a network", "ADDR=10.0.0.0/8"},
		{"bad xtext", "NAME=spike+2eexample"},
		{"a line end in a name", "NAME=a+0D+0AMAIL"},
		{"a literal for a name", "NAME=[10.1.2.3]"},
		{"no domain", "NAME=a..b"},
		{"a port too large", "PORT=65536"},
		{"another protocol", "PROTO=HTTP"},
		{"an endless user", "LOGIN=" + strings.Repeat("x", 256)},
	}
	g := newGate(t, func(c *Config, g *gate) { mayXclient(c, g); c.Limits.MaxErrors = 100 })
	seen := g.facts()
	g.run()
	c := g.hello()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c.do("XCLIENT "+tt.arg, "501")
			if s := sessionOf(t, seen); s.Proxied.IsValid() || g.handler.count("connect") != 1 {
				t.Errorf("session %+v", s)
			}
		})
	}
	c.do("MAIL FROM:<s@a.example>", "250") // it is still who it was
}

func TestXclientOfStrangers(t *testing.T) {
	g := start(t, func(c *Config, _ *gate) { c.XClient = prefixes("192.0.2.5/32") })
	c := g.greeted()
	if ext := c.do("EHLO client.example", "250"); strings.Contains(ext, "XCLIENT") {
		t.Errorf("EHLO: %q", ext)
	}
	c.do("XCLIENT ADDR=10.1.2.3", "550")
	c.do("MAIL FROM:<s@a.example>", "250")
}

// Behind a balancer the list is about the client that it names: not the
// balancer, who brings anybody.
func TestXclientBehindABalancer(t *testing.T) {
	for _, tt := range []struct{ name, header, want string }{
		{"a stranger", "PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n", "550"},
		{"nobody", "PROXY UNKNOWN\r\n", "550"},
		{"the peer", "PROXY TCP4 10.0.0.6 127.0.0.1 4711 25\r\n", "220"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, func(c *Config, _ *gate) {
				c.ProxyProtocol, c.XClient = prefixes("127.0.0.0/8"), prefixes("127.0.0.0/8", "10.0.0.6/32")
			})
			c := g.dial()
			c.send(tt.header)
			c.expect("220")
			c.do("EHLO proxy.example", "250")
			c.do("XCLIENT ADDR=10.1.2.3 NAME=[UNAVAILABLE]", tt.want)
		})
	}
}

// The places of a client are its own, whoever brings it.
func TestXclientLimits(t *testing.T) {
	g := start(t, func(c *Config, g *gate) { mayXclient(c, g); c.Limits.MaxConnectionsPerClient = 1 })
	g.hello().do("XCLIENT ADDR=192.0.2.7", "220")
	second := g.hello()
	second.do("XCLIENT ADDR=192.0.2.7", "421")
	second.expectClosed()
	third := g.hello()
	third.do("XCLIENT ADDR=192.0.2.8", "220")
	third.do("XCLIENT ADDR=192.0.2.9", "220") // and gives back the first
	g.hello().do("XCLIENT ADDR=192.0.2.8", "220")
}

// A client that the handler does not want is not wanted behind a peer either.
func TestXclientRejected(t *testing.T) {
	g := start(t, func(c *Config, g *gate) {
		mayXclient(c, g)
		g.handler.connect = func(tx *mail.Transaction) mail.Verdict {
			if tx.Session.Client.Addr().String() == "192.0.2.66" {
				return mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "7.1", Text: "no"}}
			}
			return mail.Verdict{}
		}
	})
	c := g.hello()
	c.do("XCLIENT ADDR=192.0.2.66", "554")
	c.expectClosed()
}

func TestXclientEndsSomeTime(t *testing.T) {
	g := start(t, func(c *Config, g *gate) { mayXclient(c, g); c.Limits.MaxJunk = 10 })
	c := g.hello()
	for i := range 9 {
		c.do(fmt.Sprintf("XCLIENT ADDR=192.0.2.%d", i+1), "220")
	}
	c.do("XCLIENT ADDR=192.0.2.99", "421")
}

// What the peer's TLS proves, it proves of the peer.
func TestXclientAndTLS(t *testing.T) {
	cert, key := certificate(t)
	g := newGate(t, func(c *Config, g *gate) { mayXclient(c, g); c.Certificate, c.Key = cert, key })
	g.run()
	c := g.hello()
	c.do("XCLIENT ADDR=192.0.2.7", "220")
	if ext := c.do("EHLO client.example", "250"); strings.Contains(ext, "STARTTLS") {
		t.Errorf("EHLO: %q", ext)
	}
	c.do("STARTTLS", "503")
}

func TestWindowAtConnect(t *testing.T) {
	tests := []struct {
		name, role, header string
		open               []string
		want               bool
		asked              string
	}{
		{"open", "mx", "PROXY TCP4 192.0.2.7 127.0.0.1 1 25\r\n", []string{"192.0.2.7"}, true, "192.0.2.7"},
		{"not open", "mx", "PROXY TCP4 192.0.2.7 127.0.0.1 1 25\r\n", []string{"192.0.2.8"}, false, "192.0.2.7"},
		{"the balancer's is not the client's", "mx", "PROXY TCP4 192.0.2.7 127.0.0.1 1 25\r\n", []string{"127.0.0.1"}, false, "192.0.2.7"},
		{"nobody has one", "mx", "PROXY UNKNOWN\r\n", []string{"127.0.0.1"}, false, ""},
		{"IPv6", "mx", "PROXY TCP6 2001:db8::7 ::1 1 25\r\n", []string{"2001:db8::7"}, true, "2001:db8::7"},
		{"never for submission", "submission", "PROXY TCP4 192.0.2.7 127.0.0.1 1 25\r\n", []string{"192.0.2.7"}, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := windowsOf(tt.open...)
			g := newGate(t, behindBalancer)
			g.srv.deps.Windows = w
			set := *g.srv.settings.Load()
			set.Role = Role(tt.role)
			g.srv.settings.Store(&set)
			seen := g.facts()
			g.run()
			c := g.dial()
			c.send(tt.header)
			c.expect("220")
			if s := sessionOf(t, seen); s.Window != tt.want || strings.Join(w.asked, " ") != tt.asked {
				t.Errorf("window %v, asked %v", s.Window, w.asked)
			}
		})
	}
}

// A window that ended is no window for the next message of a long session.
func TestWindowEndsInASession(t *testing.T) {
	w := windowsOf("127.0.0.1")
	g := newGate(t, nil)
	g.srv.deps.Windows = w
	var seen []bool
	g.handler.rcpt = func(tx *mail.Transaction, _ mail.Path) mail.Verdict {
		seen = append(seen, tx.Session.Window)
		return mail.Verdict{}
	}
	g.run()
	c := g.hello()
	for range 2 {
		c.do("MAIL FROM:<s@a.example>", "250")
		c.do("RCPT TO:<u@out.example>", "250")
		c.do("RSET", "250")
		w.mu.Lock()
		w.open = nil
		w.mu.Unlock()
	}
	if len(seen) != 2 || !seen[0] || seen[1] {
		t.Errorf("windows of the two messages: %v", seen)
	}
}

// A store that does not answer keeps nobody waiting for long.
func TestWindowOfASlowStore(t *testing.T) {
	g := newGate(t, nil)
	w := windowsOf("127.0.0.1")
	w.slow = true
	g.srv.deps.Windows = w
	seen := g.facts()
	g.run()
	g.greeted()
	if s := sessionOf(t, seen); s.Window {
		t.Error("a window that nobody confirmed")
	}
}

func FuzzXclient(f *testing.F) {
	for _, s := range []string{
		"NAME=spike.example.org ADDR=192.0.2.7 PORT=4711 PROTO=ESMTP HELO=spike.example LOGIN=joe",
		"ADDR=IPV6:2001:db8::7 NAME=[TEMPUNAVAIL]", "addr=[UNAVAILABLE] port=[unavailable]", "NAME=a+2Eb", "ADDR=1 ADDR=2",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		d, ok := parseXclient(arg)
		if !ok {
			return
		}
		if d.addr.IsValid() && (!isHost(d.addr) || d.addr.Is4In6()) {
			t.Errorf("%q: address %v", arg, d.addr)
		}
		if _, err := mail.ParseDomain(d.name); d.name != "" && err != nil || d.name != "" && d.resolve != mail.ResolveOK {
			t.Errorf("%q: name %q, %s", arg, d.name, d.resolve)
		}
		if !isPrintable(d.login) || !isPrintable(d.helo) || len(d.login) > maxXclient {
			t.Errorf("%q: login %q, helo %q", arg, d.login, d.helo)
		}
	})
}
