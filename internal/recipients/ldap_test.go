package recipients

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/testkit"
)

// reader is how a test reads a directory: as its one user, over TLS where the
// server has a certificate.
func reader(t testing.TB, s *testkit.Slapd) LDAP {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(s.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := DefaultLDAP()
	l.Servers, l.Base, l.BindDN, l.BindPasswordFile = []string{"ldap://" + s.Addr}, "ou=people,"+s.Base, s.BindDN, secret
	l.Timeout = 20 * time.Second
	return l
}

func open(t testing.TB, l LDAP) *directory {
	t.Helper()
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	l.Name = "test"
	d, err := newDirectory(l, "+", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup((&Checker{dirs: []*directory{d}}).Close)
	return d
}

func slapd(t *testing.T, more ...func(*testkit.Slapd)) *testkit.Slapd {
	t.Helper()
	s := testkit.NewSlapd(testkit.Dir(t))
	for _, m := range more {
		m(s)
	}
	s.Add(s.Person("alice", "pw", "alice@example.com", "a.liddell@example.com", "alice@example.org"))
	s.Add(s.Person("star", "", "*@example.com"))
	s.Add(s.Person("ghost", "") + "proxyAddresses: X500:/o=Site/cn=ghost@example.com\nproxyAddresses: sip:ghost@example.com\n")
	return testkit.Up(t, s)
}

// TestLDAP asks a real directory, by every way to connect.
func TestLDAP(t *testing.T) {
	c, err := testkit.NewCertificate(testkit.Dir(t), "directory.test")
	if err != nil {
		t.Fatal(err)
	}
	s := slapd(t, func(s *testkit.Slapd) { s.Certificate = c })
	ways := map[string]func(*LDAP){
		"ldap":        func(*LDAP) {},
		"starttls":    func(l *LDAP) { l.StartTLS, l.CAFile = true, c.Cert },
		"ldaps":       func(l *LDAP) { l.Servers, l.CAFile = []string{"ldaps://" + s.TLSAddr}, c.Cert },
		"second":      func(l *LDAP) { l.Servers = []string{"ldap://127.0.0.1:1", "ldap://" + s.Addr} },
		"ldaps no CA": func(l *LDAP) { l.Servers = []string{"ldaps://" + s.TLSAddr} },
		"ldaps name": func(l *LDAP) {
			l.Servers, l.CAFile = []string{strings.Replace("ldaps://"+s.TLSAddr, "127.0.0.1", "localhost", 1)}, c.Cert
		},
		"password":     func(l *LDAP) { l.BindPasswordFile = wrongSecret(t) },
		"anonymous":    func(l *LDAP) { l.BindDN, l.BindPasswordFile = "", "" },
		"base":         func(l *LDAP) { l.Base = "ou=nowhere,dc=example,dc=com" },
		"clear on TLS": func(l *LDAP) { l.Servers = []string{"ldap://" + s.TLSAddr} },
	}
	wrong := map[string]string{
		"ldaps no CA": "certificate", "ldaps name": "certificate", "password": "bind: LDAP Result Code 49", "anonymous": "LDAP Result Code 50",
		"base": "LDAP Result Code 32", "clear on TLS": "ldap",
	}
	for way, change := range ways {
		t.Run(way, func(t *testing.T) {
			l := reader(t, s)
			change(&l)
			d := open(t, l)
			for to, want := range map[string]string{
				"alice@example.com": "known", "ALICE@EXAMPLE.COM": "known", "A.Liddell@example.com": "known", "alice@example.org": "known",
				"alice+x@example.com": "known", "bob@example.com": "unknown", "alice@example.net": "unknown", "ghost@example.com": "unknown",
			} {
				got := told(t, d, to)
				if why := wrong[way]; why != "" && (!strings.HasPrefix(got, "error") || !strings.Contains(got, why)) {
					t.Errorf("%s: %s, want an error about %q", to, got, why)
				} else if why == "" && got != want {
					t.Errorf("%s: %s, want %s", to, got, want)
				}
			}
		})
	}
}

func wrongSecret(t testing.TB) string {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("not it"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestInjection: an address is never part of a filter.
func TestInjection(t *testing.T) {
	s := slapd(t)
	d := open(t, reader(t, s))
	for _, local := range []string{
		"*", "a*", "alic?", "alice)(uid=*", "*)(mail=*", "x)(|(mail=*", "alice\\2a", "alice\x00", `al\69ce`, "(mail=*)", "&", "|", "!",
	} {
		a, err := d.ask(t.Context(), mail.Address{Local: local, Domain: "example.com"})
		want := local == "*" // who really is called so
		if err != nil || (a.is == isKnown) != want {
			t.Errorf("%q: %v, %v", local, a.is, err)
		}
	}
	if a, err := d.ask(t.Context(), mail.Address{Local: "alice", Domain: "*"}); err != nil || a.is != isUnknown {
		t.Errorf("domain *: %v, %v", a.is, err)
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("alice", "example.com")
	f.Add("*)(mail=*", "x)")
	f.Add("\\", "\x00")
	f.Fuzz(func(t *testing.T, local, domain string) {
		got := fill("(|(a=%s)(b=%u)(c=%d))", mail.Address{Local: local, Domain: domain})
		if strings.Count(got, "(") != 4 || strings.Count(got, ")") != 4 || strings.Contains(got, "*") || strings.Contains(got, "\x00") {
			t.Errorf("%q", got)
		}
		if err := checkFilter(got, false); err != nil {
			t.Errorf("%q: %v", got, err)
		}
	})
}

// TestSlapdStops: while the directory is away it is tempfail, and what is known
// helps; when it is back all is well.
func TestSlapdStops(t *testing.T) {
	s := slapd(t)
	cfg := configOf("ldap")
	cfg.LDAP = map[string]LDAP{"corp": reader(t, s)}
	c := load(t, cfg, Deps{})
	t.Cleanup(c.Close)
	trusted := &mail.Session{Via: mail.ViaSMTP, Trusted: true}
	ask := func(to string) string { return short(rcpt(t, c, trusted, to)) }
	if got := ask("alice@example.com") + ", " + ask("eve@example.com"); got != "accept, 550 5.1.1 User unknown" {
		t.Fatal(got)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := ask("alice@example.com") + ", " + ask("eve@example.com") + ", " + ask("a.liddell@example.com"); got !=
		"accept, 550 5.1.1 User unknown, 451 4.4.3 Recipient can't be verified now, please try again later" {
		t.Error(got)
	}
	begun := time.Now()
	for i := range 50 {
		if got := ask(fmt.Sprintf("new%d@example.com", i)); !strings.HasPrefix(got, "451") {
			t.Error(got)
		}
	}
	if took := time.Since(begun); took > 10*time.Second { // half of what one of them may take
		t.Errorf("a directory that is away costs %v for 50 recipients", took)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 60*time.Second, "the directory is asked again", func() bool { return ask("a.liddell@example.com") == "accept" })
	// A connection that died in between is not taken for an answer.
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if got := ask("alice@example.org"); got != "accept" { // not in Of: a check of the test
		t.Fatal(got)
	}
	if got := ask("nobody@example.com"); got != "550 5.1.1 User unknown" {
		t.Error(got)
	}
}

// TestSync reads thousands of entries from a server that returns no more than a
// hundred at once, then asks it no more.
func TestSync(t *testing.T) {
	const people = 5000
	s := slapd(t, func(s *testkit.Slapd) {
		s.MaxAnswer = 100
		for i := range people {
			s.Add(s.Person(fmt.Sprint("u", i), "", fmt.Sprintf("U%d@example.com", i), fmt.Sprintf("alias%d@example.com", i)))
		}
	})
	l := reader(t, s)
	l.Sync, l.PageSize = time.Hour, 73
	d := open(t, l)
	begun := time.Now()
	n, err := d.sync(t.Context())
	if err != nil || n != 2*people+4 {
		t.Fatalf("%d addresses, %v", n, err)
	}
	t.Logf("%d addresses in %v", n, time.Since(begun))
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		"u4999@example.com": "known", "ALIAS0+x@example.com": "known", "u5000@example.com": "unknown", "ghost@example.com": "unknown", "alice@example.org": "known",
	} {
		if got := told(t, d, to); got != want {
			t.Errorf("%s: %s, want %s", to, got, want)
		}
	}
	if _, err := d.sync(t.Context()); err == nil {
		t.Error("no error from a server that is away")
	}
	if got := told(t, d, "u4999@example.com"); got != "known" {
		t.Errorf("after that: %s", got)
	}
	later := d.now().Add(25 * time.Hour)
	d.now = func() time.Time { return later }
	if got := told(t, d, "u4999@example.com") + ", " + told(t, d, "u5000@example.com"); got != "known, error: ldap: what was read is 25h0m0s old" {
		t.Errorf("a day later: %s", got)
	}
}

// TestSyncShrinks: a directory that has suddenly lost most of its people is not
// believed at once, one that has lost all of them never.
func TestSyncShrinks(t *testing.T) {
	s := slapd(t, func(s *testkit.Slapd) {
		for i := range 20 {
			s.Add(s.Person(fmt.Sprint("u", i), "", fmt.Sprintf("u%d@example.com", i)))
		}
	})
	l := reader(t, s)
	l.Sync = time.Hour
	d := open(t, l)
	if _, err := d.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	var gone strings.Builder
	for i := range 20 {
		fmt.Fprintf(&gone, "dn: %s\nchangetype: delete\n\n", s.DN(fmt.Sprint("u", i)))
	}
	if err := s.Apply(gone.String()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.sync(t.Context()); err == nil || told(t, d, "u1@example.com") != "known" {
		t.Errorf("believed at once: %v", err)
	}
	if n, err := d.sync(t.Context()); err != nil || n != 4 || told(t, d, "u1@example.com") != "unknown" {
		t.Errorf("not believed the second time: %d, %v", n, err)
	}
	d.cfg.SyncFilter = "(mail=nobody@nowhere.invalid)"
	for range 3 {
		if _, err := d.sync(t.Context()); err == nil || told(t, d, "alice@example.com") != "known" {
			t.Errorf("an empty directory is believed: %v", err)
		}
	}
}

// TestSyncRuns: Run reads at once, and the source needs no answer before that.
func TestSyncRuns(t *testing.T) {
	s := slapd(t)
	cfg := configOf("ldap:corp")
	l := reader(t, s)
	l.Sync = shortestSync
	cfg.LDAP = map[string]LDAP{"corp": l}
	n := &counts{}
	c := load(t, cfg, Deps{Stats: n})
	t.Cleanup(c.Close)
	trusted := &mail.Session{Via: mail.ViaSMTP, Trusted: true}
	if got := short(rcpt(t, c, trusted, "alice@example.com")); got != "accept" {
		t.Errorf("before: %s", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = c.Run(ctx) })
	testkit.Eventually(t, 60*time.Second, "the directory is read", func() bool { return n.of("ldap:corp sync") == 1 })
	if got := short(rcpt(t, c, trusted, "a.liddell@example.com")) + ", " + short(rcpt(t, c, trusted, "eve@example.com")); got != "accept, 550 5.1.1 User unknown" {
		t.Error(got)
	}
	stop()
	running.Wait()
}

// TestHostileDirectory: none of these is an answer, and none costs more than the
// time that it has.
func TestHostileDirectory(t *testing.T) {
	entry := "\x30\x0c\x02\x01\x01\x64\x07\x04\x03cn=\x30\x00" // a search entry of message 1, without attributes
	done := "\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x00\x04\x00\x04\x00"
	tests := []struct{ name, send, want string }{
		{"none", "", "unknown"}, // the control: success without an entry
		{"closes", "!close", "error"},
		{"hangs", "!hang", "error"},
		{"not LDAP", "HTTP/1.1 400 Bad Request\r\n\r\n", "error"},
		{"cut", done[:5] + "!close", "error"},
		{"length 2 GB", "\x30\x84\x7f\xff\xff\xff", "error"},
		{"indefinite", "\x30\x80" + strings.Repeat("\x30\x80", 1000), "error"},
		{"another message", "\x30\x0c\x02\x01\x07\x65\x07\x0a\x01\x00\x04\x00\x04\x00", "error"},
		{"no operation", "\x30\x03\x02\x01\x01", "error"},
		{"empty", "\x30\x00", "error"},
		{"busy", "\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x33\x04\x00\x04\x00", "error"},
		{"referral", "\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x0a\x04\x00\x04\x00", "error"},
		{"size limit, nothing", "\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x04\x04\x00\x04\x00", "error"},
		{"entry, then error", entry + "\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x01\x04\x00\x04\x00", "error"},
		{"entry, then nothing", entry + "!hang", "error"},
		{"entries without end", "!entries", "error"},
		{"entry and size limit", entry + "\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x04\x04\x00\x04\x00", "known"},
		{"entry", entry + done, "known"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := answers(t, tt.send, entry, done)
			l := DefaultLDAP()
			l.Servers, l.Base, l.Timeout = []string{"ldap://" + addr}, "dc=example,dc=com", 20*time.Second
			if tt.want == "error" {
				l.Timeout = 500 * time.Millisecond
			}
			begun := time.Now()
			got := told(t, open(t, l), "alice@example.com")
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// answers is a server that sends the same to whatever it is asked.
func answers(t *testing.T, send, entry, done string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	end := make(chan struct{})
	t.Cleanup(func() { ln.Close(); close(end); all.Wait() })
	serve := func(c net.Conn) {
		defer c.Close()
		all.Go(func() { <-end; c.Close() })
		in := bufio.NewReader(c)
		if _, err := in.ReadByte(); err != nil {
			return
		}
		if send == "" {
			send = done
		}
		if send == "!entries" {
			for {
				if _, err := c.Write([]byte(strings.Repeat(entry, 1000))); err != nil {
					return
				}
			}
		}
		text, hang := strings.CutSuffix(send, "!hang")
		text, closes := strings.CutSuffix(text, "!close")
		if _, err := c.Write([]byte(text)); err != nil || closes && !hang {
			return
		}
		<-end
	}
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { serve(c) })
		}
	})
	return ln.Addr().String()
}
