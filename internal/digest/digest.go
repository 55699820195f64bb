package digest

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync/atomic"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// Item is a message that is held.
type Item struct {
	ID       string
	Kind     mail.HeldKind
	Received time.Time
	Sender   mail.Address // of the envelope
	Subject  string       // decoded
	Reason   string
	Rcpts    []mail.Address // that it is held for
}

// heldFor finds a recipient among those of an item.
func (it *Item) heldFor(rcpt mail.Address) bool {
	for _, r := range it.Rcpts {
		if r.Same(rcpt) {
			return true
		}
	}
	return false
}

// Quarantine is what is held, and what a recipient may do with it.
type Quarantine interface {
	// Held iterates over what is held, the oldest first.
	Held() iter.Seq[Item]
	// Find returns one message; ok is false when it is not held any more.
	Find(id string) (it Item, ok bool)
	// Author is who a message says that it is from, in words.
	Author(id string) string
	// Do does what a recipient asked for, from an address of the network.
	Do(ctx context.Context, a Action, id string, rcpt mail.Address, from string) error
}

// Store keeps what must outlive a restart. state.Store is one.
type Store interface {
	Put(ctx context.Context, set state.Set, key, value string, ttl time.Duration) error
	Get(ctx context.Context, set state.Set, keys ...string) (state.Entry, bool, error)
	Enter(ctx context.Context, key, id string, limit int, ttl time.Duration) (n int, entered bool, err error)
	Leave(ctx context.Context, key, id string) error
}

// Deps is what digests are made of, and how they go.
type Deps struct {
	Quarantine Quarantine
	Store      Store
	// Post queues a mail of ours.
	Post func(ctx context.Context, to mail.Address, m Mail) error
	// Ours reports whether a recipient is one of our own: nobody else is told.
	Ours func(mail.Address) bool
	Log  *slog.Logger
	Now  func() time.Time // nil: time.Now
}

// Mail is one of ours, from the null sender.
type Mail struct {
	Header mail.Header // without Date, Message-ID and Auto-Submitted
	Body   []byte
}

// Digests tells recipients what is held for them.
type Digests struct {
	cfg  atomic.Pointer[Config]
	deps Deps
	keys *keys
	view *views
}

// New makes digests; Run sends them.
func New(cfg Config, deps Deps) (*Digests, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	view, err := newViews()
	if err != nil {
		return nil, err
	}
	d := &Digests{deps: deps, keys: &keys{path: cfg.Key, life: cfg.LinkAge}, view: view}
	d.cfg.Store(&cfg)
	return d, nil
}

// Update takes over other settings. The file of keys stays.
func (d *Digests) Update(cfg Config) { d.cfg.Store(&cfg) }

// lookEvery is how often the clock on the wall is looked at: it may be set.
const lookEvery = 20 * time.Second

// Run sends digests when they are due, until ctx ends.
func (d *Digests) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if d.cfg.Load().On() {
			if _, err := d.Send(ctx, false); err != nil && ctx.Err() == nil {
				d.deps.Log.ErrorContext(ctx, "digests not sent, they are tried again", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// markAge is how long the store remembers who was told.
const markAge = 60 * 24 * time.Hour

// Send sends what is due. What was sent is noted for each recipient, so that
// after a crash at most one is told again. With now it does not wait for the
// time of day: everybody who is to be told at all hears of what is new.
func (d *Digests) Send(ctx context.Context, now bool) (sent int, err error) {
	cfg, at := d.cfg.Load(), d.deps.Now()
	slot := cfg.slot(at)
	last, known, err := d.mark(ctx, "run "+cfg.Hostname)
	switch {
	case err != nil:
		return 0, err
	case !known && !now: // the first time: not in the middle of the day
		return 0, d.setMark(ctx, "run "+cfg.Hostname, slot)
	case !now && !last.Before(slot):
		return 0, nil
	}
	for _, box := range d.boxes() {
		did, err := d.tell(ctx, cfg, box, last, at, now)
		if err != nil {
			return sent, fmt.Errorf("digest: for %s: %w", box.rcpt, err)
		}
		if did {
			sent++
		}
	}
	if sent > 0 {
		d.deps.Log.InfoContext(ctx, "digests sent", "recipients", sent)
	}
	if now {
		return sent, nil
	}
	return sent, d.setMark(ctx, "run "+cfg.Hostname, slot)
}

// tell sends one digest, where one is due; last is when any were sent.
func (d *Digests) tell(ctx context.Context, cfg *Config, b *box, last, at time.Time, now bool) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	name := "told " + cfg.Hostname + " " + b.key
	told, _, err := d.mark(ctx, name)
	if err != nil {
		return false, err
	}
	from, due := cfg.since(cfg.of(b.rcpt), told, at)
	if told.IsZero() && !last.IsZero() && last.Before(from) {
		from = last // nobody was told since: the gateway was off
	}
	if now && cfg.of(b.rcpt) != Off {
		from, due = told, true
	}
	if !due {
		return false, nil
	}
	fresh := b.since(from, at)
	if len(fresh) < cfg.MinItems {
		return false, nil
	}
	m, err := d.compose(cfg, b.rcpt, fresh, at, d.ticketURL)
	if err == nil {
		err = d.deps.Post(ctx, b.rcpt, m)
	}
	if err != nil {
		return false, err
	}
	return true, d.setMark(ctx, name, at)
}

func (d *Digests) mark(ctx context.Context, name string) (time.Time, bool, error) {
	e, ok, err := d.deps.Store.Get(ctx, state.Digests, name)
	if err != nil || !ok {
		return time.Time{}, false, err
	}
	at, err := time.Parse(time.RFC3339Nano, e.Value)
	return at, err == nil, nil
}

func (d *Digests) setMark(ctx context.Context, name string, at time.Time) error {
	return d.deps.Store.Put(ctx, state.Digests, name, at.UTC().Format(time.RFC3339Nano), markAge)
}
