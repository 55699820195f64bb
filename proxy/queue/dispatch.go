package queue

import (
	"context"
	"errors"
	"slices"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// job is one piece of work for a worker: to group a message by destination, or
// to deliver its part for one of them.
type job struct {
	item  *item
	dest  *destination // nil: to be grouped
	try   bool         // false: the destination is paused; put off without an attempt
	track track        // of a try
	group *group       // that the destination was of
}

// next waits for work. ok is false when the worker is no longer needed.
//
// To group what came just now comes first: it is quick, and without it a message
// for an idle destination would wait behind those for a busy one. Of the rest,
// three deliveries go before one piece of the work that a full queue makes:
// grouping what was tried before, and putting off those whose destination is
// paused.
func (q *Queue) next() (j job, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.state == running && q.workers.have <= q.workers.want {
		if q.fresh.len() > 0 {
			return job{item: q.fresh.pop()}, true
		}
		q.round++
		if q.round%4 == 0 {
			if j, ok := q.chore(); ok {
				return j, true
			}
		}
		if j, ok := q.delivery(); ok {
			return j, true
		}
		if j, ok := q.chore(); ok {
			return j, true
		}
		q.ready.Wait()
	}
	q.workers.have--
	return job{}, false
}

// delivery finds one to make; q.mu is held. The slow lane comes last, but some
// time.
func (q *Queue) delivery() (job, bool) {
	if q.round%16 == 1 && q.held[slowTrack] == 0 {
		return q.pick(slowTrack, goodTrack, newTrack, troubledTrack)
	}
	return q.pick(goodTrack, newTrack, troubledTrack, slowTrack)
}

// chore finds work of a full queue; q.mu is held.
func (q *Queue) chore() (job, bool) {
	if q.due.len() > 0 {
		return job{item: q.due.pop()}, true
	}
	return q.pick(putOffTrack)
}

// enter tells whether a worker may work on it; then it must leave again.
func (q *Queue) enter(it *item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it.phase == finished {
		return false
	}
	it.hands++
	return true
}

// group puts the message into the line of each destination it has recipients
// for.
func (q *Queue) group(ctx context.Context, it *item) {
	if !q.enter(it) {
		return
	}
	it.work.Lock()
	defer it.work.Unlock()
	m, err := q.load(it)
	if err != nil {
		q.unreadable(it, err)
		return
	}
	if m.Progress.State == spool.Hold {
		q.forget(it)
		return
	}
	names := q.destinations(it, m)
	q.mu.Lock()
	if len(names) == 0 || it.wish.ends() {
		q.mu.Unlock()
		q.conclude(ctx, it)
		return
	}
	defer q.mu.Unlock()
	it.hands--
	it.jobs = len(names)
	l := lineOf(m)
	for _, name := range names {
		d := q.destination(name)
		d.line[l].push(it)
		q.list(d)
	}
	if q.loaded > q.keep {
		q.unload(it)
	}
}

const noRouteReason = `no route to the sender for this notification: add a route for the domain, or for all others [route."."], then release it`

var noRoute = mail.Reply{Code: 550, Detail: "4.4", Text: "no route to this domain"}

// destinations returns the names of those that unfinished recipients belong to.
// A recipient without one was accepted under another configuration: that is
// final, since only an admin could change it, and the sender should know. Our
// own notifications are kept instead.
func (q *Queue) destinations(it *item, m *spool.Message) []string {
	var names []string
	for i := range m.Recipients {
		if m.Recipients[i].Status != mail.Deferred {
			continue
		}
		rcpt := m.Envelope.Recipients[i].Address
		name, ok := q.route(m, rcpt)
		switch {
		case ok && !slices.Contains(names, name):
			names = append(names, name)
		case !ok && m.Origin != spool.FromDSN:
			q.apply(m, i, mail.Outcome{Recipient: rcpt, Status: mail.Failed, Reply: noRoute})
			it.unsaved = true
		}
	}
	return names
}

// unreadable puts off a message that the spool can't tell about; it.work is
// held.
func (q *Queue) unreadable(it *item, err error) {
	if errors.Is(err, spool.ErrNotFound) {
		q.forget(it) // deleted meanwhile
		return
	}
	q.log.Error("message can't be read", "id", it.id, "error", err)
	q.mu.Lock()
	defer q.mu.Unlock()
	it.hands--
	it.phase, it.stuck = waiting, nil
	q.set(&it.timer, q.elapsed()+q.config().MaxRetry)
}

// forget drops an item with nothing left to do; it.work is held, by a worker.
func (q *Queue) forget(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forgetLocked(it)
}

func (q *Queue) forgetLocked(it *item) {
	it.unsaved = false
	q.unload(it)
	q.unset(&it.timer)
	q.stopWaiting(it)
	it.hands--
	it.phase = finished
	if q.items[it.id] == it {
		delete(q.items, it.id)
	}
	for _, suffix := range [...]string{"", delaySuffix, earlySuffix} {
		delete(q.reported, it.id+suffix)
	}
}
