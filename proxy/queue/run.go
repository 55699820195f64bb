package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"gatepost/proxy/spool"
)

// Run delivers until ctx ends. Then no delivery starts; those on their way may
// go on for Config.Grace, and what came of them is durable when Run returns.
// The spool must be running for as long. A queue runs once.
func (q *Queue) Run(ctx context.Context) error {
	q.mu.Lock()
	if q.state != offline {
		q.mu.Unlock()
		return errors.New("queue: runs once")
	}
	q.state = running // from here on Accepted counts, so nothing falls between it and readSpool
	q.mu.Unlock()

	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { q.readSpool(ctx) })
	wg.Go(func() { q.clockwork(ctx) })
	for range q.cfg.MaxDeliveries {
		wg.Go(func() { q.work(late) })
	}
	<-ctx.Done()
	q.halt()
	grace := time.AfterFunc(q.cfg.Grace, cancel)
	defer grace.Stop()
	wg.Wait()
	return q.sync(context.WithoutCancel(ctx))
}

// halt lets no other job begin.
func (q *Queue) halt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.state = stopping
	q.ready.Broadcast()
}

const syncTimeout = 30 * time.Second

// sync makes durable what was recorded.
func (q *Queue) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	if err := q.spool.Sync(ctx); err != nil {
		return fmt.Errorf("queue: making progress durable: %w", err)
	}
	return nil
}

// spread keeps the start of a full queue from being a storm: so much time for
// each message that is due, up to FirstRetry for all.
const spread = time.Millisecond

// readSpool schedules what is in the spool, while fresh mail goes its way.
// Times on disk are wall-clock times of another day: none may put a message
// further off than the schedule would. Nothing of it starts before all is read:
// a notification stands behind the message that it is about.
func (q *Queue) readSpool(ctx context.Context) {
	now := q.now()
	type entry struct {
		id   string
		wait time.Duration
	}
	var found []entry
	var overdue time.Duration
	reported := make(map[string]bool)
	for m := range q.spool.All() {
		if ctx.Err() != nil {
			return
		}
		if m.Origin == spool.FromDSN {
			reported[m.Group] = true
		}
		if m.Progress.State == spool.Hold {
			continue
		}
		wait := min(m.Next.Sub(now), q.cfg.MaxRetry)
		if wait <= 0 {
			wait = 0
			overdue++
		}
		found = append(found, entry{m.ID, wait})
	}
	over := min(overdue*spread, q.cfg.FirstRetry)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reported = reported
	base := q.elapsed()
	for _, e := range found {
		if q.items[e.id] != nil {
			continue
		}
		it := newItem(e.id)
		it.phase = waiting
		q.items[e.id] = it
		if e.wait == 0 && overdue > 1 {
			e.wait = rand.N(over)
		}
		q.set(&it.timer, base+e.wait)
	}
}
