package rates

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"
	"gatepost/internal/state"
	"gatepost/rules/access"
)

type kit struct {
	*Filter
	store *state.Memory
	now   time.Time
	ids   int
}

func setUp(t *testing.T, cfg Config, table string) *kit {
	t.Helper()
	k := &kit{now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	k.store = state.NewMemory(func() time.Time { return k.now })
	var a Access
	if table != "" {
		parsed, _, err := access.Parse("access", strings.NewReader(table), access.DefaultOptions())
		if err != nil {
			t.Fatal(err)
		}
		a = mapped{parsed}
	}
	cfg.Timeout, cfg.OnError = time.Second, DefaultConfig().OnError
	var err error
	if k.Filter, err = New(cfg, k.store, a); err != nil {
		t.Fatal(err)
	}
	return k
}

// mapped is an access map as it is wired.
type mapped struct{ *access.Table }

func (m mapped) ClientRate(s *mail.Session) (int, string, bool) {
	n, h, ok := m.Limit(access.ClientRate, s.Addr(), nil)
	return n, "", ok && h.Line > 0
}

func (m mapped) ClientConnections(s *mail.Session) (int, string, bool) {
	n, h, ok := m.Limit(access.ClientConn, s.Addr(), nil)
	return n, "", ok && h.Line > 0
}

func (k *kit) session(client string) *mail.Session {
	k.ids++
	return &mail.Session{ID: fmt.Sprintf("s%d", k.ids), Client: netip.AddrPortFrom(netip.MustParseAddr(client), 25000), Via: mail.ViaSMTP}
}

// ask says what is over its limit at a stage: "" nothing.
func ask(t *testing.T, c interface {
	Wants(*mail.Transaction) bool
	Check(context.Context, *mail.Transaction) (filters.Report, error)
}, tx *mail.Transaction) string {
	t.Helper()
	if !c.Wants(tx) {
		return ""
	}
	r, err := c.Check(t.Context(), tx)
	switch {
	case err != nil:
		t.Fatal(err)
	case len(r.Findings) == 0:
		return ""
	case r.Findings[0].Name != mail.FindingRate || r.Findings[0].Text == "":
		t.Errorf("finding %+v", r.Findings[0])
	}
	return r.Findings[0].Value
}

func (k *kit) connect(t *testing.T, client string) (over string, closing func()) {
	t.Helper()
	c := k.Open()
	return ask(t, c, &mail.Transaction{Stage: mail.StageConnect, Session: k.session(client)}), c.Close
}

// The vectors of sendmail's own rulesets: a limit of 4 allows 4, and refuses the
// fifth.
func TestAccessLikeSendmail(t *testing.T) {
	const table = "ClientRate:192.0.2.4\t4\nClientRate:198.51.100.1\t0\nClientRate:\t10\nClientConn:10.5\t2\nClientConn:\t0\n"
	k := setUp(t, Config{}, table)
	for _, tt := range []struct {
		client  string
		allowed int // in a minute; 100: all
	}{{"192.0.2.4", 4}, {"192.0.2.5", 10}, {"198.51.100.1", 100}, {"2001:db8::1", 10}} {
		for n := 1; n <= 30; n++ {
			over, done := k.connect(t, tt.client)
			if (over == mail.RateConnections) != (n > tt.allowed) {
				t.Errorf("%s: connection %d: %q", tt.client, n, over)
			}
			done()
		}
		k.now = k.now.Add(2 * time.Minute)
		if over, _ := k.connect(t, tt.client); over != "" {
			t.Errorf("%s: two minutes later: %q", tt.client, over)
		}
	}
	var open []func()
	for n := 1; n <= 3; n++ {
		over, done := k.connect(t, "10.5.6.7")
		if (over == mail.RateConcurrency) != (n == 3) {
			t.Errorf("10.5.6.7 with %d connections: %q", n, over)
		}
		open = append(open, done)
	}
	open[2]() // it never had a place
	if over, _ := k.connect(t, "10.5.6.7"); over != mail.RateConcurrency {
		t.Errorf("after a refused one ended: %q", over)
	}
	open[0]()
	if over, _ := k.connect(t, "10.5.6.7"); over != "" {
		t.Errorf("after one ended: %q", over)
	}
}

func rate(n int, d time.Duration) Rate { return Rate{n, d} }

func TestConnections(t *testing.T) {
	k := setUp(t, Config{
		Client:  Limits{Connections: rate(3, time.Minute), Concurrent: 2},
		Network: Limits{Connections: rate(5, time.Minute), Concurrent: 4},
	}, "")
	got := ""
	for _, client := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.3.1"} {
		over, _ := k.connect(t, client)
		got += over + ";"
	}
	// the third of .1 takes of both rates and finds no place; .4 is the sixth of its network
	if want := ";;concurrency;;;connections;;"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	k = setUp(t, Config{Client: Limits{Concurrent: 1}}, "")
	if over, _ := k.connect(t, "192.0.2.1"); over != "" {
		t.Fatal(over)
	}
	k.now = k.now.Add(stayTime + time.Second)
	if over, _ := k.connect(t, "192.0.2.1"); over != "" {
		t.Errorf("a gateway that died keeps its places: %q", over)
	}
}

