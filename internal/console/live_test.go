package console

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

func liveRecord(id, from string, to ...string) history.Record {
	r := history.Record{ID: id, Time: time.Now(), Stage: "message", Action: "accept", Sender: history.Path{Address: from}, Header: []byte("Subject: secret\r\n")}
	for _, a := range to {
		r.Recipients = append(r.Recipients, history.Recipient{Path: history.Path{Address: a}})
	}
	return r
}

func liveEvent(t *testing.T, id, to string) mail.Event {
	t.Helper()
	e := mail.Event{ID: id, What: mail.EventAttempt, Status: mail.Delivered}
	if to != "" {
		a, err := mail.ParseAddress(to, true)
		if err != nil {
			t.Fatal(err)
		}
		e.Rcpt = a
	}
	return e
}

var errLast = errors.New("that was the last")

// onlooking returns what somebody sees of what happens.
func onlooking(t *testing.T, who Identity, f LiveFilter, happens func(*Feed)) []string {
	t.Helper()
	feed := NewFeed()
	c := NewControl("/nowhere", ControlDeps{Feed: feed, Log: quiet()})
	ctx, cancel := context.WithTimeout(WithIdentity(t.Context(), who), time.Minute)
	defer cancel()
	var seen []string
	client := ClientOf(c.Handler())
	err := client.Live(ctx, f, func() {
		happens(feed)
		feed.Decision(liveRecord("last", f.From+"a@sender.test", f.To, "u@example.com")) // all of them see it
	}, func(l Live) error {
		switch {
		case l.Decision != nil && l.Decision.Header != nil:
			t.Error("the header is shown")
		case l.Decision != nil && l.Decision.ID == "last":
			return errLast
		case l.Decision != nil:
			seen = append(seen, "decision "+l.Decision.ID)
		case l.Event != nil:
			seen = append(seen, "event "+l.Event.ID)
		}
		return nil
	})
	if !errors.Is(err, errLast) {
		t.Fatalf("Live = %v", err)
	}
	return seen
}

func TestLive(t *testing.T) {
	happens := func(f *Feed) {
		f.Decision(liveRecord("1", "a@sender.test", "u@example.com"))
		f.Event(liveEvent(t, "1", "u@example.com"))
		f.Decision(liveRecord("2", "b@other.test", "v@example.org"))
		f.Event(liveEvent(t, "2", "v@example.org"))
		f.Event(liveEvent(t, "2", ""))
	}
	helpdesk := Identity{Name: "h", Role: Helpdesk, Domains: []string{"example.com"}}
	for _, tt := range []struct {
		name   string
		who    Identity
		filter LiveFilter
		want   []string
	}{
		{"all", root, LiveFilter{}, []string{"decision 1", "event 1", "decision 2", "event 2", "event 2"}},
		{"to, in any case", root, LiveFilter{To: "@EXAMPLE.org"}, []string{"decision 2", "event 2", "event 2"}},
		{"from, events too", root, LiveFilter{From: "a@sender"}, []string{"decision 1", "event 1"}},
		{"a helpdesk sees its own", helpdesk, LiveFilter{}, []string{"decision 1", "event 1"}},
		{"and no others when it asks", helpdesk, LiveFilter{From: "b@other"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := onlooking(t, tt.who, tt.filter, happens); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// Who reads too slowly loses lines; who shows them waits for nobody.
func TestLiveSlow(t *testing.T) {
	feed := NewFeed()
	o, ok := feed.join()
	if !ok || !feed.Watched() {
		t.Fatal("nobody looks on")
	}
	for i := range waitingLive + 10 {
		feed.Decision(liveRecord(fmt.Sprint(i), "a@sender.test", "u@example.com"))
	}
	if len(o.lines) != waitingLive || o.lost.Load() != 10 {
		t.Errorf("%d wait, %d lost", len(o.lines), o.lost.Load())
	}
	feed.leave(o)
	if feed.Watched() {
		t.Error("somebody looks on")
	}
	for range mostOnlookers {
		if _, ok := feed.join(); !ok {
			t.Fatal("no room")
		}
	}
	if _, ok := feed.join(); ok {
		t.Errorf("more than %d look on", mostOnlookers)
	}
}
