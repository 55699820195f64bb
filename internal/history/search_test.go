package history

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// matches is Query told without an index.
func (q Query) matches(r *Record) bool {
	address := func(want string, all ...string) bool {
		return slices.ContainsFunc(all, func(a string) bool {
			domain, isDomain := strings.CutPrefix(want, "@")
			if !isDomain {
				return strings.EqualFold(a, want)
			}
			return isName(domain, domainOf(lower(a)))
		})
	}
	var to []string
	for _, p := range r.Recipients {
		to = append(to, p.Address)
	}
	author := authorOf(r.From)
	ok := (q.Since.IsZero() || !r.Time.Before(q.Since)) && (q.Until.IsZero() || r.Time.Before(q.Until)) &&
		(q.From == "" || address(q.From, r.Sender.Address, author)) && (q.To == "" || address(q.To, to...)) &&
		(q.Domain == "" || address("@"+q.Domain, append(to, r.Sender.Address, author)...)) &&
		strings.Contains(lower(r.Subject), lower(q.Subject)) && (q.MessageID == "" || q.MessageID == r.MessageID) &&
		(!q.Client.IsValid() || q.Client.Contains(r.addr())) && (q.Action == "" || q.Action == r.Action) && (q.Stage == "" || q.Stage == r.Stage)
	ok = ok && (q.Rule == "" || slices.ContainsFunc(r.Rules, func(h Rule) bool { return h.Rule == q.Rule }))
	ok = ok && (q.Virus == "" || slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Name == "virus" && f.Value == q.Virus }))
	ok = ok && (q.SHA256 == "" || slices.ContainsFunc(r.Inside.Parts, func(p Part) bool { return p.SHA256 == q.SHA256 }))
	return ok && (q.Host == "" || slices.ContainsFunc(r.Inside.URLs, func(u URL) bool { return isName(q.Host, u.Host) }))
}

func isName(want, name string) bool {
	if strings.HasPrefix(want, ".") {
		return strings.HasSuffix(name, want)
	}
	return want == name
}

// Every search finds what a look at all records finds, page by page.
func TestSearch(t *testing.T) {
	const n = 220
	r := filled(t, n)
	var all []Record
	if err := r.Each(context.Background(), Query{}, func(one Record) error { all = append(all, one); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(all) != n {
		t.Fatalf("%d records, want %d", len(all), n)
	}
	more := queries()
	more["literal LIKE"] = Query{Subject: "%"}
	more["quote in the subject"] = Query{Subject: `inv"oice`}
	more["FTS syntax in the subject"] = Query{Subject: "invoice OR number NOT 4"}
	more["case of the subject"] = Query{Subject: "GRÜSSE"[:4] + "SSE INVOICE"}
	more["umlaut of the subject"] = Query{Subject: "grüße INVOICE number 7"}
	more["IPv4 in IPv6"] = Query{Client: netip.MustParsePrefix("192.0.2.0/25")}
	for name, q := range more {
		t.Run(name, func(t *testing.T) {
			q.After, q.Limit = "", 61
			var want, got []string
			for _, one := range all {
				if q.matches(&one) {
					want = append(want, one.ID)
				}
			}
			if q.Descending {
				slices.Reverse(want)
			}
			for {
				page, err := r.Search(context.Background(), q)
				if err != nil {
					t.Fatal(err)
				}
				for _, one := range page.Records {
					got = append(got, one.ID)
				}
				if q.After = page.Next; q.After == "" {
					break
				}
				if len(page.Records) != q.Limit {
					t.Fatalf("a page of %d with another behind it", len(page.Records))
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d records, want %d", len(got), len(want))
			}
		})
	}
}

func TestBadQueries(t *testing.T) {
	r := filled(t, 1)
	for name, q := range map[string]Query{
		"hash":     {SHA256: "12"},
		"action":   {Action: "rejected"},
		"stage":    {Stage: "end"},
		"host":     {Host: "a b"},
		"times":    {Since: epoch, Until: epoch},
		"a cursor": {After: "!"},
	} {
		if _, err := r.Search(context.Background(), q); !errors.Is(err, ErrQuery) {
			t.Errorf("%s: %v, want ErrQuery", name, err)
		}
	}
}

func TestReport(t *testing.T) {
	r := filled(t, 210)
	got, err := r.Report(context.Background(), epoch, epoch.Add(1400*time.Second), 3)
	if err != nil {
		t.Fatal(err)
	}
	count, bytes := make(map[string]int), int64(0)
	for _, b := range got.Hours {
		count[b.Action] += b.Count
		bytes += b.Bytes
		if b.Hour != epoch {
			t.Errorf("hour %v", b.Hour)
		}
	}
	if count["reject"] != 20 || count["accept"] != 180 || bytes == 0 { // one in 7 seconds

		t.Errorf("counted %v", count)
	}
	if len(got.Senders) != 3 || len(got.Viruses) != 1 || got.Viruses[0] != (Named{"Eicar-Test", 2}) || got.Recipients[0].Count != 4 || len(got.Clients) != 3 {
		t.Errorf("lists: %+v", got)
	}
	if got.Rules[0].Name != "rule-0" || got.Rules[0].Count != 5 {
		t.Errorf("rules: %+v", got.Rules)
	}
}
