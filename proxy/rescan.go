package proxy

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// Rescanner judges what was taken while a filter could not tell
// (spool.Entry.Unscanned), as if it came now, when the filter is back. What it
// lets through is delivered as it would have been at once; what it refuses is
// held, since it was answered 250 and its sender may be forged.
//
// The judged message takes the place of the one that waited: it is committed
// first, on hold, then the old one is removed, then it is released. So a crash
// at any moment leaves one of the two to go on with (RescanDeps.Failpoint).
type Rescanner struct {
	deps  RescanDeps
	age   time.Duration
	log   *slog.Logger
	start time.Time     // the zero of all times below, by the monotonic clock
	kick  chan struct{} // somebody came, or a turn is free

	mu     sync.Mutex
	lines  map[string]*rescanLine // by the filters waited for
	known  map[string]bool        // IDs in a line or at work
	busy   int
	halted []string // judged, and still to be released
}

// RescanDeps is what a Rescanner works with.
type RescanDeps struct {
	Spool *spool.Spool
	Queue Queue
	// NewHandler makes the handler for one message of a listener.
	NewHandler func(listener string) mail.Handler
	// Up reports whether these filters can be asked.
	Up func(filters ...string) bool
	// Admin is held while an admin acts on messages; then none is replaced.
	Admin sync.Locker
	Stats RescanStats // nil: nothing is counted
	// Recorder keeps what becomes of messages; it must not block. nil: nobody
	// does.
	Recorder interface{ Event(e mail.Event) }
	Log      *slog.Logger
	// Failpoint, in tests, is called with the name of each step before it is
	// taken. An error is taken as the step's own.
	Failpoint func(step string) error
}

// RescanStats counts what became of messages that waited for a filter:
// "released", "quarantined", "discarded"; "again" for one that could still not
// be judged; "expired" and "kept" for those that waited too long, where the
// sender was told or not.
type RescanStats interface{ Rescanned(result string) }

type noRescans struct{}

func (noRescans) Rescanned(string) {}

// The steps at which a test may stop the process.
const (
	stepJudged    = "rescan.judged"    // before the judged message is committed
	stepCommitted = "rescan.committed" // it is, beside the one that waited
	stepReplaced  = "rescan.replaced"  // that one is gone
	stepReleased  = "rescan.released"  // the judged one may go
)

// Steps returns the names of all steps that RescanDeps.Failpoint is called with.
func Steps() []string { return []string{stepJudged, stepCommitted, stepReplaced, stepReleased} }

const (
	rescanTurns   = 4               // messages at a time: live mail comes first
	rescanTimeout = 5 * time.Minute // for all stages of one message
	rescanTick    = 500 * time.Millisecond
	rescanSoon    = 2 * time.Second // from the failure to the first attempt
	rescanLate    = 10 * time.Minute
	expirySweep   = time.Minute
	// youngest is for how long a process must have waited itself before it
	// gives anything up: the age of a message is the difference of two
	// readings of the wall clock, and one of them may be wrong.
	youngest = time.Hour
)

// rescanLine is the messages that wait for the same filters, the one that is due
// first in front, of equal ones the oldest.
type rescanLine []rescanItem

type rescanItem struct {
	id       string
	due      time.Duration
	received int64 // unix
	tries    int
}

func (l rescanLine) Len() int { return len(l) }
func (l rescanLine) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(l[i].due, l[j].due), cmp.Compare(l[i].id, l[j].id)) < 0
}
func (l rescanLine) Swap(i, j int) { l[i], l[j] = l[j], l[i] }
func (l *rescanLine) Push(x any)   { *l = append(*l, x.(rescanItem)) }
func (l *rescanLine) Pop() any {
	last := (*l)[len(*l)-1]
	*l = (*l)[:len(*l)-1]
	return last
}

// NewRescanner makes a Rescanner that gives up what has waited for maxAge.
func NewRescanner(maxAge time.Duration, deps RescanDeps) (*Rescanner, error) {
	if deps.Spool == nil || deps.Queue == nil || deps.NewHandler == nil || deps.Up == nil || deps.Admin == nil || deps.Log == nil {
		return nil, errors.New("proxy: a rescanner needs spool, queue, handlers, filters, a lock and a log")
	}
	if maxAge <= 0 {
		return nil, errors.New("proxy: unscanned_max_age must be above zero")
	}
	if deps.Stats == nil {
		deps.Stats = noRescans{}
	}
	return &Rescanner{
		deps: deps, age: maxAge, log: deps.Log, start: time.Now(),
		kick: make(chan struct{}, 1), lines: make(map[string]*rescanLine), known: make(map[string]bool),
	}, nil
}

