package web

import (
	"context"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/console"
	"gatepost/internal/history"
)

// past is a history of mail from and to one address.
type past struct {
	history.Finder
	records []history.Record // the newest first
}

func (p past) Search(_ context.Context, q history.Query) (out history.Page, err error) {
	for _, r := range p.records {
		if q.From != "" && r.Sender.Address != q.From || q.To != "" && r.Recipients[0].Address != q.To || q.MessageID != "" && r.MessageID != q.MessageID ||
			!q.Until.IsZero() && !r.Time.Before(q.Until) || q.After != "" && r.ID >= q.After {
			continue
		}
		if len(out.Records) == q.Limit {
			out.Next = out.Records[q.Limit-1].ID
			break
		}
		out.Records = append(out.Records, r)
	}
	return out, nil
}

// Every message is on one of the pages, once, however many questions a search is.
func TestPaging(t *testing.T) {
	p := past{}
	began := time.Now().Add(-time.Hour)
	for i := range 730 {
		from, to := "a@x.example", "b@y.example"
		if i%3 == 0 {
			from, to = to, from
		}
		p.records = append(p.records, history.Record{
			ID: idOf(i), Time: began.Add(time.Duration(i) * time.Millisecond), Action: "accept", Stage: "message", Subject: fmt.Sprintf("number-%d.", i),
			Sender: history.Path{Address: from}, Recipients: []history.Recipient{{Path: history.Path{Address: to}}},
		})
	}
	slices.Reverse(p.records)
	api := console.NewControl("", console.ControlDeps{Log: slog.New(slog.DiscardHandler), History: p, Queue: fewMessages()}).Handler()
	s, err := New(Config{}, Deps{API: api, Log: slog.New(slog.DiscardHandler), Accounts: accounts{"alice": {Role: "admin"}}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	b := newBrowser(t, srv.URL)
	b.login("alice")
	older, number := regexp.MustCompile(`href="([^"]+)">Older ones`), regexp.MustCompile(`number-\d+\.`)
	for _, words := range []string{"a@x.example", "from:a@x.example", ""} {
		seen := make(map[string]int)
		path := "/tracking?q=" + words
		for pages := 0; path != ""; pages++ {
			code, body, _ := b.get(path)
			if code != http.StatusOK || pages > 10 {
				t.Fatalf("%q: %d, page %d", words, code, pages)
			}
			for _, n := range number.FindAllString(body, -1) {
				seen[n]++
			}
			path = ""
			if m := older.FindStringSubmatch(body); m != nil {
				path = html.UnescapeString(m[1])
			}
		}
		want := 730
		if strings.HasPrefix(words, "from:") {
			want = 730 - 244
		}
		for n, times := range seen {
			if times != 1 {
				t.Errorf("%q: %s is there %d times", words, n, times)
			}
		}
		if len(seen) != want {
			t.Errorf("%q: %d found, want %d", words, len(seen), want)
		}
	}
}
