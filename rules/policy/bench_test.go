package policy

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// thousand are rules as sites have them: of each kind some, few that match.
func thousand(tb testing.TB) *Set {
	tb.Helper()
	var b strings.Builder
	b.WriteString("[list.bad]\ntype = \"domain\"\nentries = [\"evil.example\", \".evil.example\"]\n")
	for i := range 1000 {
		when := []string{
			`sender.domain == "d%d.example"`,
			`sender.domain in list("bad") and subject contains "offer %d"`,
			`subject matches "(?i)invoice.{0,20}%d\\b"`,
			`header("X-Mailer") contains "Bulk%d"`,
			`any(parts, .ext == "e%d")`,
			`cidr(client.ip, "192.0.2.0/24") and size > %d`,
			`any(urls, .host == "h%d.example") and score > 3`,
			`text contains "buy now %d"`,
			`rcpt.address == "u%d@example.com"`,
			`any(from.domains, # == "f%d.example") and dmarc == "fail"`,
		}[i%10]
		fmt.Fprintf(&b, "[[rule]]\nname = \"r%d\"\nwhen = '''%s'''\nscore = 1\n", i, fmt.Sprintf(when, i))
	}
	path := filepath.Join(tb.TempDir(), "rules.toml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	s, err := Load(Config{Files: []string{path}})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func usual(tb testing.TB) *mail.Transaction {
	tb.Helper()
	raw := "From: Some One <some@f.example>\r\nSubject: Your invoice of last week\r\nX-Mailer: Usual 1.0\r\n\r\n"
	m, err := mail.ReadMessage(bytes.NewReader([]byte(raw)), int64(len(raw)))
	if err != nil {
		tb.Fatal(err)
	}
	in := &mail.Inside{Text: strings.Repeat("Some words that people write to each other. ", 100)}
	for i := range 5 {
		in.Parts = append(in.Parts, mail.Part{Path: fmt.Sprint(i), Names: []string{fmt.Sprintf("a%d.pdf", i)}, Declared: "application/pdf"})
		in.URLs = append(in.URLs, mail.URL{Host: fmt.Sprintf("www%d.example", i)})
	}
	return &mail.Transaction{
		ID: "x", Stage: mail.StageMessage, Session: &mail.Session{}, Message: m, Inside: in,
		Envelope: mail.Envelope{Sender: mail.Path{Address: mail.Address{Local: "a", Domain: "d.example"}}, Recipients: []mail.Path{{Address: mail.Address{Local: "b", Domain: "example.com"}}}},
	}
}

// BenchmarkThousandRules is what 1,000 rules cost one message; the aim is 1 ms.
func BenchmarkThousandRules(b *testing.B) {
	s, tx := thousand(b), usual(b)
	b.ReportAllocs()
	for b.Loop() {
		if r := s.Begin(tx, 0).For(tx.Envelope.Recipients[0].Address); r.Failed != "" {
			b.Fatal(r.Failed)
		}
	}
}

func BenchmarkTenRecipients(b *testing.B) {
	s, tx := thousand(b), usual(b)
	for b.Loop() {
		run := s.Begin(tx, 0)
		for i := range 10 {
			run.For(mail.Address{Local: fmt.Sprint("u", i), Domain: "example.com"})
		}
	}
}

func BenchmarkLoadThousand(b *testing.B) {
	for b.Loop() {
		thousand(b)
	}
}

// BenchmarkListLoad reads a list of a million entries.
func BenchmarkListLoad(b *testing.B) {
	dir := b.TempDir()
	var text bytes.Buffer
	for i := range 1_000_000 {
		fmt.Fprintf(&text, "host%d.example\n", i)
	}
	list, rules := filepath.Join(dir, "hosts.list"), filepath.Join(dir, "rules.toml")
	if os.WriteFile(list, text.Bytes(), 0o600) != nil || os.WriteFile(rules, []byte("[list.hosts]\ntype = \"host\"\nfile = \"hosts.list\"\n"), 0o600) != nil {
		b.Fatal("write")
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(Config{Files: []string{rules}}); err != nil {
			b.Fatal(err)
		}
	}
}
