// Package queue decides when each recipient of each message is tried next, and
// what is done with the answer: try again later, tell the sender, forget.
//
// A message that was committed to the spool is announced with Accepted and
// tried at once. Its recipients are grouped by destination (Deliverer.Route);
// each group waits in the line of its destination for one of a fixed number of
// workers. A destination that can't be reached is paused and probed by one
// message; the others wait for it without an attempt of their own. Memory holds
// an ID and a few numbers for each message, never content.
//
// What it promises: every message is tried until each recipient has it, was
// refused for good, or is too old; then, durably and before the message is
// removed, its sender is told. A crash between a next hop's 250 and the record
// of it delivers that message a second time to that next hop; nothing else does.
package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// Deliverer knows the next hops.
type Deliverer interface {
	// Route names the destination that mail for rcpt goes to.
	Route(rcpt mail.Address) (dest string, ok bool)
	// Deliver tries all recipients of env at one destination, once, and
	// returns an outcome for each in the same order.
	Deliver(ctx context.Context, dest string, facts mail.Facts, env mail.Envelope, content mail.Content) []mail.Outcome
}

// Rerouter is what a Deliverer may be as well: it sends some messages another
// way, whoever their recipients are.
type Rerouter interface {
	// Reroute names the destination of a message; ok is false where the
	// recipients decide.
	Reroute(e *spool.Entry) (dest string, ok bool)
}

// route names the destination that m goes to for rcpt.
func (q *Queue) route(m *spool.Message, rcpt mail.Address) (dest string, ok bool) {
	if r, is := q.deliverer.(Rerouter); is {
		if dest, ok := r.Reroute(&m.Entry); ok {
			return dest, true
		}
	}
	return q.deliverer.Route(rcpt)
}

// Stats counts what is done.
type Stats interface {
	// Attempt counts one attempt for one recipient; result is "sent",
	// "deferred" or "bounced".
	Attempt(destination, result string, took time.Duration)
	// Notification counts one that a sender is to have: kind is "failure",
	// "success" or "delay", result "sent" or why it was not: "null_sender",
	// "notification", "spam", "policy", "authentication".
	Notification(kind, result string)
}

// Recorder keeps what becomes of messages. It must not block.
type Recorder interface{ Event(e mail.Event) }

// note tells the recorder of m.
func (q *Queue) note(m *spool.Message, e mail.Event) {
	if q.recorder == nil {
		return
	}
	e.Time, e.ID, e.Group = q.now(), m.ID, m.Group
	q.recorder.Event(e)
}

// Deps is what a queue works with.
type Deps struct {
	Spool     *spool.Spool
	Deliverer Deliverer
	Stats     Stats    // may be nil
	Recorder  Recorder // may be nil
	Log       *slog.Logger
	Hostname  string // ours; notifications come from MAILER-DAEMON there
	// Forged says why a sender is not whom the message names, "" where nothing
	// speaks against him; nil: nobody can say. It is asked before a notification
	// goes to somebody who is not one of ours.
	Forged func(ctx context.Context, e *spool.Entry) (why string)
	// Sign returns the header of a notification as it goes out, signed where it
	// can be; nil: none is.
	Sign func(h mail.Header, body io.ReaderAt, size int64) mail.Header
	// Now is the wall clock; nil means time.Now. Waiting goes by the monotonic
	// clock whatever Now says.
	Now func() time.Time
	// Failpoint, in tests, is called with the name of each step before it is
	// taken. An error is taken as the step's own.
	Failpoint func(step string) error
}

// Queue delivers what is in the spool.
type Queue struct {
	live      atomic.Pointer[Config]
	spool     *spool.Spool
	deliverer Deliverer
	stats     Stats
	recorder  Recorder
	log       *slog.Logger
	hostname  string
	now       func() time.Time
	forged    func(context.Context, *spool.Entry) string
	sign      func(mail.Header, io.ReaderAt, int64) mail.Header
	failpoint func(string) error
	keep      int // mostLoaded

	start time.Time     // the zero of all timers
	wake  chan struct{} // the earliest timer changed
	ready sync.Cond     // on mu: there is work, or stopping

	mu      sync.Mutex
	state   runState
	items   map[string]*item
	dests   map[string]*destination
	timers  timers
	fresh   fifo[*item] // just accepted, to be grouped by destination
	due     fifo[*item] // the same, for what was tried before
	round   uint        // takes turns between kinds of work
	groups  []*group    // with the destinations that have work
	turn    uint        // takes turns between groups
	aside   []standby   // they have work, and their share of workers
	held    [tracks]int // deliveries on their way
	workers struct {
		sync.WaitGroup
		have, want int
		start      func() // one more; set by Run
	}
	loaded   int             // items that hold their message
	reported map[string]bool // IDs of which a notification is or was in the spool
	informed bool            // reported has what was in the spool before us
}

type runState int

const (
	offline  runState = iota // Run was not called
	running                  // deliveries start
	stopping                 // running ones end, no other starts; also after Run
)

// New makes a queue. It does nothing before Run but answer admin calls.
func New(cfg Config, deps Deps) (*Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	if deps.Spool == nil || deps.Deliverer == nil || deps.Log == nil || deps.Hostname == "" {
		return nil, errors.New("queue: spool, deliverer, log and hostname are needed")
	}
	q := &Queue{
		spool: deps.Spool, deliverer: deps.Deliverer, stats: deps.Stats, recorder: deps.Recorder, log: deps.Log,
		hostname: deps.Hostname, now: deps.Now, forged: deps.Forged, sign: deps.Sign, failpoint: deps.Failpoint,
		keep: mostLoaded, start: time.Now(),
		wake:  make(chan struct{}, 1),
		items: make(map[string]*item),
		dests: make(map[string]*destination),

		reported: make(map[string]bool),
	}
	if q.now == nil {
		q.now = time.Now
	}
	q.ready.L = &q.mu
	q.live.Store(&cfg)
	return q, nil
}

// config is the one in force.
func (q *Queue) config() *Config { return q.live.Load() }

// elapsed is the time on the queue's own clock, which never jumps.
func (q *Queue) elapsed() time.Duration { return time.Since(q.start) }

// Accepted announces messages that were committed to the spool. It never
// blocks.
func (q *Queue) Accepted(ids ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state != running {
		return // Run finds them in the spool
	}
	for _, id := range ids {
		if q.items[id] != nil {
			continue
		}
		q.fresh.push(q.newItem(id, 0))
		q.ready.Signal()
	}
}
