package recipients

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// counts counts.
type counts struct {
	mu sync.Mutex
	m  map[string]int
}

func (c *counts) add(k string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[string]int)
	}
	c.m[k]++
}
func (c *counts) of(k string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m[k]
}
func (c *counts) Source(source, result string) { c.add(source + " " + result) }
func (c *counts) Guess(action string)          { c.add(action) }

// nextHop answers by the local part; what it does not know is "550 5.1.1".
type nextHop struct {
	replies map[string]string // local part: reply; "*" for all others; "!" is an error
	asked   atomic.Int64      // questions, not recipients
	hang    atomic.Bool
}

func (n *nextHop) Verify(ctx context.Context, rcpts ...mail.Address) ([]mail.Outcome, error) {
	n.asked.Add(1)
	if n.hang.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var out []mail.Outcome
	for _, r := range rcpts {
		text, ok := n.replies[r.Local]
		if !ok {
			text, ok = n.replies["*"]
		}
		if !ok {
			text = "550 5.1.1 who?"
		}
		if text == "!" {
			return nil, errors.New("connection refused")
		}
		reply, _ := mail.ParseReply(text)
		out = append(out, mail.Outcome{Recipient: r, Reply: reply})
	}
	return out, nil
}

// inner is the handler around which the look is.
type inner struct {
	mail.Handler
	verdict mail.Verdict
}

func (i inner) Rcpt(context.Context, *mail.Transaction, mail.Path) mail.Verdict { return i.verdict }

func load(t testing.TB, cfg Config, d Deps) *Checker {
	t.Helper()
	if d.Stats == nil {
		d.Stats = &counts{}
	}
	d.Log = slog.New(slog.DiscardHandler)
	c, err := Load(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func configOf(sources ...string) Config {
	cfg := DefaultConfig()
	cfg.Of = map[string][]string{"example.com": sources}
	return cfg
}

func file(t testing.TB, kind, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), kind)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kind + ":" + path
}

func client(addr string) *mail.Session {
	return &mail.Session{Via: mail.ViaSMTP, Listener: "mx", Client: netip.AddrPortFrom(netip.MustParseAddr(addr), 4711)}
}

var accepts = inner{verdict: mail.Verdict{Action: mail.Accept, Reason: "relay.domains has it"}}

func rcpt(t testing.TB, c *Checker, s *mail.Session, to string) mail.Verdict {
	t.Helper()
	return c.Handler(accepts).Rcpt(t.Context(), &mail.Transaction{Session: s}, mail.Path{Address: address(t, to)})
}

func short(v mail.Verdict) string {
	if v.Action < mail.TempFail {
		return v.Action.String()
	}
	return v.Reply.String()
}

// TestSeveral: one source that knows is enough, and none that can't tell makes
// anybody unknown.
func TestSeveral(t *testing.T) {
	names := file(t, "file", "alice@example.com\n")
	table := file(t, "virtusertable", "sales@example.com bob\nclosed@example.com error:5.2.1:550 Closed\n")
	const cant = "451 4.4.3 Recipient can't be verified now, please try again later"
	tests := []struct {
		name    string
		sources []string
		hop     map[string]string
		to      string
		want    string
		onError OnError
		all     OnError
	}{
		{"in the first", []string{names, table}, nil, "alice@example.com", "accept", "", ""},
		{"in the second", []string{names, table}, nil, "sales@example.com", "accept", "", ""},
		{"in none", []string{names, table}, nil, "eve@example.com", "550 5.1.1 User unknown", "", ""},
		{"refused by one", []string{names, table}, nil, "closed@example.com", "550 5.2.1 Closed", "", ""},
		{"any", []string{names, "any"}, nil, "eve@example.com", "accept", "", ""},
		{"next hop knows", []string{names, "callout"}, map[string]string{"bob": "250 2.1.5 ok"}, "bob@example.com", "accept", "", ""},
		{"next hop does not", []string{names, "callout"}, nil, "bob@example.com", "550 5.1.1 User unknown", "", ""},
		{"next hop is away, the list knows", []string{"callout", names}, map[string]string{"*": "!"}, "alice@example.com", "accept", "", ""},
		{"next hop is away, the list does not know", []string{"callout", names}, map[string]string{"*": "!"}, "bob@example.com", cant, "", ""},
		{"the same with on_error accept", []string{"callout", names}, map[string]string{"*": "!"}, "bob@example.com", "accept", Accept, ""},
		{"takes every name, alone", []string{"callout"}, map[string]string{"*": "250 ok"}, "bob@example.com", "accept", "", ""},
		{"takes every name, tempfail", []string{"callout"}, map[string]string{"*": "250 ok"}, "bob@example.com", cant, "", TempFail},
		{"takes every name, the list knows", []string{"callout", names}, map[string]string{"*": "250 ok"}, "alice@example.com", "accept", "", TempFail},
		{"takes every name, the list does not know", []string{"callout", names}, map[string]string{"*": "250 ok"}, "bob@example.com", "550 5.1.1 User unknown", "", ""},
		{"takes every name but one", []string{"callout"}, map[string]string{"*": "250 ok", "bob": "550 5.1.1 no"}, "bob@example.com", "550 5.1.1 User unknown", "", ""},
		{"full", []string{names, "callout"}, map[string]string{"bob": "452 4.2.2 over quota"}, "bob@example.com", "450 4.2.2 over quota", "", ""},
		{"postmaster", []string{names}, nil, "PostMaster@example.com", "accept", "", ""},
		{"not ours to know", []string{names}, nil, "eve@elsewhere.example", "accept", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := configOf(tt.sources...)
			if tt.onError != "" {
				cfg.Callout.OnError = tt.onError
			}
			if tt.all != "" {
				cfg.Callout.CatchAll = tt.all
			}
			c := load(t, cfg, Deps{NextHop: &nextHop{replies: tt.hop}})
			for range 2 { // the second time from memory
				v := rcpt(t, c, client("192.0.2.1"), tt.to)
				if got := short(v); got != tt.want {
					t.Errorf("%s (%s), want %s", got, v.Reason, tt.want)
				}
				if v.Reason == "" {
					t.Error("no reason")
				}
			}
		})
	}
}

