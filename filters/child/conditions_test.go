package child_test

import (
	"net/netip"
	"strings"
	"testing"

	"gatepost/filters/child"
	"gatepost/internal/mail"
)

func TestConditions(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*child.Config)
		user   string
		from   string
		to     string // default r@example.com
		text   string
		want   string // commands that it saw; "" for none
	}{
		{name: "none", want: "C H M R E"},
		{name: "listener", change: func(c *child.Config) { c.Listeners = []string{"inside", "mx"} }, want: "C H M R E"},
		{name: "other listener", change: func(c *child.Config) { c.Listeners = []string{"inside"} }},
		{name: "network", change: func(c *child.Config) { c.Networks = nets("192.0.2.0/24") }, want: "C H M R E"},
		{name: "other network", change: func(c *child.Config) { c.Networks = nets("10.0.0.0/8", "::/0") }},
		{name: "not this network", change: func(c *child.Config) { c.NotNetworks = nets("192.0.2.0/28") }},
		{name: "not another network", change: func(c *child.Config) { c.NotNetworks = nets("10.0.0.0/8") }, want: "C H M R E"},
		{name: "authenticated", change: func(c *child.Config) { c.Authenticated = child.Yes }, user: "joe", want: "C H M R E"},
		{name: "authenticated, nobody", change: func(c *child.Config) { c.Authenticated = child.Yes }},
		{name: "not authenticated", change: func(c *child.Config) { c.Authenticated = child.No }, want: "C H M R E"},
		{name: "not authenticated, joe", change: func(c *child.Config) { c.Authenticated = child.No }, user: "joe"},
		{name: "domain", change: func(c *child.Config) { c.Domains = []string{"Example.COM."} }, want: "C H M R E"},
		{name: "domain below", change: func(c *child.Config) { c.Domains = []string{".example.com"} }, to: "r@sub.example.com", want: "C H M R E"},
		{name: "domain itself is not below", change: func(c *child.Config) { c.Domains = []string{".example.com"} }, want: "C H M A"},
		{name: "other domain", change: func(c *child.Config) { c.Domains = []string{"example.org"} }, want: "C H M A"},
		{name: "small enough", change: func(c *child.Config) { c.MaxSize = 1000 }, want: "C H M R E"},
		{name: "too large", change: func(c *child.Config) { c.MaxSize = 1000 }, text: plain + strings.Repeat("x\n", 1000), want: "C H M R A"},
		{name: "too large, as it says itself", change: func(c *child.Config) { c.MaxSize = 1000 }, from: "a@example.net SIZE=2000", text: plain + strings.Repeat("x\n", 1000), want: "C H"},
		{name: "large enough", change: func(c *child.Config) { c.MinSize = 1000 }, text: plain + strings.Repeat("x\n", 1000), want: "C H M R E"},
		{name: "too small", change: func(c *child.Config) { c.MinSize = 1000 }, want: "C H M R A"},
		{name: "score, other domain", change: func(c *child.Config) {
			c.Vote, c.Domains = child.Vote{Mode: child.Score, Score: 1}, []string{"example.org"}
		}},
		{name: "score, listener", change: func(c *child.Config) {
			c.Vote, c.Listeners = child.Vote{Mode: child.Score, Score: 1}, []string{"mx"}
		}, want: "C H M R E"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newScript(t, nil)
			cfg := c.config()
			if tt.change != nil {
				tt.change(&cfg)
			}
			m, _ := multiplexer(t, named{"c", cfg})
			s := session(t, m)
			s.base.User = tt.user
			s.greet()
			if tt.from == "" {
				tt.from = "a@example.net"
			}
			if tt.to == "" {
				tt.to = "r@example.com"
			}
			if tt.text == "" {
				tt.text = plain
			}
			want(t, "mail", s.mail(tt.from), mail.Accept, "")
			want(t, "rcpt", s.rcpt(tt.to), mail.Accept, "")
			want(t, "message", s.data(tt.text), mail.Accept, "")
			eventually(t, tt.want, func() bool { return commands(c.log("CHMREA")) == tt.want })
		})
	}
}

func commands(log string) string {
	var out []string
	for _, e := range strings.Split(log, "; ") {
		out = append(out, e[:min(len(e), 1)])
	}
	return strings.Join(out, " ")
}

func nets(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range list {
		out = append(out, netip.MustParsePrefix(n))
	}
	return out
}

