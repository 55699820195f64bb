package policy

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"gatepost/internal/mail"
)

// Store keeps the entries of dynamic lists for all gateways of a site.
type Store interface {
	Put(ctx context.Context, list, key, why string, ttl time.Duration) error
	List(ctx context.Context, list string, limit int) ([]Listed, error)
}

// Listed is an entry of a dynamic list.
type Listed struct {
	Key   string
	Until time.Time
}

// Live has the dynamic lists in memory: what this gateway puts on them at once,
// what others do within seconds. It lives longer than a Set.
type Live struct {
	store Store
	log   *slog.Logger
	puts  chan mail.Listing

	mu    sync.RWMutex
	lists map[string]*liveList
}

type liveList struct {
	DynamicList
	of map[string]liveEntry
}

type liveEntry struct {
	until  time.Time
	stored bool
}

// NewLive returns empty lists.
func NewLive(store Store, log *slog.Logger) *Live {
	return &Live{store: store, log: log, puts: make(chan mail.Listing, 1000), lists: make(map[string]*liveList)}
}

// Use says which lists there are from now on. Entries of those that stay, stay.
func (l *Live) Use(lists []DynamicList) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := make(map[string]*liveList)
	for _, d := range lists {
		kept := &liveList{DynamicList: d, of: make(map[string]liveEntry)}
		if old := l.lists[d.Name]; old != nil {
			kept.of = old.of
		}
		now[d.Name] = kept
	}
	l.lists = now
}

// Has reports whether a list has a key now.
func (l *Live) Has(list, key string) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	known := l.lists[list]
	if known == nil {
		return false
	}
	e, ok := known.of[key]
	return ok && time.Now().Before(e.until)
}

// Add puts entries on their lists, here at once. It does not wait.
func (l *Live) Add(listings ...mail.Listing) {
	for _, add := range listings {
		if !l.enter(add) {
			continue
		}
		select {
		case l.puts <- add:
		default:
			l.log.Warn("dynamic list: too much at once, other gateways are not told", "list", add.List, "key", add.Key, "rule", add.Rule)
		}
	}
}

// enter reports whether there was room.
func (l *Live) enter(add mail.Listing) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.lists[add.List]
	if known == nil {
		return false
	}
	until := time.Now().Add(add.For)
	old, there := known.of[add.Key]
	if !there && len(known.of) >= known.Max {
		known.forget(time.Now())
	}
	if !there && len(known.of) >= known.Max {
		l.log.Warn("dynamic list: full, not taken", "list", add.List, "max", known.Max, "key", add.Key, "rule", add.Rule)
		return false
	}
	if there && old.until.After(until) {
		return false
	}
	known.of[add.Key] = liveEntry{until: until}
	if !there {
		l.log.Info("dynamic list: added", "list", add.List, "key", add.Key, "for", add.For.String(), "rule", add.Rule)
	}
	return true
}

// forget removes what has ended.
func (k *liveList) forget(now time.Time) {
	for key, e := range k.of {
		if !now.Before(e.until) {
			delete(k.of, key)
		}
	}
}

// refreshEvery is how long others need to hear of an entry.
const refreshEvery = 3 * time.Second

// Run tells the store what was added, and reads what others did, until ctx
// ends.
func (l *Live) Run(ctx context.Context) error {
	l.refresh(ctx)
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			l.refresh(ctx)
		case add := <-l.puts:
			l.put(ctx, add)
		}
	}
}

func (l *Live) put(ctx context.Context, add mail.Listing) {
	if err := l.store.Put(ctx, add.List, add.Key, "rule "+add.Rule, add.For); err != nil {
		l.log.Warn("dynamic list: other gateways are not told", "list", add.List, "key", add.Key, "error", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if known := l.lists[add.List]; known != nil {
		if e, ok := known.of[add.Key]; ok {
			e.stored = true
			known.of[add.Key] = e
		}
	}
}

// refresh reads all lists. One that can't be read stays as it is.
func (l *Live) refresh(ctx context.Context) {
	l.mu.RLock()
	var lists []DynamicList
	for _, known := range l.lists {
		lists = append(lists, known.DynamicList)
	}
	l.mu.RUnlock()
	for _, d := range lists {
		entries, err := l.store.List(ctx, d.Name, d.Max)
		if err != nil {
			continue // the store says itself that it is away
		}
		l.take(d.Name, entries)
	}
}

func (l *Live) take(name string, entries []Listed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.lists[name]
	if known == nil {
		return
	}
	fresh := make(map[string]liveEntry, len(entries))
	for _, e := range entries {
		fresh[e.Key] = liveEntry{e.Until, true}
	}
	for key, e := range known.of {
		if !e.stored && time.Now().Before(e.until) {
			if _, there := fresh[key]; !there {
				fresh[key] = e
			}
		}
	}
	known.of = fresh
}