// Unscanned announces messages that were committed and are to be judged. It
// never blocks.
func (r *Rescanner) Unscanned(entries ...spool.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		r.add(e.Unscanned, rescanItem{id: e.ID, due: time.Since(r.start) + rescanSoon, received: e.Received.Unix()})
	}
}

// add puts a message into its line; r.mu is held.
func (r *Rescanner) add(filters string, it rescanItem) {
	if r.known[it.id] {
		return
	}
	r.known[it.id] = true
	r.put(filters, it)
}

func (r *Rescanner) put(filters string, it rescanItem) {
	l := r.lines[filters]
	if l == nil {
		l = new(rescanLine)
		r.lines[filters] = l
	}
	heap.Push(l, it)
}

// Run judges until ctx ends. The spool must be running for as long.
func (r *Rescanner) Run(ctx context.Context) error {
	r.readSpool(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	tick := time.NewTicker(rescanTick)
	defer tick.Stop()
	swept := time.Now()
	for {
		r.dispatch(ctx, &work)
		if now := time.Now(); now.Sub(swept) >= min(expirySweep, r.age) {
			swept = now
			r.sweep(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.kick:
		}
	}
}

// readSpool ends what a process before us began, and finds what waits.
func (r *Rescanner) readSpool(ctx context.Context) {
	var judged []*spool.Message
	for m := range r.deps.Spool.All() {
		switch {
		case ctx.Err() != nil:
			return
		case m.Replaces != "" && untouched(m):
			judged = append(judged, m)
		case waits(m):
			r.mu.Lock()
			r.add(m.Unscanned, rescanItem{id: m.ID, received: m.Received.Unix()})
			r.mu.Unlock()
		}
	}
	for _, m := range judged {
		r.resume(m)
	}
}

// resume goes on with a judged message: while the one that it was made of is
// there, that one counts.
func (r *Rescanner) resume(m *spool.Message) {
	_, err := r.deps.Spool.Get(m.Replaces)
	switch {
	case err == nil:
		r.log.Info("judging was broken off, once more", "id", m.Replaces)
		r.remove(m.ID)
	case !errors.Is(err, spool.ErrNotFound):
		r.log.Error("message can't be read", "id", m.Replaces, "error", err)
	case m.Entry.Reason == onItsWay:
		r.release(m.ID)
	}
}

// untouched reports whether a message is held as it was committed.
func untouched(m *spool.Message) bool {
	return m.Progress.State == spool.Hold && m.Entry.State == spool.Hold && m.Progress.Reason == m.Entry.Reason
}

// waits reports whether a message is to be judged. One that an operator has
// taken into his hands, or that waited too long, is not.
func waits(m *spool.Message) bool { return m.Unscanned != "" && untouched(m) }

// dispatch starts what is due and can be judged, as far as there are turns.
func (r *Rescanner) dispatch(ctx context.Context, work *sync.WaitGroup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for filters, l := range r.lines {
		if l.Len() == 0 {
			delete(r.lines, filters)
			continue
		}
		if !r.deps.Up(names(filters)...) {
			continue
		}
		for ctx.Err() == nil && r.busy < rescanTurns && l.Len() > 0 && (*l)[0].due <= time.Since(r.start) {
			it := heap.Pop(l).(rescanItem)
			r.busy++
			work.Go(func() { r.attempt(ctx, filters, it) })
		}
	}
}

// attempt judges one message and puts it back where that was not possible.
func (r *Rescanner) attempt(ctx context.Context, filters string, it rescanItem) {
	again := r.judge(ctx, it.id)
	if again {
		r.deps.Stats.Rescanned("again")
	}
	up := r.deps.Up(names(filters)...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy--
	switch {
	case !again:
		delete(r.known, it.id)
	case up: // it may be the cause of what it meets
		it.due = time.Since(r.start) + min(rescanSoon<<min(it.tries, 20), rescanLate)
		it.tries++
		r.put(filters, it)
	default:
		r.put(filters, it)
	}
	select {
	case r.kick <- struct{}{}:
	default:
	}
}
