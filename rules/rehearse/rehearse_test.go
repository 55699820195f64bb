package rehearse_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/rules"
	"gatepost/rules/rehearse"
)

const inUse = `
[[rule]]
name = "no-invoices-at-night"
when = 'subject contains "invoice" and time.hour < 6'
score = 3
[[rule]]
name = "blocked"
from = ["list:bad"]
action = "reject"
[list.bad]
type = "domain"
entries = ["bad.example"]
[[rule]]
name = "zip"
when = 'any(parts, .archive == "zip")'
tag = "[ZIP]"
`

// setOf loads rules for example.com; each has a file of its own.
func setOf(t testing.TB, text string) *rules.Set {
	t.Helper()
	path := filepath.Join(t.TempDir(), "site.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := rules.DefaultConfig()
	cfg.Relay.Domains = []string{"example.com"}
	cfg.Files.Files = []string{path}
	s, err := rules.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// recorded is what the rules in use make of the n-th message, as it is kept.
func recorded(t testing.TB, n int, set *rules.Set) history.Record {
	t.Helper()
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * 7 * time.Second)
	h, _, err := mail.SplitHeader(fmt.Appendf(nil, "From: a%d@example.org\r\nSubject: invoice number %d\r\nMessage-ID: <%d@example.org>\r\n\r\n", n, n, n))
	if err != nil {
		t.Fatal(err)
	}
	tx := &mail.Transaction{
		ID: mail.NewID(at), Stage: mail.StageMessage, Start: at,
		Session: &mail.Session{Listener: "mx", Via: mail.ViaSMTP, Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 4000), Name: "mail.example.org", Resolve: mail.ResolveOK, Helo: "mail.example.org", ESMTP: true, Start: at},
		Message: mail.NewMessage(h, strings.NewReader("body\r\n"), 6),
		Inside:  &mail.Inside{Parts: []mail.Part{{Path: "1", Names: []string{"a.zip"}, Archive: map[bool]string{true: "zip"}[n%5 == 0], SHA256: fmt.Sprintf("%064x", n)}}},
		Findings: []mail.Finding{
			{Filter: "clamav", Name: mail.FindingClean}, {Filter: "spamassassin", Name: mail.FindingSpamScore, Score: float64(n%20) / 2},
		},
		Asked: []mail.Asked{{Filter: "clamav", Stage: mail.StageMessage, Result: "ok"}, {Filter: "spamassassin", Stage: mail.StageMessage, Result: "ok"}},
	}
	sender := fmt.Sprintf("s@host%d.example", n%100)
	if n%50 == 0 {
		sender = "s@bad.example"
	}
	tx.Envelope.Sender.Address = address(t, sender)
	for i := range 1 + n%3 {
		tx.Envelope.Recipients = append(tx.Envelope.Recipients, mail.Path{Address: address(t, fmt.Sprintf("u%d@example.com", i))})
	}
	v := set.Decide(tx, nil)
	r := history.Make(tx, v, mail.Answer{Stage: mail.StageMessage, Action: v.Action, Reply: v.Reply, Reason: v.Reason}, nil, at.Add(time.Second))
	r.Generation = "2026-11-01T00:00:00.000Z/" + set.Generation()
	return r
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// records are a history in memory.
type records []history.Record

func (all records) Each(_ context.Context, _ history.Query, yield func(history.Record) error) error {
	for _, r := range all {
		if err := yield(r); err != nil {
			return err
		}
	}
	return nil
}

func run(t testing.TB, old, fresh *rules.Set, from rehearse.Source) rehearse.Report {
	t.Helper()
	r, err := rehearse.Run(context.Background(), old, fresh, from, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRehearse(t *testing.T) {
	const n = 600
	old := setOf(t, inUse)
	var all records
	for i := range n {
		all = append(all, recorded(t, i, old))
	}
	tests := []struct {
		name, rules string
		differing   int
		groups      string // rule old → new messages/recipients
		hits        string // rules that match other messages than before
	}{
		{"the same rules", inUse, 0, "", ""},
		{"the same on other lines", "\n\n# moved\n" + inUse, 0, "", ""},
		{"a rule for one recipient", inUse + "[[rule]]\nname = \"u2\"\nto = \"u2@example.com\"\naction = \"hold\"\n", 136, "u2 deliver → quarantine 110/110; u2 deliver, altered → quarantine 26/26", "u2 0 → 200"},
		{"a rule is gone", strings.Replace(inUse, `"bad.example"`, `"gone.example"`, 1), 12, "blocked reject → deliver, altered 12/24", "blocked 12 → 0; list:bad: bad.example 12 → 0"},
		{"an observing rule", inUse + "[[rule]]\nname = \"watch\"\nwhen = 'any(parts, .archive == \"zip\")'\naction = \"reject\"\nmode = \"observe\"\n", 0, "", "watch 0 → 120"},
		{"another reply", strings.Replace(inUse, "action = \"reject\"", "action = \"reject\"\nreply = \"550 5.7.1 no\"", 1), 12, "blocked reject → reject 12/24", ""},
		{"a rule at MAIL", "[[rule]]\nname = \"early\"\nstage = \"mail\"\nfrom = \"host7.example\"\naction = \"tempfail\"\n" + inUse, 6, "early deliver → tempfail 6/12", "early 0 → 6; no-invoices-at-night 600 → 594"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := run(t, old, setOf(t, tt.rules), all)
			var groups, hits []string
			for _, g := range r.Groups {
				groups = append(groups, fmt.Sprintf("%s %s → %s %d/%d", g.Rule, g.Old, g.New, g.Records, g.Recipients))
				if len(g.Examples) == 0 || g.Examples[0].Subject == "" || g.Where == "" {
					t.Errorf("examples %+v", g)
				}
			}
			for _, h := range r.Hits {
				if h.Old != h.New {
					hits = append(hits, fmt.Sprintf("%s %d → %d", h.Rule, h.Old, h.New))
				}
			}
			if r.Records != n || r.Differing != tt.differing || strings.Join(groups, "; ") != tt.groups || strings.Join(hits, "; ") != tt.hits {
				t.Errorf("%d of %d, %q, %q; want %d, %q, %q", r.Differing, r.Records, groups, hits, tt.differing, tt.groups, tt.hits)
			}
			if len(r.Unknown) > 0 {
				t.Errorf("unknown: %+v", r.Unknown)
			}
		})
	}
}

func TestUnknown(t *testing.T) {
	old := setOf(t, inUse)
	blind := recorded(t, 1, old)
	blind.Inside = nil
	elsewhere := recorded(t, 2, old)
	elsewhere.Generation = "2026-10-01T00:00:00.000Z/0123"
	elsewhere.Action, elsewhere.Recipients[0].Action = "reject", "reject"
	failed := recorded(t, 3, old)
	failed.Recipients[0].Action, failed.Findings = "tempfail", append(failed.Findings, history.Finding{Filter: "clamav", Name: mail.FindingFailed})
	limited := history.Record{ID: "x", Stage: "rcpt", Action: "reject", Generation: blind.Generation, Recipients: []history.Recipient{{Path: history.Path{Address: "no address"}, Stage: "rcpt", Action: "reject"}}}
	fresh := setOf(t, inUse+"[[rule]]\nname = \"macros\"\nwhen = 'any(parts, .macros)'\naction = \"reject\"\n")
	r := run(t, old, fresh, records{blind, elsewhere, failed, limited})
	var what []string
	for _, u := range r.Unknown {
		what = append(what, fmt.Sprintf("%d %s", u.Records, u.What))
	}
	all := strings.Join(what, "\n")
	for _, want := range []string{"ask what the record lacks, and count as unknown for it: zip macros", "other rules were in use", "a filter failed", "limits, routes or filters"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not said in %s", want, all)
		}
	}
	if r.Differing != 0 || !slices.ContainsFunc(r.Unknown, func(u rehearse.Unknown) bool { return len(u.Examples) == 1 }) {
		t.Errorf("%+v", r)
	}
}

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkRecords is over a file of 100,000 records, as "gatepost rules rehearse"
// reads it.
func BenchmarkRecords(b *testing.B) {
	const n = 100_000
	old := setOf(b, inUse)
	fresh := setOf(b, inUse+"[[rule]]\nname = \"u2\"\nto = \"u2@example.com\"\naction = \"hold\"\n")
	path := filepath.Join(b.TempDir(), "history.db")
	s, err := history.Open(history.Config{Path: path, MaxAge: 10 * 365 * 24 * time.Hour, MaxSize: 4e9}, history.Options{Line: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for i := range n {
		s.Decision(recorded(b, i, old))
	}
	deadline := time.Now().Add(5 * time.Minute)
	for time.Now().Before(deadline) {
		if page, err := s.Search(ctx, history.Query{Descending: true, Limit: 1}); err == nil && len(page.Records) == 1 && strings.HasSuffix(page.Records[0].Subject, fmt.Sprint(n-1)) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	from, err := history.OpenReader(path)
	if err != nil {
		b.Fatal(err)
	}
	defer from.Close()
	for b.Loop() {
		before := cpu(b)
		r := run(b, old, fresh, from)
		if r.Records != n || r.Differing == 0 {
			b.Fatalf("%d records, %d differ", r.Records, r.Differing)
		}
		b.ReportMetric((cpu(b) - before).Seconds(), "cpu-s/other")
		same := run(b, old, setOf(b, inUse), from)
		if same.Records != n || same.Differing != 0 {
			b.Fatalf("the same rules: %d records, %d differ", same.Records, same.Differing)
		}
		b.ReportMetric(r.Took, "s/other")
		b.ReportMetric(same.Took, "s/same")
	}
}
