package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// office is a gateway that users send mail through, on three ports.
type office struct {
	*testkit.Gateway
	cert        *testkit.Certificate
	submission  string // 587
	submissions string // 465
	users       string // file
}

// newOffice prepares a gateway in front of sink with alice, who has the password
// "wonder land", in its file of users. It is not started yet.
func newOffice(t *testing.T, sink *testkit.Sink) *office {
	t.Helper()
	o := &office{Gateway: newGateway(t, binaries.race, sink.Addr), cert: certificate(t, "mx1.example.com")}
	o.users = filepath.Join(o.Dir, "users")
	c := &o.Config
	c.Set(`route."."`, "to", `["smtp://`+sink.Addr+`"]`)
	for name, addr := range map[string]*string{"submission": &o.submission, "submissions": &o.submissions} {
		var err error
		if *addr, err = testkit.FreeAddr(); err != nil {
			t.Fatal(err)
		}
		c.Set("listener."+name, "address", `"`+*addr+`"`)
		c.Set("listener."+name, "role", `"`+name+`"`)
	}
	for _, name := range []string{"mx", "submission", "submissions"} {
		c.Set("listener."+name, "tls_cert", `"`+o.cert.Cert+`"`)
		c.Set("listener."+name, "tls_key", `"`+o.cert.Key+`"`)
		c.Set("listener."+name, "auth", `"local"`)
	}
	c.Set("limits", "login_delay", `"100ms"`)
	c.Set("auth.local", "kind", `"file"`)
	c.Set("auth.local", "file", `"`+o.users+`"`)
	o.user(t, 0, "wonder land\n", "add", "alice@example.com", "--senders", "sales@example.com,@shop.example")
	return o
}

