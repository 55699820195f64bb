package quarantine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// ListStore keeps the lists for all gateways of a site. state.Store is one.
type ListStore interface {
	Put(ctx context.Context, set state.Set, key, value string, ttl time.Duration) error
	List(ctx context.Context, set state.Set, prefix string, limit int) ([]state.Entry, error)
}

// Lists are the senders that recipients allow and block for themselves, in
// memory: what is entered here counts at once, what other gateways enter within
// seconds. Nobody waits for the store where mail is judged.
type Lists struct {
	store ListStore
	log   *slog.Logger

	mu      sync.RWMutex
	entries map[string]entry
	full    bool // it was said that there are too many
}

type entry struct {
	allow bool
	until time.Time
	fresh bool // entered here since the store was read
}

// NewLists makes lists that are empty until Run has read them.
func NewLists(store ListStore, log *slog.Logger) *Lists {
	return &Lists{store: store, log: log, entries: make(map[string]entry)}
}

// The words in the values of the store.
const (
	allowWord = "allow"
	blockWord = "block"
)

// key is "recipient sender", both in lower case.
func key(rcpt, sender mail.Address) string {
	return lower(rcpt) + " " + lower(sender)
}

func lower(a mail.Address) string { return strings.ToLower(a.ToASCII().String()) }

// mostEntries are kept in memory.
const mostEntries = 200_000

// Add puts a sender on the list of a recipient, in the place of what was there.
func (l *Lists) Add(ctx context.Context, rcpt, sender mail.Address, allow bool, by string, ttl time.Duration) error {
	if rcpt.IsNull() || sender.IsNull() {
		return errors.New("the null sender, which notifications have, can't be on a list")
	}
	word := blockWord
	if allow {
		word = allowWord
	}
	k := key(rcpt, sender)
	if err := l.store.Put(ctx, state.Personal, k, word+" by "+mail.CleanText(by), ttl); err != nil {
		return fmt.Errorf("quarantine: %s %s: %w", word, k, err)
	}
	l.mu.Lock()
	l.entries[k] = entry{allow, time.Now().Add(ttl), true}
	l.mu.Unlock()
	l.log.InfoContext(ctx, "personal list", "recipient", rcpt.String(), "sender", sender.String(), "word", word, "by", by, "for", ttl.String())
	return nil
}

// Find returns what a recipient says of the first of these senders that is on
// its list; ok is false for nothing.
func (l *Lists) Find(rcpt mail.Address, senders ...mail.Address) (sender mail.Address, allow, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.entries) == 0 {
		return mail.Address{}, false, false
	}
	now := time.Now()
	for _, s := range senders {
		if e, found := l.entries[key(rcpt, s)]; found && now.Before(e.until) {
			return s, e.allow, true
		}
	}
	return mail.Address{}, false, false
}

// refreshEvery is how long other gateways need to hear of an entry.
const refreshEvery = 10 * time.Second

// Run reads what others enter until ctx ends.
func (l *Lists) Run(ctx context.Context) error {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		l.refresh(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// refresh reads the store. While that is away, all stays as it is.
func (l *Lists) refresh(ctx context.Context) {
	l.mu.Lock()
	for k, e := range l.entries {
		e.fresh = false
		l.entries[k] = e
	}
	l.mu.Unlock()
	list, err := l.store.List(ctx, state.Personal, "", mostEntries)
	if err != nil {
		return // the store says itself that it is away
	}
	read := make(map[string]entry, len(list))
	for _, e := range list {
		word, _, _ := strings.Cut(e.Value, " ")
		read[e.Key] = entry{allow: word == allowWord, until: e.Expires}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, e := range l.entries {
		if e.fresh {
			read[k] = e
		}
	}
	l.entries = read
	if full := len(list) == mostEntries; full != l.full {
		l.full = full
		if full {
			l.log.Warn("personal lists: too many entries, not all of them count", "max", mostEntries)
		}
	}
}
