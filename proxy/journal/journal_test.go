package journal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

const text = "From: alice@sender.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@sender.example>\r\n\r\n.a line with a dot\r\nGr\xfc\xdfe\r\n"

func path(t testing.TB, s string) mail.Path {
	t.Helper()
	a, err := mail.ParseAddress(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return mail.Path{Address: a}
}

func transaction(t testing.TB) *mail.Transaction {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return &mail.Transaction{
		ID: "0000000000BBBBBBBBBBBB", Stage: mail.StageMessage, Message: m,
		Session:  &mail.Session{Listener: "mx", Client: netip.MustParseAddrPort("192.0.2.1:4711"), Name: "client.example", Helo: "client.example"},
		Envelope: mail.Envelope{Sender: path(t, "alice@sender.example"), Recipients: []mail.Path{path(t, "bob@example.com"), path(t, "carol@lists.example.com")}},
	}
}

// judge answers Message with one verdict.
type judge struct {
	mail.Handler
	verdict mail.Verdict
}

func (j judge) Message(context.Context, *mail.Transaction) mail.Verdict { return j.verdict }

type told []string

func (t *told) Accepted(ids ...string) { *t = append(*t, ids...) }

func set(t testing.TB, deps Deps, configs ...Config) *Set {
	t.Helper()
	for i := range configs {
		configs[i].Name, configs[i].Hostname = "legal", "mx1.example.com"
	}
	deps.Log = slog.New(slog.DiscardHandler)
	s, err := New(configs, deps)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(); err != nil {
		t.Fatal(err)
	}
	return s
}

// parts takes a copy apart with a parser that is not ours.
func parts(t testing.TB, b []byte) (facts, original string) {
	t.Helper()
	m, err := netmail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	var out []string
	for {
		p, err := r.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	if len(out) != 2 {
		t.Fatalf("%d parts:\n%s", len(out), b)
	}
	return out[0], out[1]
}

func files(t testing.TB, dir string) (out [][]byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	return out
}

func TestMaildir(t *testing.T) {
	tagged := mail.Verdict{Edits: []mail.Edit{mail.InsertHeader{Field: mail.NewField("X-Spam-Flag", "YES")}}}
	rejected := mail.Verdict{Action: mail.Reject}
	some := mail.Verdict{Action: mail.Reject, Recipients: []mail.Verdict{{}, {Action: mail.Discard}}}
	some.Action = mail.Discard
	tests := []struct {
		name     string
		cfg      Config
		verdict  mail.Verdict
		copies   int
		contains string // of the facts
		original string
	}{
		{"before, delivered", Config{When: Before}, tagged, 1, "Recipient: <carol@lists.example.com>\r\n", text},
		{"before, refused", Config{When: Before}, rejected, 1, "Client: client.example[192.0.2.1]\r\n", text},
		{"after, delivered", Config{When: After}, tagged, 1, "Recipient: <bob@example.com> (accepted)\r\n", "X-Spam-Flag: YES\r\n" + text},
		{"after, refused", Config{When: After}, rejected, 0, "", ""},
		{"after, discarded for one", Config{When: After}, some, 1, "Recipient: <carol@lists.example.com> (discarded)\r\n", text},
		{"this listener", Config{Listeners: []string{"mx"}}, tagged, 1, "Sender: <alice@sender.example>\r\n", text},
		{"another listener", Config{Listeners: []string{"submission"}}, tagged, 0, "", ""},
		{"this sender", Config{Senders: []string{"Alice@Sender.example"}}, tagged, 1, "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n", text},
		{"another sender", Config{Senders: []string{"example.com"}}, tagged, 0, "", ""},
		{"a domain below", Config{Recipients: []string{"example.org", ".example.com"}}, tagged, 1, "Message-ID: <1@sender.example>\r\n", text},
		{"the domain itself is not below", Config{Recipients: []string{".lists.example.com"}}, tagged, 0, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "journal")
			tt.cfg.Maildir = dir
			h := set(t, Deps{}, tt.cfg).Handler(judge{verdict: tt.verdict})
			if v := h.Message(t.Context(), transaction(t)); v.Action != tt.verdict.Action {
				t.Errorf("%v %s", v.Action, v.Reason)
			}
			got := files(t, dir)
			if len(got) != tt.copies {
				t.Fatalf("%d copies, want %d", len(got), tt.copies)
			}
			if tt.copies == 0 {
				return
			}
			facts, original := parts(t, got[0])
			if !strings.Contains(facts, tt.contains) || original != tt.original {
				t.Errorf("facts:\n%s\nwant %q\noriginal:\n%q\nwant\n%q", facts, tt.contains, original, tt.original)
			}
		})
	}
}

