package sign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"gatepost/filters"
	"gatepost/internal/arc"
	"gatepost/internal/dkim"
	"gatepost/internal/dns"
	"gatepost/internal/mail"
)

// rig is a Signer with its keys, and a DNS that has them.
type rig struct {
	t       *testing.T
	cfg     Config
	records map[string]string
	away    bool
	now     time.Time
}

func newRig(t *testing.T) *rig {
	cfg := DefaultConfig()
	cfg.Hostname = "mx.example.com"
	cfg.DKIM.Key = make(map[string]Key)
	return &rig{t: t, cfg: cfg, records: make(map[string]string), now: time.Date(2030, 6, 15, 12, 0, 0, 0, time.UTC)}
}

func (r *rig) LookupTXT(_ context.Context, name string) ([]string, bool, error) {
	text, ok := r.records[name]
	switch {
	case r.away:
		return nil, false, errors.New("no answer")
	case !ok:
		return nil, false, dns.ErrNoName
	}
	return []string{text}, false, nil
}

// key adds a key to the configuration, its file and its record.
func (r *rig) key(name, domain string, kind dkim.KeyType, edit func(*Key)) {
	r.t.Helper()
	private, err := dkim.Generate(kind, 1024)
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := dkim.EncodeKey(private)
	if err != nil {
		r.t.Fatal(err)
	}
	k := Key{Domain: domain, Selector: name, File: filepath.Join(r.t.TempDir(), "key")}
	if err := os.WriteFile(k.File, text, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if edit != nil {
		edit(&k)
	}
	r.cfg.DKIM.Key[name] = k
	one := dkim.Key{Domain: domain, Selector: name, Private: private}
	if r.records[one.Name()], err = one.Record(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) signer() *Signer {
	r.t.Helper()
	s, err := Load(r.cfg, Deps{Resolver: r, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return r.now }})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// holds returns d= and s= of the signatures that go-msgauth takes.
func (r *rig) holds(m *mail.Message) string {
	r.t.Helper()
	all, err := msgauth.VerifyWithOptions(m.Reader(), &msgauth.VerifyOptions{LookupTXT: func(name string) ([]string, error) { return []string{r.records[name]}, nil }})
	if err != nil {
		r.t.Fatal(err)
	}
	var good []string
	for _, v := range all {
		if v.Err != nil {
			r.t.Errorf("d=%s: %v", v.Domain, v.Err)
		}
		good = append(good, v.Domain)
	}
	return strings.Join(good, " ")
}

func parsed(t *testing.T, text string) *mail.Message {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const letter = "From: Alice <alice@example.com>\r\nTo: bob@example.net\r\nSubject: x\r\nDate: Sat, 15 Jun 2030 12:00:00 +0000\r\n\r\nhello\r\n"

func user() *mail.Session { return &mail.Session{User: "alice"} }

// finish returns the message with what the Signer adds.
func finish(t *testing.T, s *Signer, session *mail.Session, m *mail.Message) *mail.Message {
	t.Helper()
	edits, err := s.Finish(t.Context(), &mail.Transaction{ID: "x", Session: session, Message: m}, mail.Verdict{})
	if err != nil {
		t.Fatal(err)
	}
	_, m = mail.Apply(mail.Envelope{}, m, edits)
	return m
}

func TestWhoIsSigned(t *testing.T) {
	r := newRig(t)
	r.key("a", "example.com", dkim.RSA, nil)
	r.cfg.DKIM.Except = []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32")}
	s := r.signer()
	at := func(ip string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), 25) }
	for _, tt := range []struct {
		name    string
		session *mail.Session
		want    string
	}{
		{"a user", &mail.Session{User: "alice", Client: at("192.0.2.1")}, "example.com"},
		{"our network", &mail.Session{Trusted: true, Client: at("10.0.0.8")}, "example.com"},
		{"an open window", &mail.Session{Window: true}, "example.com"},
		{"a client certificate", &mail.Session{TLS: &mail.TLS{Relay: true}}, "example.com"},
		{"from outside, with our domain in From", &mail.Session{Client: at("192.0.2.1"), Helo: "mail.example.com", Name: "mail.example.com"}, ""},
		{"TLS from outside", &mail.Session{TLS: &mail.TLS{Verified: true}}, ""},
		{"our second MX", &mail.Session{Trusted: true, Client: at("10.0.0.7")}, ""},
		{"the same, as it is seen over IPv6", &mail.Session{Trusted: true, Client: at("::ffff:10.0.0.7")}, ""},
		{"a user behind it", &mail.Session{User: "alice", Trusted: true, Client: at("10.0.0.7")}, "example.com"},
		{"nobody", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := r.holds(finish(t, s, tt.session, parsed(t, letter))); got != tt.want {
				t.Errorf("signed by %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAuthors(t *testing.T) {
	r := newRig(t)
	r.key("a", "example.com", dkim.RSA, func(k *Key) { k.Subdomains = true })
	r.key("b", "own.example.com", dkim.RSA, nil)
	r.key("c", "example.org", dkim.RSA, nil)
	s := r.signer()
	from := func(fields string) string {
		return strings.Replace(letter, "From: Alice <alice@example.com>", fields, 1)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"ours", letter, "example.com"},
		{"in capitals", from("FROM: <A@EXAMPLE.COM>"), "example.com"},
		{"below, by the key above", from("From: a@x.y.example.com"), "example.com"},
		{"below, with a key of its own", from("From: a@own.example.com"), "own.example.com"},
		{"below that: the nearest has no subdomains", from("From: a@x.own.example.com"), "example.com"},
		{"below one without subdomains", from("From: a@x.example.org"), ""},
		{"a longer name", from("From: a@notexample.com"), ""},
		{"two of one domain", from("From: a@example.com, b@example.com"), "example.com"},
		{"two domains", from("From: a@example.com, b@example.org"), ""},
		{"two fields", from("From: a@example.com\r\nFrom: b@example.com"), ""},
		{"two fields, one with a blank", from("From: a@example.com\r\nFrom : b@example.com"), ""},
		{"none", from("X-From: a@example.com"), ""},
		{"rubbish", from("From: a@example.com evil@example.org"), ""},
		{"our name in the text", from("From: \"a@example.com\" <evil@evil.test>"), ""},
		{"8 bit in the text", from("From: \xc3\x89ve <a@example.com>"), "example.com"},
		{"bare CR in a field that is signed", from("From: a@example.com\r\nReply-To: x\ry"), ""},
		{"bare LF", from("From: a@example.com\r\nCc: x\ny"), ""},
		{"NUL", from("From: a@example.com\r\nReply-To: x\x00y"), ""},
		{"bare CR where nobody signs", from("From: a@example.com\r\nX-A: x\ry"), "example.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := r.holds(finish(t, s, user(), parsed(t, tt.text))); got != tt.want {
				t.Errorf("signed by %q, want %q", got, tt.want)
			}
		})
	}
}

func day(s string) Day {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return Day{t}
}

func TestRotation(t *testing.T) {
	r := newRig(t)
	r.key("old", "example.com", dkim.RSA, func(k *Key) { k.Until = day("2030-08-01") })
	r.key("next", "example.com", dkim.RSA, func(k *Key) { k.From = day("2030-07-01") })
	r.key("spare", "example.com", dkim.RSA, func(k *Key) { k.Use = UsePublish })
	r.key("ed", "example.com", dkim.Ed25519, nil)
	r.key("gone", "example.net", dkim.RSA, func(k *Key) { k.Until = day("2030-01-01") })
	s := r.signer()
	for _, tt := range []struct{ at, want string }{
		{"2030-06-30", "old ed"},
		{"2030-07-01", "next ed"},
		{"2030-08-01", "next ed"},
		{"2029-01-01", "old ed"},
	} {
		r.now = day(tt.at).Time
		m := finish(t, s, user(), parsed(t, letter))
		var got []string
		for _, f := range m.Header {
			if f.Is("DKIM-Signature") {
				tags, err := dkim.ParseTags(f.Value())
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, tags["s"])
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v, want %s", tt.at, got, tt.want)
		}
	}
	r.now = day("2030-06-30").Time
	if got := r.holds(finish(t, s, user(), parsed(t, strings.Replace(letter, "example.com", "example.net", 1)))); got != "" {
		t.Errorf("a key that is over signs: %s", got)
	}
}

func TestClashes(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Key)
		want string
	}{
		{"two that sign", nil, "would both sign"},
		{"one publishes", func(k *Key) { k.Use = UsePublish }, ""},
		{"one from a day on", func(k *Key) { k.From = day("2030-01-01") }, ""},
		{"one selector", func(k *Key) { k.Selector = "a"; k.Use = UsePublish }, "one selector"},
	} {
		r := newRig(t)
		r.key("a", "example.com", dkim.RSA, nil)
		r.key("b", "example.com", dkim.RSA, tt.edit)
		_, err := Load(r.cfg, Deps{})
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// A notification of ours is signed where our host's domain has a key.
func TestNotification(t *testing.T) {
	r := newRig(t)
	r.key("a", "example.com", dkim.RSA, func(k *Key) { k.Subdomains = true })
	m := parsed(t, strings.Replace(letter, "alice@example.com", "MAILER-DAEMON@mx.example.com", 1))
	h, err := r.signer().Notification(m.Header, m.Body(), m.BodySize())
	if err != nil {
		t.Fatal(err)
	}
	if got := r.holds(mail.NewMessage(h, m.Body(), m.BodySize())); got != "example.com" {
		t.Errorf("signed by %q", got)
	}
}

// counting says how often a body was read from its beginning.
type counting struct {
	*bytes.Reader
	reads int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	if off == 0 {
		c.reads++
	}
	return c.Reader.ReadAt(p, off)
}

// policy gives each recipient a subject of his own.
type policy struct{}

func (policy) Decide(tx *mail.Transaction, _ *mail.Path) mail.Verdict {
	if tx.Message == nil {
		return mail.Verdict{}
	}
	v := mail.Verdict{Action: mail.Accept}
	for i := range tx.Envelope.Recipients {
		v.Recipients = append(v.Recipients, mail.Verdict{Action: mail.Accept, Edits: []mail.Edit{mail.ChangeHeader{At: 2, Field: mail.NewField("Subject", fmt.Sprint("copy ", i))}}})
	}
	return v
}

func (policy) Settled(*mail.Transaction, []mail.Finding) bool { return false }

// Each copy is signed as it goes out, and their common body is read once.
func TestCopies(t *testing.T) {
	r := newRig(t)
	r.key("a", "example.com", dkim.RSA, nil)
	r.key("b", "example.com", dkim.Ed25519, nil)
	m, err := filters.New(filters.Config{Finishers: []filters.Finisher{r.signer()}}, nil, policy{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := m.Handler()
	defer h.Close()
	body := &counting{Reader: bytes.NewReader([]byte("hello\r\n"))}
	given := mail.NewMessage(parsed(t, letter).Header, body, body.Size())
	rcpts := []mail.Path{{Address: mail.Address{Local: "a", Domain: "x.test"}}, {Address: mail.Address{Local: "b", Domain: "x.test"}}}
	v := h.Message(t.Context(), &mail.Transaction{ID: "x", Stage: mail.StageMessage, Session: user(), Message: given, Envelope: mail.Envelope{Recipients: rcpts}})
	if body.reads != 1 {
		t.Errorf("the body was read %d times", body.reads)
	}
	for i := range rcpts {
		_, out := mail.Apply(mail.Envelope{}, given, v.For(i).Edits)
		if got := out.Header.Get("Subject"); got != fmt.Sprint("copy ", i) {
			t.Errorf("subject %q", got)
		}
		if got := r.holds(out); got != "example.com example.com" {
			t.Errorf("copy %d is signed by %q", i, got)
		}
	}
}

// A body that can't be read is no message to sign or to send.
func TestUnreadableBody(t *testing.T) {
	r := newRig(t)
	r.key("a", "example.com", dkim.RSA, nil)
	m := mail.NewMessage(parsed(t, letter).Header, strings.NewReader("short"), 100)
	if _, err := r.signer().Finish(t.Context(), &mail.Transaction{Session: user(), Message: m}, mail.Verdict{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error = %v", err)
	}
}

func TestSeal(t *testing.T) {
	found := []mail.Finding{
		{Name: mail.FindingSPF, Value: "pass", Text: "smtp.mailfrom=example.com"},
		{Name: "score", Value: "1"},
		{Name: mail.FindingDMARC, Value: "pass", Text: "header.from=example.com"},
	}
	body := []mail.Edit{mail.ReplaceBody{Body: strings.NewReader("hello\r\nfooter\r\n"), Size: 15}}
	ours := []mail.Edit{mail.InsertHeader{Field: mail.NewField("X-Spam-Status", "No")}}
	subject := []mail.Edit{mail.ChangeHeader{At: 2, Field: mail.NewField("Subject", "[x] x")}}
	r := newRig(t)
	r.key("seal", "example.com", dkim.RSA, nil)
	r.cfg.ARC = ARC{When: Always, Key: "seal"}
	m := parsed(t, letter)
	_, once := mail.Apply(mail.Envelope{}, m, r.sealed(m, nil, found, nil))
	broken := mail.NewMessage(once.Header, strings.NewReader("changed"), 7)
	for _, tt := range []struct {
		name     string
		when     When
		message  *mail.Message
		session  *mail.Session
		findings []mail.Finding
		edits    []mail.Edit
		away     bool
		want     int // sets that go out
	}{
		{"always", Always, m, nil, found, nil, false, 1},
		{"never", Never, m, nil, found, body, false, 0},
		{"changed: nothing is", Changed, m, nil, found, nil, false, 0},
		{"changed: our own fields", Changed, m, nil, found, ours, false, 0},
		{"changed: subject", Changed, m, nil, found, subject, false, 1},
		{"changed: body", Changed, m, nil, found, body, false, 1},
		{"a chain that holds, body changed", Changed, once, nil, found, body, false, 2},
		{"a broken chain", Always, broken, nil, found, nil, false, 1},
		{"a chain that can't be checked now", Always, once, nil, found, nil, true, 1},
		{"nobody looked who sent it", Always, m, nil, nil, nil, false, 0},
		{"mail of ours", Always, m, user(), found, nil, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.cfg.ARC.When, r.away = tt.when, tt.away
			edits := append([]mail.Edit(nil), tt.edits...)
			_, view := mail.Apply(mail.Envelope{}, tt.message, edits)
			_, out := mail.Apply(mail.Envelope{}, view, r.sealed(tt.message, tt.session, tt.findings, edits))
			r.away = false
			if n := out.Header.Count("ARC-Seal"); n != tt.want {
				t.Errorf("%d sets, want %d", n, tt.want)
			}
			if tt.want > 0 && tt.message != broken && !tt.away {
				if got := arc.Verify(t.Context(), out, r, arc.Limits{}); got.Value != arc.Pass || got.Sets[0].Results != "mx.example.com; spf=pass smtp.mailfrom=example.com; dmarc=pass header.from=example.com" {
					t.Errorf("%+v", got)
				}
			}
		})
	}
}

// sealed returns what the Signer adds to a message that edits changed.
func (r *rig) sealed(given *mail.Message, session *mail.Session, found []mail.Finding, edits []mail.Edit) []mail.Edit {
	r.t.Helper()
	s := r.signer()
	if session == nil {
		session = &mail.Session{Client: netip.MustParseAddrPort("192.0.2.1:25")}
	}
	_, view := mail.Apply(mail.Envelope{}, given, edits)
	more, err := s.For(given).Finish(r.t.Context(), &mail.Transaction{Session: session, Message: view, Findings: found}, mail.Verdict{Edits: edits})
	if err != nil {
		r.t.Fatal(err)
	}
	return more
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*DKIM)
		want string
	}{
		{"default", func(*DKIM) {}, ""},
		{"Received", func(d *DKIM) { d.Sign = []string{"Received"} }, "changed on the way"},
		{"a name with a blank", func(d *DKIM) { d.OverSign = []string{"Sub ject"} }, "no name"},
		{"a name with a colon", func(d *DKIM) { d.OverSign = []string{"a:b"} }, "no name"},
		{"a name with a line end", func(d *DKIM) { d.OverSign = []string{"a\r\nb"} }, "no name"},
		{"a short life", func(d *DKIM) { d.Expires = time.Minute }, "too short"},
	} {
		d := DefaultConfig().DKIM
		tt.edit(&d)
		err := d.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	r := newRig(t)
	r.key("ed", "example.com", dkim.Ed25519, nil)
	for _, tt := range []struct {
		arc  ARC
		want string
	}{{ARC{When: Always}, "missing"}, {ARC{When: Always, Key: "x"}, "no [dkim.key.x]"}, {ARC{When: Changed, Key: "ed"}, "Ed25519"}} {
		r.cfg.ARC = tt.arc
		if _, err := Load(r.cfg, Deps{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt.arc, err)
		}
	}
	if s, err := Load(DefaultConfig(), Deps{}); s != nil || err != nil {
		t.Errorf("nothing configured: %v, %v", s, err)
	}
}
