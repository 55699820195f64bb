package console

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// finder answers with records of its own, some at a time.
type finder struct {
	history.Finder
	records []history.Record
	events  []history.Event
	asked   []history.Query
}

func (f *finder) Search(_ context.Context, q history.Query) (history.Page, error) {
	f.asked = append(f.asked, q)
	at := 0
	if q.After != "" {
		_, _ = fmt.Sscan(q.After, &at)
	}
	end := min(at+q.Limit, len(f.records))
	p := history.Page{Records: f.records[at:end]}
	if end < len(f.records) {
		p.Next = fmt.Sprint(end)
	}
	return p, nil
}

func (f *finder) Life(context.Context, string) (history.Life, error) {
	return history.Life{Records: f.records, Events: f.events}, nil
}

func to(addresses ...string) (all []history.Recipient) {
	for _, a := range addresses {
		all = append(all, history.Recipient{Path: history.Path{Address: a}})
	}
	return all
}

// W5: a helpdesk sees mail of its domains, and of that nothing of others.
func TestHelpdeskSees(t *testing.T) {
	f := &finder{
		records: []history.Record{{
			ID: name(1), Recipients: to("bob@example.com", "eve@other.example"), Omitted: 3,
			Findings: []history.Finding{{Name: "a"}, {Name: "b", Rcpt: "bob@example.com"}, {Name: "e", Rcpt: "eve@other.example"}},
			Rules:    []history.Rule{{Rule: "e", Rcpt: "eve@other.example"}},
		}},
		events: []history.Event{{What: mail.EventQueued}, {What: mail.EventAttempt, Rcpt: "eve@other.example"}, {What: mail.EventAttempt, Rcpt: "bob@example.com"}},
	}
	q := &memory{messages: []Message{{ID: name(1), Recipients: []Recipient{{Address: "eve@other.example"}, {Address: "bob@example.com"}}, Done: []Recipient{{Address: "eve2@other.example"}}}}}
	client := ClientOf(NewControl("", ControlDeps{Queue: q, History: f, Log: quiet()}).Handler())
	hal := WithIdentity(t.Context(), Identity{Name: "hal", Role: Helpdesk, Domains: []string{"example.com"}})
	life, err := client.History().Life(hal, name(1))
	if err != nil || len(life.Records) != 1 || len(life.Events) != 2 {
		t.Fatalf("%+v, %v", life, err)
	}
	if r := life.Records[0]; len(r.Recipients) != 1 || r.Recipients[0].Address != "bob@example.com" || r.Omitted != 0 || len(r.Findings) != 2 || len(r.Rules) != 0 {
		t.Errorf("%+v", r)
	}
	if m, err := client.Show(hal, name(1)); err != nil || len(m.Recipients) != 1 || len(m.Done) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	n := 0
	count := func(Message) error { n++; return nil }
	if err := client.List(hal, Filter{Recipient: "eve@other.example"}, count); err != nil || n != 0 {
		t.Errorf("asked for another's recipient: %d, %v", n, err)
	}
	all := WithIdentity(t.Context(), Identity{Name: "ann", Role: Admin})
	if life, err := client.History().Life(all, name(1)); err != nil || len(life.Events) != 3 || len(life.Records[0].Recipients) != 2 {
		t.Errorf("admin: %+v, %v", life, err)
	}
	other := WithIdentity(t.Context(), Identity{Name: "kim", Role: Helpdesk, Domains: []string{"third.example"}})
	if _, err := client.History().Life(other, name(1)); err == nil {
		t.Error("another's helpdesk sees it")
	}
}

func TestSearchFor(t *testing.T) {
	f := &finder{}
	for i := range 300 {
		address := "eve@other.example"
		if i%60 == 59 {
			address = "bob@example.com"
		}
		f.records = append(f.records, history.Record{ID: name(i), Recipients: to(address)})
	}
	hal := Identity{Role: Helpdesk, Domains: []string{"example.com", ".example.net"}}
	p, err := searchFor(t.Context(), f, hal, history.Query{Limit: 3})
	if err != nil || p.Next == "" {
		t.Fatalf("%+v, %v", p, err)
	}
	var got []string
	for pages := 0; ; pages++ {
		for _, r := range p.Records {
			got = append(got, r.ID)
		}
		if p.Next == "" || pages > 100 {
			break
		}
		if p, err = searchFor(t.Context(), f, hal, history.Query{Limit: 3, After: p.Next}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{name(59), name(119), name(179), name(239), name(299)}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	f.asked = nil
	for _, to := range []string{"eve@other.example", "@other.example", "@.com"} {
		if p, err := searchFor(t.Context(), f, hal, history.Query{To: to}); err != nil || len(p.Records) != 0 || len(f.asked) != 0 {
			t.Errorf("%s: %d found, %d asked, %v", to, len(p.Records), len(f.asked), err)
		}
	}
	one := Identity{Role: Helpdesk, Domains: []string{".example.com"}}
	if _, err := searchFor(t.Context(), f, one, history.Query{Limit: 1}); err != nil || f.asked[0].To != "@.example.com" {
		t.Errorf("%+v, %v", f.asked, err)
	}
	if p, err := searchFor(t.Context(), f, Identity{Role: Admin}, history.Query{To: "eve@other.example", Limit: 10}); err != nil || len(p.Records) != 10 {
		t.Errorf("admin: %d, %v", len(p.Records), err)
	}
}