func (k *kit) mail(client, user, from string) *mail.Transaction {
	a, _ := mail.ParseAddress(from, false)
	s := k.session(client)
	s.User = user
	return &mail.Transaction{Stage: mail.StageMail, Session: s, Envelope: mail.Envelope{Sender: mail.Path{Address: a}}}
}

func TestTransfer(t *testing.T) {
	all := func(n int) MessageLimits { return MessageLimits{Messages: rate(n, time.Hour)} }
	for _, tt := range []struct {
		name string
		cfg  Config
		next func(k *kit, n int) *mail.Transaction
		may  int
	}{
		{"a client", Config{Client: Limits{MessageLimits: all(3)}}, func(k *kit, n int) *mail.Transaction {
			return k.mail("192.0.2.1", "", fmt.Sprintf("a%d@x.org", n))
		}, 3},
		{"a network", Config{Network: Limits{MessageLimits: all(4)}}, func(k *kit, n int) *mail.Transaction {
			return k.mail(fmt.Sprintf("192.0.2.%d", n), "", "a@x.org")
		}, 4},
		{"an IPv6 network", Config{Network: Limits{MessageLimits: all(4)}}, func(k *kit, n int) *mail.Transaction {
			return k.mail(fmt.Sprintf("2001:db8::%x", n), "", "a@x.org")
		}, 4},
		{"a sender", Config{Sender: all(2)}, func(k *kit, n int) *mail.Transaction {
			return k.mail(fmt.Sprintf("192.0.%d.1", n), "", "A@x.org")
		}, 2},
		{"nobody", Config{Sender: all(2)}, func(k *kit, n int) *mail.Transaction {
			return k.mail(fmt.Sprintf("192.0.%d.1", n), "", "")
		}, 100},
		{"a user", Config{User: all(5), Client: Limits{MessageLimits: all(1)}, Sender: all(1)}, func(k *kit, n int) *mail.Transaction {
			return k.mail(fmt.Sprintf("192.0.%d.1", n), "Joe", "a@x.org")
		}, 5},
		{"users behind one address", Config{User: all(2), Client: Limits{MessageLimits: all(1)}}, func(k *kit, n int) *mail.Transaction {
			return k.mail("192.0.2.1", fmt.Sprintf("user%d", n), "a@x.org")
		}, 100},
		{"trusted", Config{Client: Limits{MessageLimits: all(1)}}, func(k *kit, n int) *mail.Transaction {
			tx := k.mail("192.0.2.1", "", "a@x.org")
			tx.Session.Trusted = true
			return tx
		}, 100},
		{"this host", Config{Client: Limits{MessageLimits: all(1)}}, func(k *kit, n int) *mail.Transaction {
			return k.mail("127.0.0.1", "", "a@x.org")
		}, 100},
		{"a mailbox", Config{Recipient: RecipientLimits{rate(3, time.Hour)}}, func(k *kit, n int) *mail.Transaction {
			tx := k.mail(fmt.Sprintf("192.0.%d.1", n), "", "a@x.org")
			tx.Stage, tx.Envelope.Recipients = mail.StageRcpt, []mail.Path{{Address: mail.Address{Local: "Bob", Domain: "example.com"}}}
			return tx
		}, 3},
		{"recipients of a client", Config{Client: Limits{MessageLimits: MessageLimits{Recipients: rate(6, time.Hour)}}}, func(k *kit, n int) *mail.Transaction {
			tx := k.mail("192.0.2.1", "", "a@x.org")
			tx.Stage, tx.Envelope.Recipients = mail.StageRcpt, []mail.Path{{Address: mail.Address{Local: fmt.Sprint("u", n), Domain: "example.com"}}}
			return tx
		}, 6},
		{"bytes", Config{Client: Limits{MessageLimits: MessageLimits{Bytes: ByteRate{rate(25, time.Hour)}}}}, func(k *kit, n int) *mail.Transaction {
			tx := k.mail("192.0.2.1", "", "a@x.org")
			tx.Stage, tx.Message = mail.StageMessage, mail.NewMessage(nil, strings.NewReader(strings.Repeat("x", 10<<10)), 10<<10)
			return tx
		}, 2}, // 11 KiB each
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := setUp(t, tt.cfg, "")
			for n := 1; n <= 8; n++ {
				tx := tt.next(k, n)
				over := ask(t, k.Open(), tx)
				if (over != "") != (n > tt.may) {
					t.Errorf("%d: %q", n, over)
				}
			}
			k.now = k.now.Add(time.Hour)
			if over := ask(t, k.Open(), tt.next(k, 9)); over != "" {
				t.Errorf("an hour later: %q", over)
			}
		})
	}
}

