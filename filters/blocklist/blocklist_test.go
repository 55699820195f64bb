package blocklist

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// says is a handler with one answer.
type says struct {
	mail.Handler
	verdict mail.Verdict
	found   []mail.Finding
}

func (s says) Rcpt(context.Context, *mail.Transaction, mail.Path) mail.Verdict { return s.verdict }
func (s says) Message(_ context.Context, tx *mail.Transaction) mail.Verdict {
	tx.Findings = append(tx.Findings, s.found...)
	return s.verdict
}

type counted struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counted) Blocked(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[what]++
}

type kit struct {
	*Filter
	store *state.Memory
	now   time.Time
	stats *counted
}

func start(t *testing.T, change func(*Config)) *kit {
	t.Helper()
	k := &kit{now: time.Now(), stats: &counted{n: map[string]int{}}}
	k.store = state.NewMemory(func() time.Time { return k.now })
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	var err error
	k.Filter, err = New(cfg, Deps{
		Store: k.store, Stats: k.stats, Log: slog.New(slog.DiscardHandler),
		Vouched: func(s *mail.Session) bool { return s.Name == "friend.example" },
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// settle counts what waits.
func (k *kit) settle(t *testing.T) {
	t.Helper()
	for len(k.acts) > 0 {
		if err := k.count(t.Context(), <-k.acts); err != nil {
			t.Fatal(err)
		}
	}
}

func session(client string) *mail.Session {
	return &mail.Session{Client: netip.MustParseAddrPort(client), Via: mail.ViaSMTP, Role: "mx"}
}

// blocked says what for, "" not.
func (k *kit) blocked(t *testing.T, s *mail.Session) string {
	t.Helper()
	r, err := k.Check(t.Context(), &mail.Transaction{Stage: mail.StageConnect, Session: s})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) == 0 {
		return ""
	}
	return r.Findings[0].Value
}

var (
	noUser   = says{verdict: mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "1.1"}}}
	infected = says{verdict: mail.Verdict{Action: mail.Discard}, found: []mail.Finding{{Name: mail.FindingVirus}}}
	spammy   = says{verdict: mail.Verdict{Action: mail.Quarantine}, found: []mail.Finding{{Name: mail.FindingSpamScore, Score: 12}}}
)

func TestBlocked(t *testing.T) {
	for _, tt := range []struct {
		name   string
		says   says
		change func(*mail.Session)
		before []mail.Finding
		after  int // acts until it is blocked; 0: never
	}{
		{"viruses", infected, nil, nil, 3},
		{"spam", spammy, nil, nil, 10},
		{"users that don't exist", noUser, nil, nil, 20},
		{"refused for something else", says{verdict: mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "7.1"}}}, nil, nil, 0},
		{"held for something else", says{verdict: mail.Verdict{Action: mail.Quarantine}}, nil, nil, 0},
		{"held until a filter is back", says{verdict: mail.Verdict{Action: mail.Quarantine, Unscanned: "clamav"}, found: spammy.found}, nil, nil, 0},
		{"held for a DNS list", says{verdict: mail.Verdict{Action: mail.Quarantine}, found: []mail.Finding{{Name: mail.FindingListed, Score: 12}}}, nil, nil, 0},
		{"trusted", infected, func(s *mail.Session) { s.Trusted = true }, nil, 0},
		{"logged in", infected, func(s *mail.Session) { s.User = "joe" }, nil, 0},
		{"a relay window", infected, func(s *mail.Session) { s.Window = true }, nil, 0},
		{"this host", infected, func(s *mail.Session) { s.Client = netip.MustParseAddrPort("127.0.0.1:9") }, nil, 0},
		{"a peer that can't tell", infected, func(s *mail.Session) { s.Proxied = s.Client.Addr() }, nil, 0},
		{"judged once more", infected, func(s *mail.Session) { s.Again = true }, nil, 0},
		{"never", infected, func(s *mail.Session) { s.Client = netip.MustParseAddrPort("198.51.100.9:9") }, nil, 0},
		{"the access map", infected, func(s *mail.Session) { s.Name = "friend.example" }, nil, 0},
		{"a DNS allow list", infected, nil, []mail.Finding{{Name: mail.FindingAllowed}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := start(t, func(c *Config) { c.Never = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} })
			h := k.Handler(tt.says)
			s := session("203.0.113.7:25000")
			if tt.change != nil {
				tt.change(s)
			}
			for n := 1; n <= 25; n++ {
				tx := &mail.Transaction{ID: fmt.Sprint("id", n), Session: s, Findings: tt.before}
				if tt.says.verdict.Reply.Code == 0 {
					h.Message(t.Context(), tx)
				} else {
					h.Rcpt(t.Context(), tx, mail.Path{})
				}
				k.settle(t)
				if got := k.blocked(t, s); (got != "") != (tt.after > 0 && n >= tt.after) {
					t.Fatalf("after %d: %q", n, got)
				}
			}
			if k.blocked(t, session("203.0.113.8:1")) != "" {
				t.Error("its neighbour is blocked, too")
			}
			if got := len(k.stats.n); (got > 0) != (tt.after > 0) || got > 1 {
				t.Errorf("counted %v", k.stats.n)
			}
		})
	}
}

