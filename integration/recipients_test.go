package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// asked returns what a client at one of the addresses of this machine is told
// about recipients, in one transaction; "closed" once the connection is.
func asked(t *testing.T, g *testkit.Gateway, from string, rcpts ...string) []string {
	t.Helper()
	c, err := testkit.DialFrom(from, g.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Timeout = 30 * time.Second
	if r, err := c.Read(); err != nil || r.Code != 220 {
		t.Fatal(r, err)
	}
	for _, line := range []string{"EHLO client.example", "MAIL FROM:<sender@elsewhere.example>"} {
		if r, err := c.Cmd(line); err != nil || r.Code != 250 {
			t.Fatal(line, r, err)
		}
	}
	var all []string
	for _, to := range rcpts {
		r, err := c.Cmd("RCPT TO:<" + to + ">")
		if err != nil {
			return append(all, "closed")
		}
		all = append(all, r.String())
	}
	return all
}

func wantTold(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %q, want %q", got, want)
		return
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("recipient %d: %s, want %s", i, got[i], want[i])
		}
	}
}

// A real directory knows the recipients; it is stopped, and comes back.
func TestRecipientsOfDirectory(t *testing.T) {
	s := testkit.NewSlapd(testkit.Dir(t))
	cert := certificate(t, "directory.test")
	s.Certificate = cert
	s.Add(s.Person("alice", "", "alice@example.com", "a.l@example.com"))
	s.Add(s.Person("u", "", "u@example.com"))
	testkit.Up(t, s)
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	secret := filepath.Join(g.Dir, "secret")
	if err := os.WriteFile(secret, []byte(s.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	g.Config.Set("relay", "recipients", `{ "example.com" = "ldap" }`)
	for k, v := range map[string]string{
		"servers": `["ldaps://` + s.TLSAddr + `"]`, "ca_file": `"` + cert.Cert + `"`, "bind_dn": `"` + s.BindDN + `"`,
		"bind_password_file": `"` + secret + `"`, "base": `"` + s.Base + `"`, "timeout": `"2s"`,
	} {
		g.Config.Set("ldap.corp", k, v)
	}
	testkit.Up(t, g)
	const known, unknown, later = "250", "550 5.1.1 User unknown", "451 4.4.3"
	wantTold(t, asked(t, g, "127.0.0.1", "alice@example.com", "A.L@example.com", "eve@example.com", "*@example.com", "postmaster@example.com", "PostMaster"),
		known, known, unknown, "550", known, known)
	sendFrom(t, "127.0.0.1", g.Addr, "directory")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	wantTold(t, asked(t, g, "127.0.0.1", "alice@example.com", "mallory@example.com", "postmaster@example.com"), known, later, known)
	tells(t, g.Log, "ldap:corp can't tell", "451")
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 60*time.Second, "the directory is asked again", func() bool {
		return strings.HasPrefix(asked(t, g, "127.0.0.9", "mallory@example.com")[0], "550")
	})
	if _, body, err := g.Get("/metrics"); err != nil || !strings.Contains(body, `gatepost_recipient_answers_total{result="known",source="ldap:corp"}`) {
		t.Errorf("no metric: %v", err)
	}
	// All of it in memory from now on: the directory may go.
	g.Config.Set("ldap.corp", "sync", `"1h"`)
	if err := g.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	if err := g.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	tells(t, g.Log, "directory read", "addresses=3")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	wantTold(t, asked(t, g, "127.0.0.1", "alice@example.com", "new@example.com"), known, unknown)
}

// A real Postfix knows its own users: it is asked while the client waits, more
// often than it stands from one connection.
func TestRecipientsOfPostfix(t *testing.T) {
	needRoot(t)
	p := testkit.Up(t, testkit.NewPostfix(testkit.Dir(t),
		"virtual_mailbox_maps = inline:{ {alice@example.com = inbox/}, {full@example.com = inbox/} }",
		"smtpd_recipient_restrictions = check_recipient_access inline:{ {full@example.com = 452 4.2.2 Mailbox full} }, permit"))
	g := newGateway(t, binaries.race, p.Addr)
	g.Config.Set("relay", "recipients", `{ "." = ["callout"] }`)
	testkit.Up(t, g)
	wantTold(t, asked(t, g, "127.0.0.1", "alice@example.com", "ALICE@example.com", "eve@example.com", "full@example.com"), "250", "250", "550 5.1.1", "450 4.2.2")
	var many, want []string
	for i := range 60 {
		many, want = append(many, fmt.Sprintf("user%d@example.com", i)), append(want, "550 5.1.1")
	}
	for part := range slices.Chunk(many, 15) { // our own limit of errors is 20
		wantTold(t, asked(t, g, "127.0.0.9", part...), want[:15]...)
	}
	r := asked(t, g, "127.0.0.9", "alice@example.com", "stranger@elsewhere.invalid")
	if !strings.HasPrefix(r[1], "550 5.4.4") { // relayed mail is not ours to know: it lacks a route only
		t.Errorf("%q", r)
	}
	if n := strings.Count(p.Log(), "too many errors"); n > 0 {
		t.Errorf("Postfix was asked too often on one connection, %d times", n)
	}
	tells(t, g.Log, "user59@example.com", "unknown to callout")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	wantTold(t, asked(t, g, "127.0.0.1", "alice@example.com", "eve@example.com", "bob@example.com"), "250", "550 5.1.1", "451 4.4.3")
	// What was learnt outlives the process.
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	wantTold(t, asked(t, g, "127.0.0.1", "alice@example.com", "eve@example.com"), "250", "550 5.1.1")
}

// Next hops that answer badly, or take everything.
func TestRecipientsOfBadNextHop(t *testing.T) {
	var mu sync.Mutex
	answer := ""
	sink := testkit.NewSink()
	sink.Rule = func(verb, arg string) string {
		mu.Lock()
		defer mu.Unlock()
		if verb == "RCPT" && !strings.HasPrefix(arg, "TO:<real@") {
			return answer
		}
		return ""
	}
	testkit.Up(t, sink)
	list := filepath.Join(testkit.Dir(t), "list")
	if err := os.WriteFile(list, []byte("listed@example.com\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, answer, sources, to, want string }{
		{"hangs", testkit.Hang, `"callout"`, "x@example.com", "451 4.4.3"},
		{"drops", testkit.Drop, `"callout"`, "x@example.com", "451 4.4.3"},
		{"421", "421 4.3.2 shutting down", `"callout"`, "x@example.com", "451 4.4.3"},
		{"garbage", "what?", `"callout"`, "x@example.com", "451 4.4.3"},
		{"two lines that differ", "250-ok\n550 no", `"callout"`, "x@example.com", "451 4.4.3"},
		{"hates us", "554 5.7.1 Relay access denied", `"callout"`, "x@example.com", "451 4.4.3"},
		{"later", "451 4.3.0 later", `"callout"`, "x@example.com", "450 4.3.0 later"},
		{"takes all", "", `"callout"`, "x@example.com", "250"},
		{"takes all, not in the list", "", `["callout", "file:` + list + `"]`, "x@example.com", "550 5.1.1"},
		{"takes all, in the list", "", `["callout", "file:` + list + `"]`, "listed@example.com", "250"},
		{"hangs, in the list", testkit.Hang, `["file:` + list + `", "callout"]`, "listed@example.com", "250"},
		{"knows one", "550 5.1.1 who?", `"callout"`, "real@example.com", "250"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mu.Lock()
			answer = tt.answer
			mu.Unlock()
			g := newGateway(t, binaries.plain, sink.Addr)
			g.Config.Set("relay", "recipients", `{ "example.com" = `+tt.sources+` }`)
			if tt.answer == testkit.Hang { // the others have the time that a busy machine may need
				g.Config.Set("recipients.callout", "timeout", `"1s"`)
			}
			testkit.Up(t, g)
			begun := time.Now()
			wantTold(t, asked(t, g, "127.0.0.1", tt.to), tt.want)
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// Forty hosts guess names while ten others send mail.
func TestHarvest(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.plain, sink.Addr)
	var names strings.Builder
	for i := range 20 {
		fmt.Fprintf(&names, "user%d\n", i)
	}
	list := filepath.Join(g.Dir, "recipients")
	if err := os.WriteFile(list, []byte(names.String()+"u\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	g.Config.Set("relay", "recipients", `{ "example.com" = "file:`+list+`" }`)
	g.Config.Set("recipients.harvest", "max_delay", `"300ms"`)
	testkit.Up(t, g)
	const hosts, guesses, friends, mails = 40, 60, 10, 20
	var mu sync.Mutex
	var answered, away, harmed int
	var slowest time.Duration
	var all sync.WaitGroup
	begun := time.Now()
	for h := range hosts {
		all.Go(func() {
			for next := 0; next < guesses; next += 15 {
				var names []string
				for i := range 15 {
					names = append(names, fmt.Sprintf("guess%d-%d@example.com", h, next+i))
				}
				for _, r := range asked(t, g, fmt.Sprintf("127.0.3.%d", h+1), names...) {
					mu.Lock()
					switch {
					case strings.HasPrefix(r, "550 5.1.1"):
						answered++
					case strings.HasPrefix(r, "421"):
						away++
					}
					mu.Unlock()
				}
			}
		})
	}
	for f := range friends {
		all.Go(func() {
			for i := range mails {
				from, to := fmt.Sprintf("127.0.4.%d", f+1), fmt.Sprintf("user%d@example.com", i)
				if i%5 == 4 {
					to = fmt.Sprintf("left%d@example.com", i) // somebody who is there no more
				}
				start := time.Now()
				r := asked(t, g, from, to)
				took := time.Since(start)
				mu.Lock()
				slowest = max(slowest, took)
				if ok := strings.HasPrefix(r[0], "250") == (i%5 != 4) && !strings.HasPrefix(r[0], "4"); !ok {
					harmed++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	t.Logf("%d hosts: %d of %d guesses answered, sent away %d times, in %v; %d friends: %d of %d recipients wrong, slowest %v",
		hosts, answered, hosts*guesses, away, time.Since(begun), friends, harmed, friends*mails, slowest)
	if answered > hosts*20 || away < hosts {
		t.Errorf("%d guesses answered, sent away %d times", answered, away)
	}
	if harmed > 0 {
		t.Errorf("%d recipients of friends were answered wrongly", harmed)
	}
	wantTold(t, asked(t, g, "127.0.3.1", "user1@example.com"), "421 4.7.0")
	sendFrom(t, "127.0.4.1", g.Addr, "after")
}

// A Postfix that asks us over the milter protocol hears of unknown recipients
// where the configuration names its entry, and only there.
func TestRecipientsForAnMTA(t *testing.T) {
	needRoot(t)
	sink := testkit.Up(t, testkit.NewSink())
	for _, asks := range []bool{true, false} {
		g := newGateway(t, binaries.plain, sink.Addr)
		port, _, _ := strings.Cut(milterSocket(t, g, "inet"), "@")
		list := filepath.Join(g.Dir, "recipients")
		if err := os.WriteFile(list, []byte("alice@example.com\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		g.Config.Set("relay", "recipients", `{ "example.com" = "file:`+list+`" }`)
		want := "250"
		if asks {
			g.Config.Set("recipients", "milters", `["main"]`)
			want = "550 5.1.1 User unknown"
		}
		testkit.Up(t, g)
		p := testkit.Up(t, testkit.NewMilterPostfix(testkit.Dir(t), sink.Addr, "inet:127.0.0.1:"+port))
		d := testkit.Connect(t, p.Addr)
		d.Do("EHLO client.example", 250)
		d.Do("MAIL FROM:<s@elsewhere.example>", 250)
		d.Do("RCPT TO:<alice@example.com>", 250)
		code := 250
		if asks {
			code = 550
		}
		if r := d.Do("RCPT TO:<eve@example.com>", code); !strings.HasPrefix(r.String(), want) {
			t.Errorf("asks %v: %s", asks, r)
		}
	}
}
