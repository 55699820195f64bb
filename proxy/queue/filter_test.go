package queue

import (
	"regexp"
	"slices"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// collect returns the IDs that a filter chooses.
func (r *rig) collect(f Filter) []string {
	var ids []string
	for info := range r.queue.List(f) {
		ids = append(ids, info.ID)
	}
	return ids
}

// letters are four messages, one for each lane; names are their local parts.
func letters(t *testing.T, now time.Time) (*rig, map[string]string) {
	r := newRig(t)
	r.now = func() time.Time { return now }
	put := r.entry("put@Sender.example", "bob@example.com NOTIFY=NEVER", "done@gone.example")
	put.Received, put.Score, put.User = now.Add(-5*time.Hour), 7.5, "alice"
	fresh := r.entry("", "carol@example.net", "bob@example.com")
	fresh.Received, fresh.Listener = now.Add(-time.Hour), "mx"
	held := r.entry("held@b\u00fccher.example", "erin@sub.example.org")
	held.Received, held.State, held.Reason, held.Score = now.Add(-3*time.Hour), spool.Hold, "virus Eicar-Test", -1
	slow := r.entry("slow@sender.example", "bob@example.com")
	slow.Received, slow.State = now.Add(-2*time.Hour), spool.Slow
	slow.Header = append(slow.Header, make([]byte, 2000)...)
	ids := r.commit(put, fresh, held, slow)
	m := r.message(ids[0])
	m.Attempts, m.Next = 1, now.Add(time.Hour)
	m.Recipients[0] = spool.Recipient{Reply: mail.Reply{Code: 452, Detail: "2.2", Text: "mailbox full"}, Remote: "mx[192.0.2.1]:25", Attempts: 1, Last: now}
	m.Recipients[1] = spool.Recipient{Status: mail.Delivered, Reply: mail.Reply{Code: 250, Text: "thanks"}}
	if err := r.spool.Save(m.ID, m.Progress); err != nil {
		t.Fatal(err)
	}
	return r, map[string]string{"put": ids[0], "fresh": ids[1], "held": ids[2], "slow": ids[3]}
}

func TestFilter(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	r, ids := letters(t, now)
	number := func(f float64) *float64 { return &f }
	tests := []struct {
		name   string
		filter Filter
		want   []string
	}{
		{"all, oldest first", Filter{}, []string{"put", "held", "slow", "fresh"}},
		{"IDs, in their order", Filter{IDs: []string{ids["slow"], "nothing", ids["put"]}}, []string{"slow", "put"}},
		{"no IDs are none", Filter{IDs: []string{}}, nil},
		{"IDs and more", Filter{IDs: []string{ids["slow"], ids["put"]}, Lanes: []Lane{Slow}}, []string{"slow"}},
		{"held", Filter{Lanes: []Lane{Hold}}, []string{"held"}},
		{"two lanes", Filter{Lanes: []Lane{Fresh, Retry}}, []string{"put", "fresh"}},
		{"slow", Filter{Lanes: []Lane{Slow}}, []string{"slow"}},
		{"sender in another case", Filter{Sender: "Put@sender.EXAMPLE"}, []string{"put"}},
		{"sender's domain", Filter{Sender: "@sender.example"}, []string{"put", "slow"}},
		{"sender's domain, in ASCII", Filter{Sender: "held@xn--bcher-kva.example"}, []string{"held"}},
		{"below the sender's domain", Filter{Sender: "@.example"}, []string{"put", "held", "slow"}},
		{"a sender is no pattern", Filter{Sender: "put@.example"}, nil},
		{"null sender", Filter{NullSender: true}, []string{"fresh"}},
		{"recipient", Filter{Recipient: "BOB@example.com"}, []string{"put", "slow", "fresh"}},
		{"recipient that has it", Filter{Recipient: "done@gone.example"}, nil},
		{"domain", Filter{Domain: "EXAMPLE.net"}, []string{"fresh"}},
		{"domain that has it", Filter{Domain: "gone.example"}, nil},
		{"not below the domain", Filter{Domain: "example.org"}, nil},
		{"below the domain", Filter{Domain: ".example.org"}, []string{"held"}},
		{"dot only", Filter{Domain: "."}, nil},
		{"route", Filter{Route: "example.net"}, []string{"fresh"}},
		{"route of what is delivered", Filter{Route: "gone.example"}, nil},
		{"listener", Filter{Listener: "mx"}, []string{"fresh"}},
		{"user", Filter{User: "alice"}, []string{"put"}},
		{"older", Filter{Older: 3 * time.Hour}, []string{"put", "held"}},
		{"younger", Filter{Younger: 3 * time.Hour}, []string{"slow", "fresh"}},
		{"large", Filter{SizeAbove: 1000}, []string{"slow"}},
		{"small", Filter{SizeBelow: 1000}, []string{"put", "held", "fresh"}},
		{"high score", Filter{ScoreAbove: number(0)}, []string{"put"}},
		{"exactly that score", Filter{ScoreAbove: number(7.5)}, nil},
		{"low score", Filter{ScoreBelow: number(0)}, []string{"held"}},
		{"reason of hold", Filter{Reason: regexp.MustCompile("(?i)eicar")}, []string{"held"}},
		{"last reply", Filter{Reason: regexp.MustCompile("452 4.2.2")}, []string{"put"}},
		{"reply of what is delivered", Filter{Reason: regexp.MustCompile("thanks")}, nil},
		{"no reason is no reason", Filter{Reason: regexp.MustCompile("^$")}, nil},
		{"several at once", Filter{Recipient: "bob@example.com", Older: 2 * time.Hour}, []string{"put", "slow"}},
		{"none", Filter{Sender: "nobody@example.com"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var want []string
			for _, name := range tt.want {
				want = append(want, ids[name])
			}
			if got := r.collect(tt.filter); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v (%v)", got, tt.want, ids)
			}
		})
	}
}