// Who sends much to users that are there may have some old addresses, too.
func TestKnownUsersCount(t *testing.T) {
	k := start(t, nil)
	s := session("203.0.113.7:25000")
	rcpts := func(n int, h says) {
		for range n {
			k.Handler(h).Rcpt(t.Context(), &mail.Transaction{Session: s}, mail.Path{})
			k.settle(t)
		}
	}
	rcpts(30, says{verdict: mail.Verdict{Action: mail.Accept}})
	rcpts(49, noUser)
	if why := k.blocked(t, s); why != "" {
		t.Fatalf("blocked: %s", why)
	}
	rcpts(1, noUser)
	if k.blocked(t, s) == "" || k.stats.n[unknownUser] != 1 {
		t.Errorf("not blocked, or counted %v", k.stats.n)
	}
}

func TestEnds(t *testing.T) {
	k := start(t, func(c *Config) { c.Viruses, c.Window, c.BlockFor = 2, time.Minute, 10*time.Minute })
	h := k.Handler(infected)
	send := func() {
		h.Message(t.Context(), &mail.Transaction{Session: session("203.0.113.7:25000")})
		k.settle(t)
	}
	isBlocked := func() bool { return k.blocked(t, session("203.0.113.7:25000")) != "" }
	send()
	k.now = k.now.Add(3 * time.Minute)
	if send(); isBlocked() {
		t.Fatal("blocked for two in three minutes")
	}
	if send(); !isBlocked() {
		t.Fatal("not blocked")
	}
	k.now = k.now.Add(11 * time.Minute)
	if isBlocked() {
		t.Error("still blocked")
	}
}

// Entries by hand, and who is not asked about.
func TestByHand(t *testing.T) {
	k := start(t, nil)
	for key, client := range map[string]string{
		"203.0.113.0/24": "203.0.113.7:1", "198.51.100.4": "198.51.100.4:1", "2001:db8:1:2::/64": "[2001:db8:1:2:3::4]:1",
	} {
		if err := k.store.Put(t.Context(), state.Blocked, key, "by hand\n", time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := k.blocked(t, session(client)); got != "by hand " {
			t.Errorf("%s: %q", client, got)
		}
	}
	s := session("203.0.113.7:1")
	s.Role = "submission"
	if got := k.blocked(t, s); got != "" {
		t.Errorf("submission: %q", got)
	}
}

// In IPv6 the whole /64 is one client; Run counts beside the mail.
func TestRun(t *testing.T) {
	k := start(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	var ran sync.WaitGroup
	ran.Go(func() { _ = k.Run(ctx) })
	h := k.Handler(infected)
	for n := range 3 {
		h.Message(t.Context(), &mail.Transaction{Session: session(fmt.Sprintf("[2001:db8::%d]:1", n+1))})
	}
	for deadline := time.Now().Add(60 * time.Second); k.blocked(t, session("[2001:db8::99]:1")) == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not blocked")
		}
	}
	stop()
	ran.Wait()
	for range 2 * maxActs { // nobody counts any more: nobody waits
		h.Message(t.Context(), &mail.Transaction{Session: session("203.0.113.7:1")})
	}
}
