package quarantine

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync/atomic"
	"time"

	"gatepost/internal/mail"
)

// Item is a message of the quarantine.
type Item struct {
	ID       string
	Kind     mail.HeldKind
	Received time.Time
	Size     int64
}

// Store is the messages.
type Store interface {
	// Held iterates over the messages of the quarantine, the oldest first.
	Held() iter.Seq[Item]
	// Discard removes one, and keeps why. What is not there any more is nil.
	Discard(ctx context.Context, id, why string) error
}

// Keeper removes what is held for too long, or is too much.
type Keeper struct {
	store Store
	log   *slog.Logger
	now   func() time.Time
	cfg   atomic.Pointer[Config]
}

// NewKeeper makes a keeper; Run lets it work.
func NewKeeper(cfg Config, store Store, log *slog.Logger) (*Keeper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	k := &Keeper{store: store, log: log, now: time.Now}
	k.cfg.Store(&cfg)
	return k, nil
}

// Update takes over other limits.
func (k *Keeper) Update(cfg Config) { k.cfg.Store(&cfg) }

// sweepEvery is how often it looks. Ages are days.
const sweepEvery = 10 * time.Minute

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		k.Sweep(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sweep looks once. It returns how many messages it removed.
func (k *Keeper) Sweep(ctx context.Context) (removed int) {
	for id, why := range k.excess() {
		if ctx.Err() != nil {
			return removed
		}
		if err := k.store.Discard(ctx, id, why); err != nil {
			k.log.ErrorContext(ctx, "quarantine: not removed", "id", id, "error", err)
			continue
		}
		k.log.InfoContext(ctx, "quarantine: removed", "id", id, "reason", why)
		removed++
	}
	return removed
}

// excess are the messages that have to go, and why. Each sum is counted from
// the newest: so it is the oldest that are too much.
func (k *Keeper) excess() iter.Seq2[string, string] {
	cfg, now := k.cfg.Load(), k.now()
	var all int64
	of := make(map[mail.HeldKind]int64)
	var items []Item
	for it := range k.store.Held() {
		items = append(items, it)
		all += it.Size
		of[it.Kind] += it.Size
	}
	return func(yield func(string, string) bool) {
		for _, it := range items {
			l, why := cfg.limits(it.Kind), ""
			switch {
			case now.Sub(it.Received) > l.MaxAge:
				why = fmt.Sprintf("held for more than %s", days(l.MaxAge))
			case l.MaxSize > 0 && of[it.Kind] > l.MaxSize:
				why = fmt.Sprintf("the oldest, as more than %d bytes are held for the reason %s", l.MaxSize, it.Kind)
			case cfg.MaxSize > 0 && all > cfg.MaxSize:
				why = fmt.Sprintf("the oldest, as more than %d bytes are held", cfg.MaxSize)
			default:
				continue
			}
			all -= it.Size
			of[it.Kind] -= it.Size
			if !yield(it.ID, why) {
				return
			}
		}
	}
}

func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return d.String()
}