// user runs "gatepost user", which needs no configuration without mistakes.
func (o *office) user(t *testing.T, code int, stdin string, args ...string) string {
	t.Helper()
	if err := o.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	res, err := o.RunInput(strings.NewReader(stdin), append([]string{"user", "-c", o.File}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	if res.Code != code {
		t.Fatalf("user %v: exit %d, want %d\n%s%s", args, res.Code, code, res.Stdout, res.Stderr)
	}
	return res.Stdout
}

// swaks sends a message and returns its exit code and what was said.
func swaks(t *testing.T, server string, args ...string) (int, string) {
	t.Helper()
	path := testkit.Program(t, "swaks", "swaks")
	cmd := exec.Command(path, append([]string{"--server", server, "--ehlo", "client.test", "--to", "u@elsewhere.test", "--timeout", "20"}, args...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// Exit codes of swaks.
const (
	swaksOK, swaksMail, swaksRcpt, swaksAuth = 0, 23, 24, 28
)

func TestSubmission(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	o := newOffice(t, sink)
	o.Config.Set("listener.submission", "sender_login", `"reject"`)
	testkit.Up(t, o)
	right := []string{"--auth-user", "alice@example.com", "--auth-password", "wonder land"}
	sent := 0
	for _, tt := range []struct {
		name   string
		server string
		args   []string
		code   int
		said   string
	}{
		{"587, PLAIN", o.submission, append(right, "-tls", "--auth", "PLAIN", "-f", "alice@example.com"), swaksOK, "235 2.7.0"},
		{"587, LOGIN", o.submission, append(right, "-tls", "--auth", "LOGIN", "-f", "sales@example.com"), swaksOK, "235 2.7.0"},
		{"465, PLAIN", o.submissions, append(right, "-tlsc", "--auth", "PLAIN", "-f", "anybody@elsewhere.test"), swaksOK, "235 2.7.0"},
		{"25, LOGIN", o.Addr, append(right, "-tls", "--auth", "LOGIN", "-f", "anybody@elsewhere.test"), swaksOK, "235 2.7.0"},
		{"a domain of hers", o.submission, append(right, "-tls", "--auth", "PLAIN", "-f", "x@shop.example"), swaksOK, "235 2.7.0"},
		{"somebody else's address", o.submission, append(right, "-tls", "--auth", "PLAIN", "-f", "boss@example.com"), swaksMail, "553 5.7.1"},
		{"wrong password", o.submission, []string{"-tls", "--auth", "PLAIN", "--auth-user", "alice@example.com", "--auth-password", "x"}, swaksAuth, "535 5.7.8"},
		{"587 in clear", o.submission, []string{"-f", "alice@example.com"}, swaksMail, "530 5.7.0"},
		{"587 without a login, trusted network", o.submission, []string{"-tls", "--local-interface", "127.0.0.9", "-f", "alice@example.com"}, swaksMail, "530 5.7.0"},
		{"587 without a login, to us", o.submission, []string{"-tls", "--to", "u@example.com", "-f", "s@sender.test"}, swaksMail, "530 5.7.0"},
		{"465 without a login", o.submissions, []string{"-tlsc", "-f", "s@sender.test"}, swaksRcpt, "550 5.7.1"},
		{"465 without a login, trusted network", o.submissions, []string{"-tlsc", "--local-interface", "127.0.0.9", "-f", "s@sender.test"}, swaksOK, "250"},
		{"25 without a login", o.Addr, []string{"-f", "s@sender.test"}, swaksRcpt, "550 5.7.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, said := swaks(t, tt.server, tt.args...)
			if code != tt.code || !strings.Contains(said, tt.said) {
				t.Errorf("exit %d, want %d, with %q:\n%s", code, tt.code, tt.said, said)
			}
		})
		if tt.code == swaksOK {
			sent++
		}
	}
	for _, m := range waitMails(t, sink, sent) {
		if received := field(string(m.Data), "Received"); !strings.Contains(received, "with ESMTPS") || strings.Contains(string(m.Data), "wonder") {
			t.Errorf("Received = %q", received)
		}
	}
	if m := sink.Mails()[0]; !strings.Contains(string(m.Data), "with ESMTPSA id") {
		t.Errorf("the first message does not tell of the login: %s", m.Data)
	}
	tells(t, o.Log, "login: listener=submission, client=", "user=alice@example.com, mech=PLAIN, result=ok")
	tells(t, o.Log, "login: listener=submission, client=", "result=failed")
	if strings.Contains(o.Log(), "wonder land") {
		t.Error("the password is in the log")
	}
}

// A client of others: GNU SASL.
func TestScramByOthers(t *testing.T) {
	path := testkit.Program(t, "gsasl", "gsasl")
	o := newOffice(t, testkit.Up(t, testkit.NewSink()))
	testkit.Up(t, o)
	for name, tt := range map[string]struct {
		mech, user, password string
		ok                   bool
	}{
		"SCRAM":              {"SCRAM-SHA-256", "alice@example.com", "wonder land", true},
		"SCRAM, wrong":       {"SCRAM-SHA-256", "alice@example.com", "wonderland", false},
		"SCRAM, nobody":      {"SCRAM-SHA-256", "mallory@example.com", "wonder land", false},
		"PLAIN":              {"PLAIN", "alice@example.com", "wonder land", true},
		"LOGIN":              {"LOGIN", "alice@example.com", "wonder land", true},
		"SCRAM, in capitals": {"SCRAM-SHA-256", "Alice@Example.com", "wonder land", true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, path, "--smtp", "--starttls", "--no-cb", "--connect", o.submission, "--x509-ca-file="+o.cert.Cert, "--hostname=mx1.example.com",
				"-m", tt.mech, "-a", tt.user, "-p", tt.password, "--verbose")
			cmd.Stdin = strings.NewReader("")
			out, err := cmd.CombinedOutput()
			want := map[bool]string{true: "235 2.7.0", false: "535 5.7.8"}[tt.ok]
			if !bytes.Contains(out, []byte(want)) {
				t.Errorf("want %q (%v):\n%s", want, err, out)
			}
		})
	}
}

// try logs in with PLAIN over implicit TLS, from a local address, and returns the
// code of the answer.
func (o *office) try(local, user, password string) (code int, err error) {
	c, err := testkit.DialFrom(local, o.submissions)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.StartTLS(&tls.Config{RootCAs: o.cert.Pool, ServerName: "mx1.example.com"}); err != nil {
		return 0, err
	}
	if r, err := c.Read(); err != nil || r.Code != 220 {
		return r.Code, err
	}
	if r, err := c.Cmd("EHLO client.test"); err != nil || r.Code != 250 {
		return r.Code, err
	}
	r, err := c.Cmd("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
	return r.Code, err
}

// Where users are known elsewhere, and what becomes of it when that is away.
func TestUsersElsewhere(t *testing.T) {
	o := newOffice(t, testkit.Up(t, testkit.NewSink()))
	dovecot := testkit.Up(t, testkit.NewDovecotAuth(testkit.Dir(t), map[string]string{"dora": "dovecot's"}))
	slapd := testkit.NewSlapd(testkit.Dir(t))
	slapd.Certificate = certificate(t, "localhost")
	slapd.Add(slapd.Person("lena", "ldap's", "lena@example.com"))
	testkit.Up(t, slapd)
	postfix := newPostfixTLS(t, o.cert)
	if err := postfix.UseSASL("paul", "postfix's", "PLAIN"); err != nil {
		t.Fatal(err)
	}
	testkit.Up(t, postfix)
	c := &o.Config
	for section, keys := range map[string]map[string]string{
		"auth.dovecot": {"socket": `"` + dovecot.Socket + `"`},
		"auth.ldap":    {"servers": `"ldap://` + slapd.Addr + `"`, "ca_file": `"` + slapd.Certificate.Cert + `"`, "dn": `"uid=%u,ou=people,` + slapd.Base + `"`},
		"auth.nexthop": {"server": `"smtp://` + postfix.Addr + `"`, "ca_file": `"` + o.cert.Cert + `"`},
	} {
		for key, value := range keys {
			c.Set(section, key, value)
		}
	}
	c.Set("listener.submissions", "auth", `["local", "dovecot", "ldap", "nexthop"]`)
	testkit.Up(t, o)
	check := func(user, password string, want int) {
		t.Helper()
		if got, err := o.try("", user, password); got != want || err != nil {
			t.Errorf("%s with %q: %d (%v), want %d", user, password, got, err, want)
		}
	}
	check("alice@example.com", "wonder land", 235)
	check("dora", "dovecot's", 235)
	check("lena", "ldap's", 235)
	check("paul@next.test", "postfix's", 235)
	check("lena", "dovecot's", 535)
	check("lena", "", 535)
	check("nobody", "x", 535)
	if err := slapd.Stop(); err != nil {
		t.Fatal(err)
	}
	check("dora", "dovecot's", 235)
	check("lena", "ldap's", 454)
	check("nobody", "x", 454) // nobody can tell
}

// A user who is added logs in after a reload; one who is removed no more.
func TestUsersReload(t *testing.T) {
	o := newOffice(t, testkit.Up(t, testkit.NewSink()))
	testkit.Up(t, o)
	check := func(user, password string, want int) {
		t.Helper()
		if got, err := o.try("", user, password); got != want || err != nil {
			t.Errorf("%s with %q: %d (%v), want %d", user, password, got, err, want)
		}
	}
	check("bob", "builder", 535)
	o.user(t, 0, "builder", "add", "bob")
	o.user(t, 65, "again", "add", "bob")
	o.user(t, 0, "rabbit hole\n", "passwd", "alice@example.com")
	o.user(t, 66, "", "remove", "mallory")
	o.user(t, 66, "x", "passwd", "mallory")
	o.user(t, 65, "", "add", "empty")
	if got := o.user(t, 0, "", "list"); got != "alice@example.com sales@example.com,@shop.example\nbob\n" {
		t.Errorf("list: %q", got)
	}
	reload := func() {
		t.Helper()
		n := strings.Count(o.Log(), "configuration reloaded")
		if err := o.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, 60*time.Second, "a reload", func() bool { return strings.Count(o.Log(), "configuration reloaded") > n })
	}
	reload()
	check("bob", "builder", 235)
	check("alice@example.com", "wonder land", 535)
	check("alice@example.com", "rabbit hole", 235)
	o.user(t, 0, "", "remove", "bob")
	reload()
	check("bob", "builder", 535)
}

// Forty addresses guess at one password, and one address at many users. Both are
// slowed down, and those who know their passwords send mail meanwhile.
func TestBruteForce(t *testing.T) {
	o := newOffice(t, testkit.Up(t, testkit.NewSink()))
	o.user(t, 0, "builder", "add", "bob")
	testkit.Up(t, o)
	home := "127.0.7.7"
	if code, err := o.try(home, "alice@example.com", "wonder land"); code != 235 {
		t.Fatal(code, err)
	}
	var heard, refused, other atomic.Int32
	guess := func(local, user string, n int) {
		for i := range n {
			switch code, err := o.try(local, user, fmt.Sprint("guess ", i)); {
			case code == 535:
				heard.Add(1)
			case code == 454:
				refused.Add(1)
			default:
				other.Add(1)
				t.Errorf("%s: %d %v", local, code, err)
			}
		}
	}
	began := time.Now()
	var botnet sync.WaitGroup
	places := make(chan struct{}, 8) // what it has at a time
	for i := range 40 {
		botnet.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			guess(fmt.Sprintf("127.1.0.%d", i+1), "alice@example.com", 2)
		})
	}
	slowest := time.Duration(0)
	for range 10 {
		start := time.Now()
		if code, err := o.try(home, "alice@example.com", "wonder land"); code != 235 {
			t.Errorf("alice herself: %d, %v", code, err)
		}
		if code, err := o.try("127.0.8.8", "bob", "builder"); code != 235 {
			t.Errorf("bob: %d, %v", code, err)
		}
		slowest = max(slowest, time.Since(start)/2)
	}
	botnet.Wait()
	t.Logf("80 guesses at one user from 40 addresses in %v: %d heard, %d refused unheard; slowest login meanwhile %v", time.Since(began), heard.Load(), refused.Load(), slowest)
	if n := heard.Load(); n < 10 || n > 20+8 { // those at the same time don't know of each other
		t.Errorf("%d guesses were heard, want some 20", n)
	}

	heard.Store(0)
	refused.Store(0)
	for i := range 20 {
		guess("127.2.0.1", fmt.Sprint("user", i), 1)
	}
	t.Logf("20 users from one address: %d heard, %d refused", heard.Load(), refused.Load())
	if n := heard.Load(); n != 10 {
		t.Errorf("%d guesses were heard, want 10", n)
	}
	if code, err := o.try("127.2.0.1", "bob", "builder"); code != 454 {
		t.Errorf("from an address that guesses: %d, %v", code, err)
	}
	if code, err := o.try("127.0.8.8", "bob", "builder"); code != 235 {
		t.Errorf("bob: %d, %v", code, err)
	}
	tells(t, o.Log, "logins blocked", "user alice@example.com")
	tells(t, o.Log, "logins blocked", "client 127.2.0.1")
	_, page, err := o.Get("/metrics")
	if err != nil || !strings.Contains(page, `gatepost_logins_total{listener="submissions",mech="PLAIN",result="throttled"}`) {
		t.Errorf("no metric (%v)", err)
	}
}