// A message that is judged again is the one that came, with another outcome.
func TestJudgedAgain(t *testing.T) {
	for when, want := range map[When]int{Before: 0, After: 1} {
		dir := t.TempDir()
		tx := transaction(t)
		tx.Session.Again = true
		set(t, Deps{}, Config{Maildir: dir, When: when}).Handler(judge{}).Message(t.Context(), tx)
		if n := len(files(t, dir)); n != want {
			t.Errorf("%s: %d copies, want %d", when, n, want)
		}
	}
}

// A message without its copy is put off; one that is refused anyway is refused.
func TestCopyFails(t *testing.T) {
	for _, tt := range []struct {
		name    string
		onError OnError
		when    When
		verdict mail.Action
		want    mail.Action
	}{
		{"put off", TempFail, Before, mail.Continue, mail.TempFail},
		{"put off after", TempFail, After, mail.Quarantine, mail.TempFail},
		{"refused", TempFail, Before, mail.Reject, mail.Reject},
		{"let through", Continue, Before, mail.Accept, mail.Accept},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := set(t, Deps{}, Config{Maildir: dir, When: tt.when, OnError: tt.onError})
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			v := s.Handler(judge{verdict: mail.Verdict{Action: tt.verdict}}).Message(t.Context(), transaction(t))
			if v.Action != tt.want || v.Action == mail.TempFail && v.Reply.Code != 451 {
				t.Errorf("%v, want %v: %+v", v.Action, tt.want, v)
			}
		})
	}
}

func TestQueuedCopy(t *testing.T) {
	sp, err := spool.Open(spool.Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sp.Run(ctx) }()
	defer func() {
		cancel()
		if err := errors.Join(<-done, sp.Close()); err != nil {
			t.Error(err)
		}
	}()
	var ids told
	h := set(t, Deps{Spool: sp, Queue: &ids}, Config{To: "archive@example.com"}).Handler(judge{})
	h.Message(t.Context(), transaction(t))
	if len(ids) != 1 {
		t.Fatalf("queued: %v", ids)
	}
	m, err := sp.Get(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if !m.Envelope.Sender.IsNull() || m.Envelope.Recipients[0].String() != "archive@example.com" || m.Origin != spool.FromJournal || m.Group != "0000000000BBBBBBBBBBBB" {
		t.Errorf("%+v", m.Entry)
	}
	c, err := sp.Open(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if facts, original := parts(t, b.Bytes()); original != text || !strings.HasPrefix(facts, "Sender: <alice@sender.example>\r\n") {
		t.Errorf("%s\n%q", facts, original)
	}
}

func TestBadConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"nowhere", Config{}, "one of the two"},
		{"twice", Config{To: "a@b.example", Maildir: "/x"}, "one of the two"},
		{"a relative path", Config{Maildir: "journal"}, "no absolute path"},
		{"no address", Config{To: "archive"}, "no address"},
		{"no domain", Config{To: "a@b.example", Senders: []string{"ok.example", "-bad-"}}, "senders[1]"},
		{"no time", Config{To: "a@b.example", When: "during"}, "not one of before, after"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.cfg.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