func TestListInfo(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	r, ids := letters(t, now)
	for info := range r.queue.List(Filter{}) { // and stops when told
		if info.ID != ids["put"] || info.State != "queue" || info.Lane != Retry || info.Sender != "put@sender.example" || !info.Next.Equal(now.Add(time.Hour)) ||
			info.User != "alice" ||
			info.Recipients[0] != (RecipientInfo{"bob@example.com", "deferred", "452 4.2.2 mailbox full", "mx[192.0.2.1]:25", 1, info.Recipients[0].Last, "NOTIFY=NEVER"}) {
			t.Errorf("info: %+v", info)
		}
		break
	}
}

// What was quarantined when it came can't be given up with a word to its sender.
func TestListQuarantined(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	r, ids := letters(t, now)
	if _, err := r.queue.Hold(t.Context(), "by hand", ids["slow"]); err != nil {
		t.Fatal(err)
	}
	unscanned := r.entry("alice@sender.example", "bob@example.com")
	unscanned.State, unscanned.Unscanned = spool.Hold, "clamav"
	r.commit(unscanned)
	for info := range r.queue.List(Filter{Lanes: []Lane{Hold}}) {
		if info.Quarantined != (info.ID == ids["held"]) {
			t.Errorf("%s: quarantined = %v", info.ID, info.Quarantined)
		}
		if _, err := r.queue.Bounce(t.Context(), info.ID); (err != nil) != info.Quarantined {
			t.Errorf("%s: quarantined = %v, bounce: %v", info.ID, info.Quarantined, err)
		}
	}
}

// byMX has one destination for each domain, on one route.
type byMX struct{ *nextHop }

func (byMX) Route(rcpt mail.Address) (string, bool) { return ". " + rcpt.Domain, true }

func TestFilterRouteOfManyDestinations(t *testing.T) {
	r, ids := letters(t, time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	r.queue.deliverer = byMX{r.next}
	for route, want := range map[string][]string{
		". sub.example.org": {ids["held"]}, ".": {ids["put"], ids["held"], ids["slow"], ids["fresh"]}, "sub.example.org": nil,
	} {
		if got := r.collect(Filter{Route: route}); !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", route, got, want)
		}
	}
}