// TestWho: what stays as the handlers inside said.
func TestWho(t *testing.T) {
	cfg := configOf(file(t, "file", "alice\n"))
	cfg.Milters = []string{"main"}
	c := load(t, cfg, Deps{Ours: func(a mail.Address) bool { return a.Domain != "example.net" }})
	tests := []struct {
		name string
		s    mail.Session
		want string
	}{
		{"from the Internet", mail.Session{Via: mail.ViaSMTP}, "550 5.1.1 User unknown"},
		{"trusted", mail.Session{Via: mail.ViaSMTP, Trusted: true}, "550 5.1.1 User unknown"},
		{"again", mail.Session{Via: mail.ViaSMTP, Again: true}, "accept"},
		{"an MTA that wants it", mail.Session{Via: mail.ViaMilter, Listener: "main"}, "550 5.1.1 User unknown"},
		{"an MTA that does not", mail.Session{Via: mail.ViaMilter, Listener: "other"}, "accept"},
		{"a file", mail.Session{Via: mail.ViaScan}, "accept"},
	}
	for _, tt := range tests {
		if got := short(rcpt(t, c, &tt.s, "eve@example.com")); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	refuses := inner{verdict: mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "7.1", Text: "Relaying denied"}}}
	v := c.Handler(refuses).Rcpt(t.Context(), &mail.Transaction{Session: client("192.0.2.1")}, mail.Path{Address: address(t, "alice@example.com")})
	if short(v) != "550 5.7.1 Relaying denied" {
		t.Error(short(v))
	}
}

func TestDomains(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Of = map[string][]string{
		"Example.com": {file(t, "file", "a\n")}, ".example.com": {file(t, "file", "b\n")}, ".deep.example.com": {file(t, "file", "c\n")}, "*": {file(t, "file", "d\n")},
	}
	c := load(t, cfg, Deps{})
	for _, to := range []string{"a@example.com", "b@x.example.com", "b@x.y.example.com", "b@deep.example.com", "c@x.deep.example.com", "d@example.net", "d@com"} {
		for _, local := range []string{"a", "b", "c", "d"} {
			want := "550 5.1.1 User unknown"
			if local == to[:1] {
				want = "accept"
			}
			if got := short(rcpt(t, c, &mail.Session{Via: mail.ViaSMTP, Trusted: true}, local+to[1:])); got != want {
				t.Errorf("%s: %s, want %s", local+to[1:], got, want)
			}
		}
	}
}

