package greylist

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"
	"gatepost/internal/state"
)

type kit struct {
	f   *Filter
	now time.Time
}

func load(t *testing.T, change func(*Config)) *kit {
	t.Helper()
	k := &kit{now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	var err error
	if k.f, err = Load(cfg, state.NewMemory(func() time.Time { return k.now }), nil); err != nil {
		t.Fatal(err)
	}
	return k
}

func delivery(client, from, to string) *mail.Transaction {
	address := func(s string) mail.Path { a, _ := mail.ParseAddress(s, false); return mail.Path{Address: a} }
	return &mail.Transaction{
		Stage:    mail.StageRcpt,
		Session:  &mail.Session{Client: netip.AddrPortFrom(netip.MustParseAddr(client), 25000), Via: mail.ViaSMTP},
		Envelope: mail.Envelope{Sender: address(from), Recipients: []mail.Path{address("other@example.com"), address(to)}},
	}
}

// try says what a try came to: "pass", "wait", "returned", "not asked".
func (k *kit) try(t *testing.T, tx *mail.Transaction) string {
	t.Helper()
	c := k.f.Open()
	defer c.Close()
	if !c.Wants(tx) {
		return "not asked"
	}
	r, err := c.Check(t.Context(), tx)
	switch {
	case err != nil:
		t.Fatal(err)
	case len(r.Findings) == 0:
		return "pass"
	case r.Findings[0].Rcpt != recipient(tx):
		t.Errorf("finding %+v is of another recipient", r.Findings[0])
	}
	if r.Findings[0].Name == mail.FindingGreylisted {
		return "wait " + r.Findings[0].Value
	}
	return r.Findings[0].Name
}

func TestForms(t *testing.T) {
	type step struct {
		after            time.Duration
		client, from, to string
		want             string
	}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		steps  []step
	}{
		{"a server that comes again", nil, []step{
			{0, "192.0.2.1", "a@x.org", "b@example.com", "wait 5m1s"},
			{time.Minute, "192.0.2.1", "a@x.org", "b@example.com", "wait 4m1s"},
			{4 * time.Minute, "192.0.2.1", "a@x.org", "b@example.com", "returned"},
			{time.Hour, "192.0.2.1", "A@X.org", "B@example.com", "pass"},
			{35 * day, "192.0.2.200", "a@x.org", "b@example.com", "pass"},
			{35 * day, "192.0.2.200", "a@x.org", "b@example.com", "pass"},
			{37 * day, "192.0.2.200", "a@x.org", "b@example.com", "wait 5m1s"},
		}},
		{"too late", nil, []step{
			{0, "192.0.2.1", "a@x.org", "b@example.com", "wait 5m1s"},
			{13 * time.Hour, "192.0.2.1", "a@x.org", "b@example.com", "wait 5m1s"},
		}},
		{"other sender, recipient, network", nil, []step{
			{0, "192.0.2.1", "a@x.org", "b@example.com", "wait 5m1s"},
			{6 * time.Minute, "192.0.2.1", "c@x.org", "b@example.com", "wait 5m1s"},
			{0, "192.0.2.1", "a@x.org", "c@example.com", "wait 5m1s"},
			{0, "192.0.3.1", "a@x.org", "b@example.com", "wait 5m1s"},
			{0, "192.0.2.77", "a@x.org", "b@example.com", "returned"},
		}},
		{"a list that numbers its senders", nil, []step{
			{0, "192.0.2.1", "list-bounces-123-bob=example.com@x.org", "b@example.com", "wait 5m1s"},
			{6 * time.Minute, "192.0.2.1", "list-bounces-9988-bob=example.com@x.org", "b@example.com", "returned"},
		}},
		{"IPv6", nil, []step{
			{0, "2001:db8:1:2::1", "", "b@example.com", "wait 5m1s"},
			{6 * time.Minute, "2001:db8:1:2:ffff::9", "", "b@example.com", "returned"},
			{0, "2001:db8:1:3::1", "", "b@example.com", "wait 5m1s"},
		}},
		{"auto-allow", func(c *Config) { c.AutoAllow = 2 }, []step{
			{0, "192.0.2.1", "a@x.org", "b@example.com", "wait 5m1s"},
			{0, "192.0.2.1", "a@x.org", "c@example.com", "wait 5m1s"},
			{6 * time.Minute, "192.0.2.1", "a@x.org", "b@example.com", "returned"},
			{0, "192.0.2.1", "a@x.org", "d@example.com", "wait 5m1s"},
			{0, "192.0.2.1", "a@x.org", "c@example.com", "returned"},
			{0, "192.0.2.9", "z@y.org", "e@example.com", "pass"},
			{0, "192.0.9.9", "z@y.org", "e@example.com", "wait 5m1s"},
		}},
		{"networks", func(c *Config) { c.Form = ByNetwork; c.NetworkV4 = 32 }, []step{
			{0, "192.0.2.1", "a@x.org", "b@example.com", "wait 5m1s"},
			{6 * time.Minute, "192.0.2.1", "z@y.org", "c@example.com", "returned"},
			{0, "192.0.2.1", "q@q.org", "q@example.com", "pass"},
			{0, "192.0.2.2", "q@q.org", "q@example.com", "wait 5m1s"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := load(t, tt.change)
			for i, s := range tt.steps {
				k.now = k.now.Add(s.after)
				if got := k.try(t, delivery(s.client, s.from, s.to)); got != s.want {
					t.Errorf("step %d: %s, want %s", i, got, s.want)
				}
			}
		})
	}
}

func TestNever(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "networks")
	if err := os.WriteFile(file, []byte("# ours\n198.51.100.0/24\n\n2001:db8:5::/48 # theirs\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	k := load(t, func(c *Config) {
		c.Networks = []string{"203.0.113.7", "file:" + file}
		c.Clients = []string{".google.com", "mx.bank.org"}
		c.Senders = []string{"boss@example.org", "bücher.de"}
		c.Recipients = []string{"abuse@example.com"}
	})
	for name, tt := range map[string]struct {
		change func(*mail.Transaction)
		asked  bool
	}{
		"a stranger":             {func(*mail.Transaction) {}, true},
		"trusted":                {func(tx *mail.Transaction) { tx.Session.Trusted = true }, false},
		"logged in":              {func(tx *mail.Transaction) { tx.Session.User = "joe" }, false},
		"a relay window":         {func(tx *mail.Transaction) { tx.Session.Window = true }, false},
		"judged once more":       {func(tx *mail.Transaction) { tx.Session.Again = true }, false},
		"a file":                 {func(tx *mail.Transaction) { tx.Session.Via = mail.ViaScan }, false},
		"a unix socket":          {func(tx *mail.Transaction) { tx.Session.Client = netip.AddrPort{} }, false},
		"this host":              {func(tx *mail.Transaction) { tx.Session.Client = netip.MustParseAddrPort("[::1]:9") }, false},
		"on a DNS allow list":    {func(tx *mail.Transaction) { tx.Findings = []mail.Finding{{Name: mail.FindingAllowed}} }, false},
		"on a DNS block list":    {func(tx *mail.Transaction) { tx.Findings = []mail.Finding{{Name: mail.FindingListed}} }, true},
		"an address":             {func(tx *mail.Transaction) { tx.Session.Client = netip.MustParseAddrPort("203.0.113.7:9") }, false},
		"its neighbour":          {func(tx *mail.Transaction) { tx.Session.Client = netip.MustParseAddrPort("203.0.113.8:9") }, true},
		"a network of a file":    {func(tx *mail.Transaction) { tx.Session.Client = netip.MustParseAddrPort("198.51.100.8:9") }, false},
		"IPv6 of a file":         {func(tx *mail.Transaction) { tx.Session.Client = netip.MustParseAddrPort("[2001:db8:5:1::8]:9") }, false},
		"a verified name":        {func(tx *mail.Transaction) { tx.Session.Name = "mail-1.google.com" }, false},
		"a name that is claimed": {func(tx *mail.Transaction) { tx.Session.PTR = "mail-1.google.com" }, true},
		"not below, the name":    {func(tx *mail.Transaction) { tx.Session.Name = "google.com" }, true},
		"below, the name only":   {func(tx *mail.Transaction) { tx.Session.Name = "x.mx.bank.org" }, true},
		"a sender": {func(tx *mail.Transaction) {
			tx.Envelope.Sender.Local, tx.Envelope.Sender.Domain = "Boss", "example.org"
		}, false},
		"a sender's domain":  {func(tx *mail.Transaction) { tx.Envelope.Sender.Domain = "xn--bcher-kva.de" }, false},
		"a recipient":        {func(tx *mail.Transaction) { tx.Envelope.Recipients[1].Local = "abuse" }, false},
		"beside a recipient": {func(tx *mail.Transaction) { tx.Envelope.Recipients[0].Local = "abuse" }, true},
		"another stage":      {func(tx *mail.Transaction) { tx.Stage = mail.StageMail }, false},
	} {
		tx := delivery("192.0.2.1", "a@x.org", "b@example.com")
		tt.change(tx)
		if got := k.f.Open().Wants(tx); got != tt.asked {
			t.Errorf("%s: asked = %v", name, got)
		}
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("example.com\n# x\na b\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"defaults", func(*Config) {}, ""},
		{"form", func(c *Config) { c.Form = "pair" }, `form: "pair" is not one of`},
		{"window before delay", func(c *Config) { c.Window = c.Delay }, "window: 5m0s"},
		{"keep", func(c *Config) { c.Keep = time.Hour }, "keep: 1h0m0s"},
		{"bits", func(c *Config) { c.NetworkV4 = 0; c.NetworkV6 = 129 }, "network_v6: 129"},
		{"a host with bits", func(c *Config) { c.Networks = []string{"192.0.2.1/24"} }, "networks[0]: \"192.0.2.1/24\" names a host"},
		{"no network", func(c *Config) { c.Networks = []string{"192.0.2"} }, "is no network"},
		{"a client's mailbox", func(c *Config) { c.Clients = []string{"a@b.org"} }, "clients[0]"},
		{"a file's line", func(c *Config) { c.Senders = []string{"file:" + bad} }, bad + `:3: "a b" is no domain`},
		{"no file", func(c *Config) { c.Senders = []string{"file:" + dir + "/none"} }, "no such file"},
	} {
		cfg := DefaultConfig()
		tt.change(&cfg)
		_, err := Load(cfg, nil, nil)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// away is a store that can't be reached.
type away struct{}

func (away) Grey(context.Context, state.Triple) (state.Grey, error) {
	return state.Grey{}, state.ErrAway
}
func (away) Get(context.Context, state.Set, ...string) (state.Entry, bool, error) {
	return state.Entry{}, false, state.ErrAway
}

// policy refuses one recipient, and greylists.
type policy struct{}

func (policy) Decide(tx *mail.Transaction, rcpt *mail.Path) mail.Verdict {
	if rcpt != nil && rcpt.Local == "nobody" {
		return mail.Verdict{Action: mail.Reject}
	}
	for _, f := range tx.Find(mail.FindingGreylisted) {
		if rcpt != nil && f.Rcpt == rcpt.Address {
			return mail.Verdict{Action: mail.TempFail}
		}
	}
	return mail.Verdict{Action: mail.Accept}
}
func (policy) Settled(*mail.Transaction, []mail.Finding) bool { return false }

// Within the multiplexer: a store that is away stops no mail, and a recipient
// that is refused is not remembered.
func TestInPlace(t *testing.T) {
	ask := func(store Store, to string) (mail.Verdict, *mail.Transaction) {
		f, err := Load(DefaultConfig(), store, nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := filters.New(filters.DefaultConfig(), []filters.Step{f.Step()}, policy{}, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		h := m.Handler()
		defer h.Close()
		tx := delivery("192.0.2.1", "a@x.org", to)
		rcpt := tx.Envelope.Recipients[1]
		tx.Envelope.Recipients = nil
		return h.Rcpt(t.Context(), tx, rcpt), tx
	}
	v, tx := ask(away{}, "b@example.com")
	if v.Action != mail.Accept || len(tx.Find(mail.FindingFailed)) != 1 || tx.Findings[0].Value != "continue" {
		t.Errorf("the store is away: %+v, %+v", v, tx.Findings)
	}
	store := &noted{Store: state.NewMemory(nil)}
	if v, _ := ask(store, "nobody@example.com"); v.Action != mail.Reject || len(store.keys) != 0 {
		t.Errorf("refused: %+v, remembered %q", v, store.keys)
	}
	if v, _ := ask(store, "b@example.com"); v.Action != mail.TempFail || len(store.keys) != 1 {
		t.Errorf("first: %+v, remembered %q", v, store.keys)
	}
	if err := (&Filter{store: away{}}).Ping(t.Context()); !errors.Is(err, state.ErrAway) {
		t.Errorf("Ping = %v", err)
	}
}

// standIn answers for a store that is away.
type standIn struct {
	*state.Memory
	why error
}

func (s *standIn) Away() error { return s.why }

// While the store is away its stand-in puts nobody off, and knows whom it knew.
func TestStandIn(t *testing.T) {
	now := time.Now()
	s := &standIn{Memory: state.NewMemory(func() time.Time { return now })}
	f, err := Load(DefaultConfig(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	k := &kit{f: f}
	known, fresh := delivery("192.0.2.1", "a@x.org", "b@example.com"), delivery("192.0.3.1", "a@x.org", "b@example.com")
	if got := k.try(t, known); got != "wait 5m1s" {
		t.Fatal(got)
	}
	now = now.Add(6 * time.Minute)
	if got := k.try(t, known); got != "returned" {
		t.Fatal(got)
	}
	s.why = state.ErrAway
	if got := k.try(t, known); got != "pass" {
		t.Errorf("known: %s", got)
	}
	if r, err := f.Open().Check(t.Context(), fresh); !errors.Is(err, state.ErrAway) || len(r.Findings) > 0 {
		t.Errorf("new: %+v, %v", r, err)
	}
	if err := f.Ping(t.Context()); !errors.Is(err, state.ErrAway) {
		t.Errorf("Ping = %v", err)
	}
}

type noted struct {
	Store
	keys []string
}

func (n *noted) Grey(ctx context.Context, t state.Triple) (state.Grey, error) {
	n.keys = append(n.keys, t.Key)
	return n.Store.Grey(ctx, t)
}
