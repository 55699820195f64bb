package history

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// filled is a history of n messages.
func filled(tb testing.TB, n int) *Reader {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "history.db")
	s, err := Open(Config{Path: path, MaxAge: DefaultConfig().MaxAge, MaxSize: DefaultConfig().MaxSize}, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.open(context.Background()); err != nil {
		tb.Fatal(err)
	}
	began := time.Now()
	for i := 0; i < n; i += atOnce {
		var batch []item
		for j := i; j < min(i+atOnce, n); j++ {
			r := sampleRecord(tb, j)
			batch = append(batch, item{record: &r})
		}
		if _, err := s.insert(context.Background(), batch); err != nil {
			tb.Fatal(err)
		}
	}
	s.end()
	info, err := os.Stat(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Logf("%d records in %v, %d bytes each", n, time.Since(began).Round(time.Millisecond), info.Size()/int64(max(n, 1)))
	r, err := OpenReader(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.Close() })
	return r
}

func queries() map[string]Query {
	return map[string]Query{
		"newest":                  {Descending: true},
		"sender":                  {From: "sender5@host5.example.org", Descending: true},
		"author":                  {From: "author77@example.net", Descending: true},
		"sender domain of all":    {From: "@example.net", Descending: true},
		"sender domains below":    {From: "@.example.org", Descending: true},
		"recipient":               {To: "rcpt7@example.com", Descending: true},
		"recipient domain of all": {To: "@example.com", Descending: true},
		"domain of all, by time":  {Domain: "example.com", Since: epoch.Add(time.Hour), Until: epoch.Add(2 * time.Hour)},
		"subject word of all":     {Subject: "invoice", Descending: true},
		"subject word and number": {Subject: "number 4711", Descending: true},
		"short subject":           {Subject: "ß", Descending: true},
		"no such subject":         {Subject: "nothing of that kind", Descending: true},
		"message id":              {MessageID: "<mid.500@example.org>"},
		"client":                  {Client: netip.MustParsePrefix("192.0.2.17/32"), Descending: true},
		"network":                 {Client: netip.MustParsePrefix("192.0.0.0/16"), Descending: true},
		"network of half":         {Client: netip.MustParsePrefix("192.0.0.0/23"), Descending: true},
		"rejected":                {Action: "reject", Descending: true},
		"discarded: none":         {Action: "discard", Descending: true},
		"rule":                    {Rule: "rule-20", Descending: true},
		"virus":                   {Virus: "Eicar-Test", Descending: true},
		"hash":                    {SHA256: sampleHash(7), Descending: true},
		"host":                    {Host: "www7.example.net", Descending: true},
		"hosts below":             {Host: ".example.net", Descending: true},
		"two of all and one":      {To: "@example.com", Subject: "invoice", Action: "reject", Descending: true},
		"two that exclude":        {From: "sender5@host5.example.org", To: "rcpt8@example.com"},
		"one of all, never":       {To: "@example.com", Stage: "rcpt"},
		"deep page":               {To: "@example.com", Descending: true, After: cursor(micros(epoch.Add(24 * time.Hour)))},
	}
}

func BenchmarkSearch(b *testing.B) {
	r := filled(b, 100_000)
	for name, q := range queries() {
		b.Run(name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				page, err := r.Search(context.Background(), q)
				if err != nil {
					b.Fatal(err)
				}
				n = len(page.Records)
			}
			b.ReportMetric(float64(n), "records")
		})
	}
	b.Run("report of all", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.Report(context.Background(), epoch, epoch.Add(30*24*time.Hour), 10); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("each", func(b *testing.B) {
		for b.Loop() {
			n := 0
			if err := r.Each(context.Background(), Query{}, func(Record) error { n++; return nil }); err != nil || n != 100_000 {
				b.Fatal(n, err)
			}
		}
	})
}

// What a decision costs the session that it is about.
func BenchmarkMake(b *testing.B) {
	tx, v, a := sample(b, 5)
	for b.Loop() {
		Make(tx, v, a, nil, tx.Start)
	}
}
