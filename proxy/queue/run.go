package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
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
	q.workers.Go(func() { q.readSpool(ctx) })
	q.workers.Go(func() { q.clockwork(ctx) })
	q.mu.Lock()
	q.workers.start = func() { q.workers.Go(func() { q.work(late) }) }
	q.employ(q.config().MaxDeliveries)
	q.mu.Unlock()
	<-ctx.Done()
	q.halt()
	grace := time.AfterFunc(q.config().Grace, cancel)
	defer grace.Stop()
	q.workers.Wait()
	return q.sync(context.WithoutCancel(ctx))
}

// employ makes it so many workers: those who are too many go when they are
// free. q.mu is held.
func (q *Queue) employ(n int) {
	q.workers.want = n
	if q.state != running || q.workers.start == nil {
		return
	}
	for ; q.workers.have < n; q.workers.have++ {
		q.workers.start()
	}
	q.ready.Broadcast()
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

// backlog is what the spool held when we began.
type backlog struct {
	found    []waiter
	overdue  int
	reported map[string]bool
}

type waiter struct {
	id        string
	wait, age time.Duration
}

// readSpool schedules what is in the spool, while fresh mail goes its way.
// Nothing of it starts before all is read: a notification stands behind the
// message that it is about.
func (q *Queue) readSpool(ctx context.Context) {
	b := backlog{reported: make(map[string]bool)}
	now := q.now()
	for m := range q.spool.All() {
		if ctx.Err() != nil {
			return
		}
		if m.Origin == spool.FromDSN {
			b.reported[m.Group] = true
		}
		if m.Progress.State != spool.Hold {
			b.add(m, q.termsOf(m), now)
		}
	}
	over := min(time.Duration(b.overdue)*spread, q.config().FirstRetry)
	q.mu.Lock()
	defer q.mu.Unlock()
	maps.Copy(q.reported, b.reported) // of fresh mail there may be some already
	q.informed = true
	base := q.elapsed()
	for _, w := range b.found {
		if q.items[w.id] != nil {
			continue
		}
		it := q.newItem(w.id, w.age)
		it.phase = waiting
		if w.wait == 0 && b.overdue > 1 {
			w.wait = rand.N(over)
		}
		q.set(&it.timer, base+w.wait)
	}
}

// knowReports finds the notifications in the spool for those who do not wait
// for readSpool, or do without Run.
func (q *Queue) knowReports() {
	q.mu.Lock()
	informed := q.informed
	q.mu.Unlock()
	if informed {
		return
	}
	reported := make(map[string]bool)
	for m := range q.spool.All() {
		if m.Origin == spool.FromDSN {
			reported[m.Group] = true
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	maps.Copy(q.reported, reported)
	q.informed = true
}

// add notes a message. Times on disk are wall-clock times of another day: none
// may put it further off than the schedule would, and those that all lie in the
// future don't come due together.
func (b *backlog) add(m *spool.Message, t terms, now time.Time) {
	longest := t.longest(m.Progress.State)
	w := waiter{m.ID, max(m.Next.Sub(now), 0), ageAtStart(m, now, longest)}
	if w.wait > longest {
		w.wait = rand.N(longest)
	}
	if w.wait == 0 {
		b.overdue++
	}
	b.found = append(b.found, w)
}
