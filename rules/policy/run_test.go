package policy

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
)

func loadText(t *testing.T, text string) *Set {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Load(Config{Files: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// P7: a message that is more work than its budget ends the asking, and that is
// said; a rule that was not asked is never one that did not match.
func TestBudget(t *testing.T) {
	s := loadText(t, "[[rule]]\nname = \"slow\"\nwhen = 'any(parts, any(parts, any(parts, .size > 1 and text matches \"x.*y\")))'\nscore = 1\n[[rule]]\nname = \"later\"\nwhen = 'size > 0'\nscore = 1\n")
	tx := usual(t)
	tx.Inside = &mail.Inside{Text: strings.Repeat("x", 100_000), Parts: make([]mail.Part, 300)}
	res := s.Begin(tx, 0).For(mail.Address{})
	if res.Failed == "" || len(res.Hits) != 2 {
		t.Fatalf("result %+v", res)
	}
	for _, h := range res.Hits {
		if !strings.HasPrefix(h.Did, "skipped: "+errBudget.Error()) {
			t.Errorf("%s: %s", h.Rule, h.Did)
		}
	}
}

// A message that was not taken apart is not one without parts.
func TestNotSeen(t *testing.T) {
	s := loadText(t, "[[rule]]\nname = \"parts\"\nwhen = 'any(parts, .program)'\naction = \"reject\"\n[[rule]]\nname = \"index\"\nwhen = 'recipients[7].address == \"x\"'\nscore = 1\n")
	tx := usual(t)
	tx.Inside = nil
	res := s.Begin(tx, 0).For(mail.Address{})
	if len(res.Hits) != 2 || !strings.Contains(res.Failed, "was not taken apart") || !strings.Contains(res.Hits[1].Did, "out of range") {
		t.Errorf("result %+v", res)
	}
	if !s.WantsInside() || s.Alters() {
		t.Error("what the set wants is not told")
	}
}

// Recipients of one class have the same rules.
func TestClass(t *testing.T) {
	s := loadText(t, "[[rule]]\nname = \"a\"\nto = [\"@example.com\", \"!boss@example.com\"]\nscore = 1\n[[rule]]\nname = \"b\"\nwhen = 'score > 1'\ntag = \"x\"\n")
	class := func(text string) string {
		a, err := mail.ParseAddress(text, false)
		if err != nil {
			t.Fatal(err)
		}
		return s.Class(a)
	}
	if class("a@example.com") != class("b@example.com") || class("a@example.com") == class("boss@example.com") || class("boss@example.com") != class("x@example.net") {
		t.Error("classes are not those of the rule")
	}
	each := loadText(t, "[[rule]]\nname = \"a\"\nwhen = 'rcpt.local == \"a\"'\nscore = 1\n")
	a, b := mail.Address{Local: "b", Domain: "example.com"}, mail.Address{Local: "c", Domain: "example.com"}
	if each.Class(a) == each.Class(b) {
		t.Error("a rule that asks for rcpt can't be known before")
	}
}

// Another text is another generation, and so is another list.
func TestGeneration(t *testing.T) {
	dir := t.TempDir()
	rules, list := filepath.Join(dir, "a.toml"), filepath.Join(dir, "l.list")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(map[string]bool)
	write(rules, "[list.l]\ntype = \"domain\"\nfile = \"l.list\"\n[[rule]]\nname = \"r\"\nfrom = \"list:l\"\nscore = 1\n")
	for _, text := range []string{"a.example\n", "b.example\n", "a.example\nb.example\n"} {
		write(list, text)
		for range 2 {
			s, err := Load(Config{Files: []string{filepath.Join(dir, "*.toml")}})
			if err != nil {
				t.Fatal(err)
			}
			seen[s.Generation()] = true
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d generations, want 3: %v", len(seen), seen)
	}
	if empty, err := Load(Config{}); err != nil || empty.Generation() != "" || !empty.Empty(mail.StageMessage) {
		t.Error("no files make a generation")
	}
}

func TestHits(t *testing.T) {
	h := NewHits()
	at := time.Unix(1000, 0)
	rcpt := mail.Address{Local: "a", Domain: "example.com"}
	h.Note([]mail.RuleHit{{Rule: "x", Where: "a:1"}, {Rule: "x", Where: "a:1", Rcpt: rcpt}, {Rule: "y", Where: "a:2", Observe: true}}, at)
	h.Note([]mail.RuleHit{{Rule: "x", Where: "a:1", Did: skipped + "why"}, {Rule: "y", Where: "a:2"}}, at)
	got := h.List()
	if len(got) != 2 || got[0].Rule != "y" || got[0].Count != 2 || got[1].Count != 1 || got[1].Skipped != 1 || !got[1].Last.Equal(at) {
		t.Errorf("hits %+v", got)
	}
}

// memory is a Store that may be away.
type memory struct {
	mu   sync.Mutex
	of   map[string]time.Time
	away bool
}

func (m *memory) Put(_ context.Context, list, key, _ string, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return errors.New("away")
	}
	m.of[list+":"+key] = time.Now().Add(ttl)
	return nil
}

func (m *memory) List(_ context.Context, list string, _ int) ([]Listed, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return nil, errors.New("away")
	}
	var all []Listed
	for k, until := range m.of {
		if key, ok := strings.CutPrefix(k, list+":"); ok {
			all = append(all, Listed{key, until})
		}
	}
	return all, nil
}

// A list is there at once, has room for so many, and goes on without its store;
// what somebody takes off it in the store is off it here.
func TestLive(t *testing.T) {
	store := &memory{of: map[string]time.Time{"bad:other": time.Now().Add(time.Hour)}}
	l := NewLive(store, slog.New(slog.DiscardHandler))
	l.Use([]DynamicList{{Name: "bad", Max: 3}})
	add := func(key string, span time.Duration) {
		l.Add(mail.Listing{List: "bad", Key: key, For: span, Rule: "r"})
	}
	add("a", time.Hour)
	add("short", time.Nanosecond)
	if !l.Has("bad", "a") || l.Has("bad", "b") || l.Has("nobody", "a") {
		t.Error("what was added is not there at once")
	}
	l.refresh(t.Context())
	if !l.Has("bad", "other") || !l.Has("bad", "a") {
		t.Error("what another gateway added is not there, or ours is lost")
	}
	add("b", time.Hour)
	add("c", time.Hour) // no room
	if !l.Has("bad", "b") || l.Has("bad", "c") {
		t.Error("the room is not kept to")
	}
	for range 3 {
		l.put(t.Context(), <-l.puts)
	}
	store.mu.Lock()
	delete(store.of, "bad:a")
	store.mu.Unlock()
	l.refresh(t.Context())
	if l.Has("bad", "a") || !l.Has("bad", "b") {
		t.Error("what was taken off the list in the store is still there")
	}
	store.mu.Lock()
	store.away = true
	store.mu.Unlock()
	l.refresh(t.Context())
	if !l.Has("bad", "b") {
		t.Error("without its store the list is empty")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
}
