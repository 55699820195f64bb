package notify

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/internal/mail"
)

// Event is something that somebody should know.
type Event struct {
	Kind  Kind      `json:"event"`
	Time  time.Time `json:"time"`
	About string    `json:"about,omitempty"` // what: a filter, a virus, a listener
	Text  string    `json:"text"`            // in plain words

	// Of a message:
	ID      string         `json:"id,omitempty"`
	Sender  string         `json:"sender,omitempty"`
	Subject string         `json:"subject,omitempty"`
	Client  string         `json:"client,omitempty"`
	Action  string         `json:"action,omitempty"` // what became of it
	Rcpts   []mail.Address `json:"-"`
	To      []string       `json:"recipients,omitempty"` // the first of Rcpts
}

// Deps is how notifications go.
type Deps struct {
	// Post queues a mail of ours, from the null sender.
	Post func(ctx context.Context, to mail.Address, subject, body string) error
	// Ours reports whether an address is one of our own: no other recipient of a
	// message is told.
	Ours func(mail.Address) bool
	Log  *slog.Logger
	Now  func() time.Time // nil: time.Now
}

// Notifier tells those who should know.
type Notifier struct {
	cfg    atomic.Pointer[Config]
	deps   Deps
	hook   *webhook
	events chan Event
	lost   atomic.Int64 // for which there was no room

	mu    sync.Mutex
	pace  map[string]*pace // by kind and address
	state map[string]bool  // by kind and subject: what is wrong now
}

// waiting is how many events may wait to be told.
const waiting = 1000

// New makes a notifier; Run tells.
func New(cfg Config, deps Deps) (*Notifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	n := &Notifier{deps: deps, hook: newWebhook(), events: make(chan Event, waiting), pace: make(map[string]*pace), state: make(map[string]bool)}
	n.cfg.Store(&cfg)
	return n, nil
}

// Update takes over other settings.
func (n *Notifier) Update(cfg Config) { n.cfg.Store(&cfg) }

// Tell takes an event. It never waits: where too many do already, it is counted.
func (n *Notifier) Tell(e Event) {
	cfg := n.cfg.Load()
	if !cfg.wants(e.Kind) {
		return
	}
	if e.Time.IsZero() {
		e.Time = n.deps.Now()
	}
	for _, a := range e.Rcpts[:min(len(e.Rcpts), 20)] {
		e.To = append(e.To, a.String())
	}
	select {
	case n.events <- e:
	default:
		n.lost.Add(1)
	}
}

func (c *Config) wants(k Kind) bool {
	return c.forAdmin() && slices.Contains(c.Events, k) || slices.Contains(c.Recipients, k)
}

// Set notes whether something is wrong, and tells when that begins, or, with an
// event for that, when it ends.
func (n *Notifier) Set(wrong bool, begins Event, ends *Event) {
	key := string(begins.Kind) + " " + begins.About
	if begins.Kind == QueueAge {
		key = string(begins.Kind) // About says how long
	}
	n.mu.Lock()
	was := n.state[key]
	if wrong {
		n.state[key] = true
	} else {
		delete(n.state, key)
	}
	n.mu.Unlock()
	switch {
	case wrong && !was:
		n.Tell(begins)
	case !wrong && was && ends != nil:
		n.Tell(*ends)
	}
}

// Run tells what there is to tell until ctx ends.
func (n *Notifier) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-n.events:
			n.spread(ctx, e)
		case <-tick.C:
			n.summaries(ctx)
		}
	}
}

// spread tells one event to all who should know.
func (n *Notifier) spread(ctx context.Context, e Event) {
	cfg := n.cfg.Load()
	if slices.Contains(cfg.Events, e.Kind) {
		for _, to := range cfg.Admin {
			n.mail(ctx, cfg, to, e, n.forAdmin(cfg, e))
		}
		if cfg.Webhook != "" {
			n.call(ctx, cfg, e)
		}
	}
	if !slices.Contains(cfg.Recipients, e.Kind) {
		return
	}
	for _, rcpt := range e.Rcpts {
		if n.deps.Ours(rcpt) {
			n.mail(ctx, cfg, rcpt.String(), e, n.forRecipient(cfg, e))
		}
	}
}

func (n *Notifier) mail(ctx context.Context, cfg *Config, to string, e Event, t texts) {
	beyond, ok := n.take(cfg, "mail "+to, e)
	if !ok {
		return
	}
	a, err := mail.ParseAddress(to, true)
	if err == nil {
		err = n.deps.Post(ctx, a, t.subject, t.body+and(beyond, cfg.PerHour))
	}
	if err != nil {
		n.deps.Log.ErrorContext(ctx, "notification not sent", "event", e.Kind, "to", to, "error", err)
	}
}

func (n *Notifier) call(ctx context.Context, cfg *Config, e Event) {
	beyond, ok := n.take(cfg, "webhook", e)
	if !ok {
		return
	}
	if err := n.hook.post(ctx, cfg, e, beyond); err != nil && ctx.Err() == nil {
		n.deps.Log.ErrorContext(ctx, "webhook did not take a notification", "event", e.Kind, "error", err)
	}
}

// and tells of what was not told by itself.
func and(beyond, perHour int) string {
	if beyond == 0 {
		return ""
	}
	return fmt.Sprintf("\r\nAnd %d more of this kind in the hour before, of which no mail was sent (per_hour = %d).\r\n", beyond, perHour)
}
