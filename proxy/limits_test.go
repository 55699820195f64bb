package proxy

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/mail"
)

func TestConnectionLimits(t *testing.T) {
	t.Run("per client", func(t *testing.T) {
		g := start(t, func(c *Config, _ *gate) { c.Limits.MaxConnectionsPerClient = 3 })
		var last *client
		for range 3 {
			last = g.hello()
		}
		g.dial().expect("421 4.3.2")
		if g.stats.get("connection client_limit") != 1 {
			t.Error("not counted")
		}
		last.do("QUIT", "221")
		poll(t, "a free place", func() bool { return g.stats.get("active") == 2 })
		g.hello()
	})
	t.Run("in total, with a reserve for trusted clients", func(t *testing.T) {
		g := start(t, func(c *Config, _ *gate) {
			c.Limits.MaxConnections, c.Limits.TrustedReserve = 4, 2
			c.Trusted = prefixes("127.0.0.2/32")
		})
		g.hello()
		g.hello()
		g.dial().expect("421 4.3.2")
		trusted := func() *client {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
			conn, err := d.Dial("tcp", g.srv.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			return newClient(t, conn)
		}
		trusted().expect("220")
		trusted().expect("220")
		trusted().expect("421 4.3.2")
	})
}

func TestSite(t *testing.T) {
	for _, tt := range []struct{ a, b string }{
		{"2001:db8::1", "2001:db8::2"},
		{"192.0.2.1", "192.0.2.1"},
	} {
		if site(netip.MustParseAddr(tt.a)) != site(netip.MustParseAddr(tt.b)) {
			t.Errorf("%s and %s are two clients", tt.a, tt.b)
		}
	}
	for _, tt := range []struct{ a, b string }{
		{"2001:db8::1", "2001:db8:0:1::1"},
		{"192.0.2.1", "192.0.2.2"},
	} {
		if site(netip.MustParseAddr(tt.a)) == site(netip.MustParseAddr(tt.b)) {
			t.Errorf("%s and %s are one client", tt.a, tt.b)
		}
	}
}

// F-a: whoever is slow is cut, wherever it is.
func TestSlowClients(t *testing.T) {
	short := func(c *Config, _ *gate) {
		l := &c.Limits
		l.CommandTimeout = 500 * time.Millisecond
		l.DataTimeout = 10 * time.Second // each byte comes in time; the rate is what fails
		l.MinRate, l.RateGrace = 1000, 100*time.Millisecond
	}
	drip := func(c *client, text string) {
		for i := range text {
			if _, err := io.WriteString(c.conn, text[i:i+1]); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	for _, tt := range []struct {
		name  string
		begin func(*gate) *client
		text  string
	}{
		{"silence", (*gate).hello, ""},
		{"EHLO byte by byte", (*gate).greeted, "EHLO " + strings.Repeat("x", 500)},
		{"DATA byte by byte", func(g *gate) *client {
			c := g.envelope()
			c.do("DATA", "354")
			return c
		}, strings.Repeat("x", 500)},
		{"BDAT byte by byte", func(g *gate) *client {
			c := g.envelope()
			c.send("BDAT 1000 LAST\r\n")
			return c
		}, strings.Repeat("x", 500)},
		{"unwanted BDAT byte by byte", func(g *gate) *client {
			c := g.hello()
			c.send("BDAT 1000 LAST\r\n")
			return c
		}, strings.Repeat("x", 500)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, short)
			c := tt.begin(g)
			go drip(c, tt.text)
			c.expect("421 4.4.2")
			_ = c.conn.Close()
			g.waitIdle()
			if n := len(g.store.messages()); n != 0 {
				t.Errorf("%d messages kept", n)
			}
		})
	}
}

// A client that is slow but fast enough is served: the grace is earned back.
func TestPace(t *testing.T) {
	p := &pace{timeout: time.Minute, grace: 2 * time.Second, rate: 100}
	for _, tt := range []struct {
		bytes  int64
		waited time.Duration
		want   time.Duration
	}{
		{0, 0, 2 * time.Second},
		{100, time.Second, 2 * time.Second},
		{99, 2 * time.Second, 0},
		{1 << 62, 0, time.Minute},
		{0, 3 * time.Second, -time.Second},
	} {
		p.bytes, p.waited = tt.bytes, tt.waited
		if got := p.left(); got != tt.want {
			t.Errorf("after %d bytes in %s: %s left, want %s", tt.bytes, tt.waited, got, tt.want)
		}
	}
}

// F-a: a client that does not read our replies is cut.
func TestClientThatDoesNotRead(t *testing.T) {
	g := start(t, func(c *Config, _ *gate) {
		c.Limits.ReplyTimeout = 100 * time.Millisecond
		c.Limits.MaxJunk = 1 << 30
	})
	c := g.hello()
	_ = c.conn.(*net.TCPConn).SetReadBuffer(1)
	_ = c.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	noops := strings.Repeat("HELP\r\n", 10_000)
	for {
		if _, err := io.WriteString(c.conn, noops); err != nil {
			break
		}
	}
	g.waitIdle()
}

func TestTalksBeforeBanner(t *testing.T) {
	pause := func(d time.Duration) func(*Config, *gate) {
		return func(c *Config, _ *gate) { c.GreetPause = d }
	}
	t.Run("C5 caught", func(t *testing.T) {
		g := start(t, pause(10*time.Second))
		c := g.dial()
		c.send("EHLO x.example\r\nMAIL FROM:<i@x.example>\r\n")
		c.expect("554 5.5.0")
		c.expectClosed()
		if g.handler.count("mail") != 0 {
			t.Error("its commands were run")
		}
	})
	t.Run("C5 a patient client", func(t *testing.T) { start(t, pause(50*time.Millisecond)).hello() })
	t.Run("C5 no pause: in step all the same", func(t *testing.T) {
		g := start(t, nil)
		c := g.dial()
		c.send("EHLO x.example\r\nMAIL FROM:<s@a.example>\r\nRCPT TO:<u@b.example>\r\nDATA\r\n" + simple + ".\r\nQUIT\r\n")
		for _, want := range []string{"220", "250", "250", "250", "354", "250", "221"} {
			c.expect(want)
		}
		if n := len(g.store.messages()); n != 1 {
			t.Errorf("%d messages, want 1", n)
		}
	})
}

// brokenListener fails a few times before each connection.
type brokenListener struct {
	net.Listener
	failures atomic.Int32
}

func (l *brokenListener) Accept() (net.Conn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// F-b: a shortage of files does not end the listener.
func TestAcceptErrors(t *testing.T) {
	g := newGate(t, nil)
	l := &brokenListener{Listener: g.srv.listener}
	l.failures.Store(4)
	g.srv.listener = l
	g.run()
	g.hello()
	if !strings.Contains(g.log.String(), "too many open files") {
		t.Error("the log does not tell of the error")
	}
}

func TestUpdateLimits(t *testing.T) {
	g := start(t, nil)
	old := g.hello()
	cfg := g.srv.settings.Load().Config
	cfg.Limits.MaxSize = 1000
	if err := g.srv.Update(cfg); err != nil {
		t.Fatal(err)
	}
	if r := g.greeted().do("EHLO x.example", "250"); !strings.Contains(r, "SIZE 1000\r\n") {
		t.Errorf("a new session is offered %q", r)
	}
	old.do("MAIL FROM:<s@a.example> SIZE=2000", "250") // as it was promised
	cfg.Address = "127.0.0.1:1"
	if err := g.srv.Update(cfg); err == nil {
		t.Error("another address was taken")
	}
	cfg = g.srv.settings.Load().Config
	cfg.Limits.MaxLine = 1
	if err := g.srv.Update(cfg); err == nil {
		t.Error("a wrong limit was taken")
	}
}

func TestValidate(t *testing.T) {
	if err := testConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no address", func(c *Config) { c.Address = "" }, "want host:port"},
		{"submission without TLS", func(c *Config) { c.Role = "submission" }, "needs TLS"},
		{"submission without users", func(c *Config) { c.Role, c.Certificate, c.Key = "submission", "c", "k" }, "needs users"},
		{"submissions without TLS", func(c *Config) { c.Role = "submissions" }, "needs TLS"},
		{"users without TLS", func(c *Config) { c.Auth = []string{"x"} }, "over TLS only"},
		{"senders of nobody", func(c *Config) { c.SenderLogin = "reject" }, "nobody logs in here"},
		{"sender_login", func(c *Config) { c.SenderLogin = "maybe" }, "unknown sender_login"},
		{"client certificates in clear", func(c *Config) { c.ClientCA = "x" }, "need TLS"},
		{"anybody's certificate", func(c *Config) { c.Certificate, c.Key, c.ClientCertRelay = "c", "k", []string{"CN=a"} }, "set client_ca"},
		{"a short fingerprint", func(c *Config) { c.Certificate, c.Key, c.ClientCertRelay = "c", "k", []string{"sha256:00"} }, "64 hexadecimal digits"},
		{"login delay", func(c *Config) { c.Limits.LoginDelay = 0 }, "limits.login_delay"},
		{"unknown role", func(c *Config) { c.Role = "mta" }, "unknown role"},
		{"hostname", func(c *Config) { c.Hostname = "a b" }, "not a domain name"},
		{"literal as hostname", func(c *Config) { c.Hostname = "[192.0.2.1]" }, "not a domain name"},
		{"key without certificate", func(c *Config) { c.Key = "x" }, "belong together"},
		{"line endings", func(c *Config) { c.LineEndings = "clean" }, "unknown line endings"},
		{"greet pause", func(c *Config) { c.GreetPause = time.Hour }, "greet_pause"},
		{"pregreet", func(c *Config) { c.Pregreet = "ignore" }, "unknown pregreet"},
		{"grace", func(c *Config) { c.Grace = -1 }, "grace"},
		{"max_size", func(c *Config) { c.Limits.MaxSize = 0 }, "limits.max_size"},
		{"max_line", func(c *Config) { c.Limits.MaxLine = 100 }, "limits.max_line"},
		{"reserve", func(c *Config) { c.Limits.TrustedReserve = 1000 }, "trusted_reserve"},
		{"judge_timeout", func(c *Config) { c.Limits.JudgeTimeout = -1 }, "limits.judge_timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig()
			tt.change(&cfg)
			if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "listener mx") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestNewWantsItsParts(t *testing.T) {
	if _, err := New(testConfig(), Deps{}); err == nil {
		t.Error("a server without a spool")
	}
}

func TestTrusted(t *testing.T) {
	for _, tt := range []struct {
		network string
		want    bool
	}{{"127.0.0.0/8", true}, {"10.0.0.0/8", false}} {
		g := start(t, func(c *Config, _ *gate) { c.Trusted = prefixes(tt.network) })
		got := make(chan bool, 1)
		g.handler.connect = func(tx *mail.Transaction) mail.Verdict {
			got <- tx.Session.Trusted
			return mail.Verdict{}
		}
		g.hello()
		if trusted := <-got; trusted != tt.want {
			t.Errorf("network %s: trusted = %t", tt.network, trusted)
		}
	}
}

// A list server whose recipients are all put off, by greylisting for one, is no
// bad client, for as many as it may have.
func TestPutOffIsNoFault(t *testing.T) {
	g := start(t, func(c *Config, g *gate) {
		c.Limits.MaxErrors, c.Limits.MaxRecipients = 2, 10
		g.handler.rcpt = func(*mail.Transaction, mail.Path) mail.Verdict {
			return mail.Verdict{Action: mail.TempFail, Reply: mail.Reply{Code: 450, Detail: "7.1", Text: "later"}}
		}
	})
	c := g.hello()
	c.do("MAIL FROM:<s@a.example>", "250")
	for i := range 12 {
		c.do(fmt.Sprintf("RCPT TO:<u%d@b.example>", i), "450 4.7.1")
	}
	c.do("RCPT TO:<one@b.example>", "421")
	c.expectClosed()
}
