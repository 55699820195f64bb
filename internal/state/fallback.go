package state

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// far is a Store that may be away.
type far interface {
	Store
	// probe asks whether it can be written to.
	probe(context.Context) error
}

// Fallback is a Store that answers from this process's memory while the other
// one is away. Then nobody waits for it: it is probed in the background, at
// times that differ between gateways, and what was put or deleted meanwhile is
// written to it before it is asked again.
//
// The memory knows what this gateway has put, found or been told before, so that
// windows stay open and known senders known. What it counts ends with the
// outage.
type Fallback struct {
	far   far
	kind  string // for metrics
	local *Memory
	o     Options

	mu     sync.Mutex
	why    error // nil: it is there
	since  time.Time
	back   time.Time // when it last came back
	unsaid writes    // what it was not told
	asked  int       // what it was not asked
	closed bool

	ctx    context.Context
	stop   context.CancelFunc
	probes sync.WaitGroup
}

// Open makes the store that a Config names, with memory to fall back on. It does
// not connect, and makes no file, before it is asked something.
func Open(cfg Config, o Options) (*Fallback, error) {
	if cfg.Kind == KindSQLite {
		return newFallback(NewSQLite(cfg.Path, o), "sqlite", o), nil
	}
	r, err := NewRedis(cfg, o)
	if err != nil {
		return nil, err
	}
	return newFallback(r, "redis", o), nil
}

func newFallback(s far, kind string, o Options) *Fallback {
	o = o.withDefaults()
	f := &Fallback{far: s, kind: kind, local: NewMemory(o.Now), o: o, unsaid: newWrites(mostUnsaid)}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// Name is that of the store behind it.
func (f *Fallback) Name() string { return f.far.Name() }

// Away says why the store does not answer, while it does not.
func (f *Fallback) Away() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.why
}

// Close closes the store.
func (f *Fallback) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.stop()
	f.probes.Wait()
	return f.far.Close()
}

// ask asks the store, and the memory where that is away. mirror notes in memory
// what the store has said.
func ask[T any](ctx context.Context, f *Fallback, op string, of func(Store) (T, error), mirror func(T)) (T, error) {
	if f.Away() == nil {
		v, err := of(f.far)
		switch {
		case err == nil:
			mirror(v)
			return v, nil
		case ctx.Err() != nil || errors.Is(err, ErrBad):
			return v, err
		}
		f.o.Stats.StoreError(f.kind, op)
		if !errors.Is(err, ErrAway) {
			return v, err
		}
		f.lost(err)
	} else {
		f.o.Stats.StoreError(f.kind, op)
	}
	f.mu.Lock()
	f.asked++
	f.mu.Unlock()
	return of(f.local)
}

// lost notes that the store is away, once, and begins to look for it.
func (f *Fallback) lost(why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.why != nil || f.closed {
		return
	}
	f.why, f.since, f.asked = why, f.o.Now(), 0
	f.o.Log.Warn("state: the store is away; this gateway decides by what it knows itself", "store", f.Name(), "error", why)
	first := firstProbe
	if f.since.Sub(f.back) < lastProbe {
		first = lastProbe // it comes and goes
	}
	f.probes.Go(func() { f.look(first) })
}

const (
	firstProbe = 100 * time.Millisecond
	lastProbe  = 2 * time.Second
	mostUnsaid = 10_000 // entries that are written when it returns
)

// look probes the store until it is there, and tells it what it missed.
func (f *Fallback) look(pause time.Duration) {
	for {
		spread := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-f.ctx.Done():
			spread.Stop()
			return
		case <-spread.C:
		}
		if f.far.probe(f.ctx) == nil && f.tell() {
			return
		}
		pause = min(2*pause, lastProbe)
	}
}

// tell writes what the store was not told. While it does, more may come: the
// last few are written while everybody waits.
func (f *Fallback) tell() bool {
	for round := 0; ; round++ {
		f.mu.Lock()
		list := f.unsaid.list()
		if few := len(list) <= fewUnsaid || round > 5 && len(list) <= 10*fewUnsaid; few {
			defer f.mu.Unlock()
			if !f.write(list) {
				return false
			}
			f.unsaid.done(list)
			f.returned()
			return true
		}
		f.mu.Unlock()
		if !f.write(list) {
			return false
		}
		f.mu.Lock()
		f.unsaid.done(list)
		f.mu.Unlock()
	}
}

// fewUnsaid are written in some 20 milliseconds.
const fewUnsaid = 50

func (f *Fallback) write(list []write) bool {
	for _, w := range list {
		if err := w.write(f.ctx, f.far, f.o.Now()); errors.Is(err, ErrAway) || f.ctx.Err() != nil {
			return false
		} else if err != nil {
			f.o.Log.Warn("state: an entry was not written back", "set", string(w.set), "key", w.key, "error", err)
		}
	}
	return true
}

// returned is called with the lock held.
func (f *Fallback) returned() {
	f.back = f.o.Now()
	f.o.Log.Info("state: the store is back", "store", f.Name(), "away", f.back.Sub(f.since).Round(time.Millisecond), "decisions", f.asked, "written", f.unsaid.written, "forgotten", f.unsaid.forgotten)
	f.why = nil
	f.unsaid = newWrites(mostUnsaid)
}

// remember notes what the store must be told, unless it is there again.
func (f *Fallback) remember(list ...write) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.why == nil {
		return false
	}
	for _, w := range list {
		f.unsaid.add(w)
	}
	return true
}

// change is ask for what changes a set. The memory has it in any case; a change
// is told to the store, or kept for it: it can't get lost between.
func change[T any](ctx context.Context, f *Fallback, op string, of func(Store) (T, error), kept ...write) (v T, err error) {
	for range 3 {
		answered := false
		v, err = ask(ctx, f, op, of, func(T) { answered = true })
		if err != nil {
			return v, err
		}
		if answered {
			_, err := of(f.local)
			return v, err
		}
		if f.remember(kept...) {
			return v, nil
		}
	}
	return v, fmt.Errorf("%w: %s: it comes and goes", ErrAway, f.Name())
}