// A milter that is asked about some mail only can't hold up the rest.
func TestDownForOthersOnly(t *testing.T) {
	down := configFor("unix:/nonexistent/m.sock")
	down.OnError = "refuse"
	down.Listeners = []string{"inside"}
	m, _ := multiplexer(t, named{"c", down})
	for range 4 {
		s := session(t, m)
		want(t, "connect", s.greet(), mail.Accept, "")
		want(t, "message", s.send(plain), mail.Accept, "")
		other := session(t, m)
		other.base.Listener = "inside"
		if v := other.greet(); v.Action != mail.TempFail {
			t.Errorf("inside: %s, want tempfail", v.Action)
		}
	}
	s := session(t, m)
	s.base.Listener = "inside"
	s.tx.Stage = mail.StageConnect
	if v := s.h.Connect(t.Context(), s.tx); v.Reply.Code != 421 {
		t.Errorf("inside, while it is down: %s, want 421", v.Reply)
	}
}

// Only the recipients that it is to hear of.
func TestRecipientsOfItsDomains(t *testing.T) {
	c := newScript(t, nil)
	cfg := c.config()
	cfg.Domains = []string{"example.com"}
	m, _ := multiplexer(t, named{"c", cfg})
	s := session(t, m)
	s.greet()
	s.mail("a@example.net")
	s.rcpt("one@example.org")
	s.rcpt("two@example.com")
	s.rcpt("three@example.org")
	want(t, "message", s.data(plain), mail.Accept, "")
	if got, want := c.log("RE"), "R <two@example.com>; E"; got != want {
		t.Errorf("it saw %q, want %q", got, want)
	}
}

func TestReuse(t *testing.T) {
	c := newScript(t, nil)
	cfg := c.config()
	cfg.Reuse = true
	m, _ := multiplexer(t, named{"c", cfg})
	for range 3 {
		s := session(t, m)
		s.greet()
		want(t, "message", s.send(plain), mail.Accept, "")
		s.mail("a@example.net") // left open
		s.h.Close()
	}
	if n := c.connections(); n != 1 {
		t.Errorf("%d connections for three sessions, want 1", n)
	}
	const seen = "C H M E M A K C H M E M A K C H M E M A K"
	eventually(t, seen, func() bool { return commands(c.log("CHMEAKQ")) == seen })
}

// A milter that takes QUIT_NC for an error, as go-milter does, costs nothing.
func TestReuseWhereTheMilterHangsUp(t *testing.T) {
	c := newScript(t, at("K", closing))
	cfg := c.config()
	cfg.Reuse = true
	m, _ := multiplexer(t, named{"c", cfg})
	for range 4 {
		s := session(t, m)
		want(t, "greet", s.greet(), mail.Accept, "")
		want(t, "message", s.send(plain), mail.Accept, "")
		s.h.Close()
	}
	eventually(t, "one attempt to keep a connection, then none", func() bool {
		return c.log("K") == "K" && c.log("Q") == "Q; Q; Q" && c.connections() == 4
	})
}

// What libmilter would not take is not tried.
func TestWhatIsNotKept(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(string) []byte
		do     func(*smtp)
	}{
		"no message":            {nil, func(*smtp) {}},
		"accepted at the end":   {at("E", accept), func(s *smtp) { s.send(plain) }},
		"refused at the end":    {at("E", reject), func(s *smtp) { s.send(plain) }},
		"refused at MAIL":       {at("M", reject), func(s *smtp) { s.send(plain) }},
		"HELO behind a message": {nil, func(s *smtp) { s.send(plain); s.tx.Stage = mail.StageHelo; s.h.Helo(t.Context(), s.tx) }},
		"failed":                {at("E", []byte{0, 0, 0, 0}), func(s *smtp) { s.send(plain) }},
	} {
		c := newScript(t, tt.answer)
		cfg := c.config()
		cfg.Reuse = true
		m, _ := multiplexer(t, named{"c", cfg})
		s := session(t, m)
		s.greet()
		tt.do(s)
		s.h.Close()
		want(t, name, session(t, m).greet(), mail.Accept, "")
		if c.connections() != 2 || c.log("K") != "" {
			t.Errorf("%s: %d connections, saw %q", name, c.connections(), c.log("CHMREAKQ"))
		}
	}
}

// A milter that ignores what comes on a kept connection costs one wait.
func TestReuseWhereTheMilterFallsSilent(t *testing.T) {
	kept := false
	c := newScript(t, func(e string) []byte {
		if kept && e[0] == 'C' {
			kept = false
			return hang
		}
		kept = kept || e == "K"
		return nil
	})
	cfg := c.config()
	cfg.Reuse = true
	m, _ := multiplexer(t, named{"c", cfg})
	for range 3 {
		s := session(t, m)
		want(t, "greet", s.greet(), mail.Accept, "")
		want(t, "message", s.send(plain), mail.Accept, "")
		s.h.Close()
	}
	if c.log("K") != "K" || c.connections() != 3 {
		t.Errorf("%d connections, saw %q", c.connections(), c.log("CKQ"))
	}
}