func TestRefusedConfigurations(t *testing.T) {
	tests := []struct {
		name string
		of   map[string][]string
		ldap map[string]LDAP
		want string
	}{
		{"unknown source", map[string][]string{"example.com": {"files:/x"}}, nil, `recipients."example.com": "files:/x" is no source`},
		{"no path", map[string][]string{"example.com": {"file:"}}, nil, "is no source"},
		{"no such file", map[string][]string{"example.com": {"aliases:/does/not/exist"}}, nil, "no such file"},
		{"no source", map[string][]string{"example.com": {}}, nil, "names no source"},
		{"no domain", map[string][]string{"exa mple": {"any"}}, nil, "is no domain"},
		{"twice", map[string][]string{"example.com": {"any"}, "Example.com": {"any"}}, nil, "is there twice"},
		{"no directory", map[string][]string{"example.com": {"ldap"}}, nil, "there is no directory"},
		{"another directory", map[string][]string{"example.com": {"ldap:b"}}, map[string]LDAP{"a": good()}, `there is no directory "b"`},
		{"which directory", map[string][]string{"example.com": {"ldap"}}, map[string]LDAP{"a": good(), "b": good()}, "one of a, b"},
		{"password in clear", nil, map[string]LDAP{"a": with(func(l *LDAP) { l.BindDN, l.BindPasswordFile = "cn=x", "/p" })}, "ldap.a.servers[0]: the password would cross the network in clear"},
		{"no address in the filter", nil, map[string]LDAP{"a": with(func(l *LDAP) { l.Filter = "(mail=*)" })}, "ldap.a.filter"},
		{"broken filter", nil, map[string]LDAP{"a": with(func(l *LDAP) { l.Filter = "(mail=%s" })}, "ldap.a.filter"},
		{"https", nil, map[string]LDAP{"a": with(func(l *LDAP) { l.Servers = []string{"https://x"} })}, "is not like ldaps://host"},
		{"half a login", nil, map[string]LDAP{"a": with(func(l *LDAP) { l.BindDN = "cn=x" })}, "ldap.a.bind_dn: goes with"},
		{"no base", nil, map[string]LDAP{"a": with(func(l *LDAP) { l.Base = "" })}, "ldap.a.base"},
	}
	for _, tt := range tests {
		cfg := DefaultConfig()
		cfg.Of, cfg.LDAP = tt.of, tt.ldap
		if _, err := Load(cfg, Deps{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func good() LDAP { return with(func(*LDAP) {}) }

func with(change func(*LDAP)) LDAP {
	l := DefaultLDAP()
	l.Servers, l.Base = []string{"ldap://directory.example.com"}, "dc=example,dc=com"
	change(&l)
	return l
}

// TestJudge: what replies of a next hop mean.
func TestJudge(t *testing.T) {
	for _, tt := range []struct{ reply, nobody, want string }{
		{"250 2.1.5 ok", "550 5.1.1 who", "known"},
		{"251 2.1.5 will forward", "550 5.1.1 who", "known"},
		{"250 ok", "250 ok", "anything"},
		{"250 ok", "450 4.2.0 greylisted", "known"},
		{"550 5.1.1 who", "250 ok", "unknown"},
		{"550 who", "550 who", "unknown"},
		{"553 who", "550 who", "unknown"},
		{"550 5.1.10 RESOLVER.ADR.RecipientNotFound", "550 5.1.10 x", "unknown"},
		{"550 5.4.1 Recipient address rejected: Access denied", "550 5.4.1 x", "unknown"}, // Exchange Online
		{"550 5.2.1 disabled", "550 5.1.1 who", "refused 550 5.2.1 disabled"},
		{"552 5.2.2 over quota", "550 5.1.1 who", "refused 552 5.2.2 over quota"},
		{"452 4.2.2 over quota", "550 5.1.1 who", "deferred 450 4.2.2 over quota"},
		{"451 4.3.0 later", "451 4.3.0 later", "deferred 450 4.3.0 later"},
		{"550 5.7.1 members only", "550 5.1.1 who", "refused 550 5.7.1 members only"},
		{"550 5.7.1 Client host blocked", "550 5.7.1 Client host blocked", "error"},
		{"554 5.7.1 Relay access denied", "554 5.7.1 Relay access denied", "error"},
		{"550 relaying denied", "550 relaying denied", "error"},
		{"550 5.1.2 no such domain here", "550 5.1.2 no such domain here", "error"},
		{"503 5.5.1 MAIL first", "503 5.5.1 MAIL first", "error"},
		{"530 5.7.0 Authentication required", "530 5.7.0 Authentication required", "error"},
		{"354 go on", "550 5.1.1 who", "error"},
	} {
		reply, _ := mail.ParseReply(tt.reply)
		nobody, _ := mail.ParseReply(tt.nobody)
		a, err := judge(reply, nobody)
		got := a.is.String()
		if !a.reply.IsZero() {
			got += " " + a.reply.String()
		}
		if err != nil {
			got = "error"
		}
		if got != tt.want {
			t.Errorf("%s, nobody %s: %s, want %s", tt.reply, tt.nobody, got, tt.want)
		}
	}
}

// TestMemory: what is remembered, for how long, and what helps while the next
// hop is away.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hop := &nextHop{replies: map[string]string{"alice": "250 ok", "full": "452 4.2.2 full"}}
		c := load(t, configOf("callout"), Deps{NextHop: hop})
		ask := func(to, want string, asked int64) {
			t.Helper()
			before := hop.asked.Load()
			v := rcpt(t, c, &mail.Session{Via: mail.ViaSMTP, Trusted: true}, to)
			if got := short(v); !strings.HasPrefix(got, want) || hop.asked.Load()-before != asked {
				t.Errorf("%s after %d questions, want %s after %d: %s", got, hop.asked.Load()-before, want, asked, v.Reason)
			}
		}
		ask("alice@example.com", "accept", 1)
		ask("ALICE@example.com", "accept", 0)
		ask("bob@example.com", "550 5.1.1", 1)
		ask("bob@example.com", "550 5.1.1", 0)
		ask("full@example.com", "450 4.2.2", 1)
		ask("full@example.com", "450 4.2.2", 0)
		time.Sleep(31 * time.Second)
		ask("full@example.com", "450 4.2.2", 1)
		time.Sleep(10 * time.Minute)
		ask("bob@example.com", "550 5.1.1", 1)
		ask("alice@example.com", "accept", 0)
		time.Sleep(time.Hour)
		hop.replies["*"] = "!"
		hop.replies["alice"] = "!"
		ask("alice@example.com", "accept", 1) // stale, but better than nothing
		ask("bob@example.com", "451 4.4.3", 0)
		ask("carol@example.com", "451 4.4.3", 0) // left alone
		time.Sleep(firstPause)
		ask("carol@example.com", "451 4.4.3", 1)
		ask("dave@example.com", "451 4.4.3", 0)
		time.Sleep(firstPause)
		ask("dave@example.com", "451 4.4.3", 0) // the second pause is longer
		time.Sleep(firstPause)
		delete(hop.replies, "*")
		ask("dave@example.com", "550 5.1.1", 1)
		ask("bob@example.com", "550 5.1.1", 1)
		time.Sleep(25 * time.Hour)
		hop.replies["*"] = "!"
		ask("alice@example.com", "451 4.4.3", 1) // too old to be of help
	})
}

// TestShared: gateways tell each other what next hops said, and what is broken
// in the store is not believed.
func TestShared(t *testing.T) {
	store, trusted := state.NewMemory(nil), &mail.Session{Via: mail.ViaSMTP, Trusted: true}
	hop := &nextHop{replies: map[string]string{"alice": "250 ok", "closed": "550 5.2.1 Closed\x01 here"}}
	one := load(t, configOf("callout"), Deps{NextHop: hop, Store: store})
	two := load(t, configOf("callout"), Deps{NextHop: hop, Store: store})
	for to, want := range map[string]string{"alice@example.com": "accept", "bob@example.com": "550 5.1.1 User unknown", "closed@example.com": "550 5.2.1 Closed here"} {
		rcpt(t, one, trusted, to)
		before := hop.asked.Load()
		if got := short(rcpt(t, two, trusted, to)); got != want || hop.asked.Load() != before {
			t.Errorf("%s: %s, and it was asked %d times more", to, got, hop.asked.Load()-before)
		}
	}
	for _, junk := range []string{"", "known?", "refused", "refused 250 ok", "refused 5xx", strings.Repeat("x", 1000), "KNOWN"} {
		if err := store.Put(t.Context(), state.Callouts, "eve@example.com", junk, time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := short(rcpt(t, load(t, configOf("callout"), Deps{NextHop: hop, Store: store}), trusted, "eve@example.com")); got != "550 5.1.1 User unknown" {
			t.Errorf("%q is believed: %s", junk, got)
		}
	}
}

// TestOneQuestion: however many want to know, the next hop hears it once; and
// one that hangs costs its time once, not for each.
func TestOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hop := &nextHop{}
		hop.hang.Store(true)
		c := load(t, configOf("callout"), Deps{NextHop: hop})
		var all sync.WaitGroup
		begun := time.Now()
		for range 100 {
			all.Go(func() {
				if got := short(rcpt(t, c, client("192.0.2.1"), "alice@example.com")); !strings.HasPrefix(got, "451 4.4.3") {
					t.Error(got)
				}
			})
		}
		all.Wait()
		if hop.asked.Load() != 1 || time.Since(begun) != DefaultConfig().Callout.Timeout {
			t.Errorf("%d questions, %v", hop.asked.Load(), time.Since(begun))
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(100, time.Now)
	for i := range 10_000 {
		c.put(fmt.Sprint(i), answer{is: isKnown}, time.Hour, 0)
	}
	if len(c.m) > 100 {
		t.Errorf("%d entries", len(c.m))
	}
}

func TestPanicIsNoAnswer(t *testing.T) {
	c := load(t, configOf("callout"), Deps{}) // no next hop to ask
	if got := short(rcpt(t, c, client("192.0.2.1"), "alice@example.com")); !strings.HasPrefix(got, "451 4.4.3") {
		t.Error(got)
	}
}
