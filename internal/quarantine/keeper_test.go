package quarantine

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// shelf is a store of items, the oldest first.
type shelf struct {
	items []Item
	gone  []string
	why   []string
	stuck string // this one can't be removed
}

func (s *shelf) Held() iter.Seq[Item] { return slices.Values(slices.Clone(s.items)) }

func (s *shelf) Discard(_ context.Context, id, why string) error {
	if id == s.stuck {
		return errors.New("no space left")
	}
	s.gone, s.why = append(s.gone, id), append(s.why, why)
	s.items = slices.DeleteFunc(s.items, func(it Item) bool { return it.ID == id })
	return nil
}

const day = 24 * time.Hour

func TestSweep(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	item := func(id string, kind mail.HeldKind, age time.Duration, size int64) Item {
		return Item{id, kind, now.Add(-age), size}
	}
	shelfOf := func() []Item {
		return []Item{
			item("spam-31", mail.HeldSpam, 31*day, 100), item("spam-29", mail.HeldSpam, 29*day, 100),
			item("virus-8", mail.HeldVirus, 8*day, 100), item("virus-6", mail.HeldVirus, 6*day, 100),
			item("rule-2", mail.HeldRule, 2*day, 100), item("spam-1", mail.HeldSpam, day, 100),
		}
	}
	tests := []struct {
		name   string
		change func(*Config)
		want   []string
		why    string
	}{
		{"by default", func(*Config) {}, []string{"spam-31", "virus-8"}, "held for more than 30 days"},
		{"viruses for longer", func(c *Config) { c.Kind = map[mail.HeldKind]Limits{mail.HeldVirus: {MaxAge: 20 * day}} }, []string{"spam-31"}, ""},
		{"all for less than viruses", func(c *Config) { c.MaxAge = 36 * time.Hour }, []string{"spam-31", "spam-29", "virus-8", "virus-6", "rule-2"}, "36h"},
		{"too much: the oldest that are left", func(c *Config) { c.MaxSize = 250 }, []string{"spam-31", "spam-29", "virus-8", "virus-6"}, "as more than 250 bytes are held"},
		{"too much of one kind", func(c *Config) {
			c.Kind = map[mail.HeldKind]Limits{mail.HeldSpam: {MaxSize: 150}}
		}, []string{"spam-31", "spam-29", "virus-8"}, "for the reason spam"},
		{"no limit of size", func(c *Config) { c.MaxSize = 0 }, []string{"spam-31", "virus-8"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			tt.change(&cfg)
			s := &shelf{items: shelfOf()}
			k, err := NewKeeper(cfg, s, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			k.now = func() time.Time { return now }
			if n := k.Sweep(t.Context()); n != len(tt.want) || !slices.Equal(s.gone, tt.want) {
				t.Errorf("removed %d: %v, want %v", n, s.gone, tt.want)
			}
			if !strings.Contains(strings.Join(s.why, "\n"), tt.why) {
				t.Errorf("why: %q", s.why)
			}
			if n := k.Sweep(t.Context()); n != 0 {
				t.Errorf("%d more at once", n)
			}
		})
	}
}

// One that can't be removed does not keep the others.
func TestSweepGoesOn(t *testing.T) {
	now := time.Now()
	s := &shelf{stuck: "a", items: []Item{{"a", mail.HeldSpam, now.Add(-40 * day), 1}, {"b", mail.HeldSpam, now.Add(-40 * day), 1}}}
	k, err := NewKeeper(DefaultConfig(), s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if n := k.Sweep(t.Context()); n != 1 || !slices.Equal(s.gone, []string{"b"}) {
		t.Errorf("%d, %v", n, s.gone)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"as it is", func(*Config) {}, ""},
		{"no age", func(c *Config) { c.MaxAge = 0 }, "max_age: is below a minute"},
		{"negative size", func(c *Config) { c.MaxSize = -1 }, "max_size: is negative"},
		{"no such kind", func(c *Config) { c.Kind = map[mail.HeldKind]Limits{"ham": {}} }, "kind.ham: is no kind"},
		{"by hand is for ever", func(c *Config) { c.Kind = map[mail.HeldKind]Limits{mail.HeldHand: {MaxAge: day}} }, "kind.hand: is no kind"},
		{"a second", func(c *Config) { c.Kind = map[mail.HeldKind]Limits{mail.HeldSpam: {MaxAge: time.Second}} }, "kind.spam.max_age"},
	}
	for _, tt := range tests {
		cfg := DefaultConfig()
		tt.change(&cfg)
		err := cfg.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// What one gateway enters counts there at once, and at the others soon; it ends
// by itself.
func TestLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := state.NewMemory(time.Now)
		log := slog.New(slog.DiscardHandler)
		here, there := NewLists(store, log), NewLists(store, log)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		for _, l := range []*Lists{here, there} {
			go func() { done <- l.Run(ctx) }()
		}
		synctest.Wait()
		a := func(s string) mail.Address {
			a, err := mail.ParseAddress(s, true)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		u, friend, pest := a("U@Example.com"), a("friend@sender.example"), a("pest@sender.example")
		if err := here.Add(ctx, u, friend, true, "u@example.com\r\n", time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := here.Add(ctx, u, pest, false, "root", 2*time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := here.Add(ctx, u, mail.Address{}, true, "root", time.Hour); err == nil {
			t.Error("the null sender is on the list")
		}
		want := func(when string, l *Lists, sender mail.Address, allow, ok bool) {
			t.Helper()
			if _, gotAllow, gotOK := l.Find(a("u@example.COM"), a("x@y.example"), sender); gotOK != ok || gotAllow != allow {
				t.Errorf("%s: %v, %v, want %v, %v", when, gotAllow, gotOK, allow, ok)
			}
		}
		want("at once", here, friend, true, true)
		want("at once, blocked", here, pest, false, true)
		time.Sleep(2 * refreshEvery)
		want("elsewhere", there, friend, true, true)
		want("elsewhere, blocked", there, pest, false, true)
		if _, _, ok := there.Find(a("other@example.com"), friend); ok {
			t.Error("for another recipient, too")
		}
		time.Sleep(time.Hour)
		want("ended", here, friend, false, false)
		want("not ended", there, pest, false, true)
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