// What is larger than all that may be had passes when nothing is used up.
func TestLargerThanTheLimit(t *testing.T) {
	k := setUp(t, Config{Client: Limits{MessageLimits: MessageLimits{Bytes: ByteRate{rate(4, time.Hour)}}}}, "")
	tx := k.mail("192.0.2.1", "", "a@x.org")
	tx.Stage, tx.Message = mail.StageMessage, mail.NewMessage(nil, strings.NewReader(strings.Repeat("x", 10<<10)), 10<<10)
	if a, b := ask(t, k.Open(), tx), ask(t, k.Open(), tx); a != "" || b != mail.RateBytes {
		t.Errorf("%q, then %q", a, b)
	}
}

func TestUnits(t *testing.T) {
	for text, want := range map[string]Rate{
		"100/1h": {100, time.Hour}, " 5 / 30s": {5, 30 * time.Second}, "1000/2d": {1000, 48 * time.Hour},
	} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%q: %v, %v", text, r, err)
		}
	}
	for _, text := range []string{"", "100", "0/1h", "-1/1h", "x/1h", "5/1", "5/0s", "5/400d", "5/99999999999d", "2000000/1h"} {
		if err := new(Rate).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	var b ByteRate
	if err := b.UnmarshalText([]byte("500MB/1d")); err != nil || b.Limit != 488281 || b.Period != 24*time.Hour {
		t.Errorf("%+v, %v", b, err)
	}
	for _, text := range []string{"500/1d", "1kB/1d", "2GiB/1h", "99999999999GB/1h", "MB/1h"} {
		if err := new(ByteRate).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// away is a store that can't be reached.
type away struct{ Store }

var errAway = fmt.Errorf("%w: connection refused", state.ErrAway)

func (away) Take(context.Context, string, state.Rate, int) (time.Duration, error) { return 0, errAway }

func TestAway(t *testing.T) {
	f, err := New(Config{Client: Limits{Connections: rate(1, time.Hour)}, Timeout: time.Second, OnError: filters.Continue}, away{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	k := &kit{}
	c := f.Open()
	defer c.Close()
	r, err := c.Check(t.Context(), &mail.Transaction{Stage: mail.StageConnect, Session: k.session("192.0.2.1")})
	if !errors.Is(err, state.ErrAway) || len(r.Findings) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
