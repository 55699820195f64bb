package queue

import (
	"context"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// conclude ends an attempt: the message is done with, held, or waits for the
// next one. it.work is held, by a worker that leaves the item here.
func (q *Queue) conclude(ctx context.Context, it *item) {
	m, err := q.load(it)
	if err != nil {
		q.unreadable(it, err)
		return
	}
	m.Attempts++
	for {
		w, why := q.wishOf(it)
		wait, done := q.settle(ctx, it, w, why)
		if q.leave(it, w, wait, done) {
			return
		}
	}
}

func (q *Queue) wishOf(it *item) (wish, string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return it.wish, it.why
}

// leave lets go of an item after its attempt. It refuses when the admin's wish
// has changed meanwhile.
func (q *Queue) leave(it *item, w wish, wait time.Duration, done bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it.wish != w {
		return false
	}
	if done {
		q.forgetLocked(it)
		return true
	}
	q.unload(it)
	it.hands--
	it.phase = waiting
	switch stuck := it.stuck; {
	case stuck == nil:
	case stuck.mode == paused || stuck.mode == probed:
		q.waitFor(it, stuck)
	default: // it came back while we wrote this down, or needs somebody to probe it
		wait = min(wait, q.cfg.FirstPause)
	}
	it.stuck = nil
	q.set(&it.timer, q.elapsed()+wait)
	return true
}

// settle does what follows from the results. It returns how long to wait for
// the next attempt, or done.
func (q *Queue) settle(ctx context.Context, it *item, w wish, why string) (wait time.Duration, done bool) {
	m := it.msg
	if w == wishDelete {
		return q.finish(it, "deleted")
	}
	if w != wishHold && !complete(m) {
		if maxAge := q.maxAge(m); expired(q.cfg, maxAge, q.now().Sub(m.Received), m.Attempts) {
			q.expire(m)
			it.unsaved = true
		}
	}
	if m.Origin == spool.FromJournal && takeBack(m) {
		w, why = wishHold, copyReason
	}
	if complete(m) {
		if err := q.notify(ctx, it); err != nil {
			q.log.Error("notification not recorded", "id", it.id, "error", err)
			return q.retryAfter(m), false
		}
		return q.finish(it, "done")
	}
	if m.Origin == spool.FromDSN && q.unroutable(m) {
		w, why = wishHold, noRouteReason
	}
	if w == wishHold {
		m.Progress.State, m.Progress.Reason = spool.Hold, why
		if err := q.save(it); err != nil {
			q.log.Error("hold not recorded", "id", it.id, "error", err)
			return q.retryAfter(m), false
		}
		q.log.Info("held", "id", it.id, "reason", why)
		return 0, true
	}
	q.warn(ctx, it)
	wait = q.retryAfter(m)
	m.Next = q.now().Add(wait)
	if ctx.Err() != nil { // broken off at shutdown, which is not the message's fault
		m.Next = q.now()
	}
	if err := q.save(it); err != nil {
		q.log.Error("progress not recorded", "id", it.id, "error", err)
	}
	return wait, false
}

// finish removes the message from the spool. Where that can't be recorded, the
// item stays and knows that only this is left to do.
func (q *Queue) finish(it *item, why string) (wait time.Duration, done bool) {
	if err := q.remove(it.id); err != nil {
		q.log.Error("removal not recorded", "id", it.id, "error", err)
		it.unsaved = true
		return q.retryAfter(it.msg), false
	}
	q.log.Info("removed", "id", it.id, "reason", why)
	return 0, true
}

func (q *Queue) maxAge(m *spool.Message) time.Duration {
	if m.Origin == spool.FromDSN {
		return q.cfg.BounceMaxAge
	}
	return q.cfg.MaxAge
}

// retryAfter is the time to the next attempt. The last one comes when the
// message has just become too old, not much after that.
func (q *Queue) retryAfter(m *spool.Message) time.Duration {
	wait := jitter(backoff(q.cfg.FirstRetry, q.cfg.MaxRetry, m.Attempts))
	if left := q.maxAge(m) - q.now().Sub(m.Received); left > 0 {
		wait = min(wait, left+time.Second)
	}
	return wait
}

// expire gives up what is still put off.
func (q *Queue) expire(m *spool.Message) {
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if r.Status != mail.Deferred {
			continue
		}
		last := "none"
		if !r.Reply.IsZero() {
			last = r.Reply.String()
		}
		r.Status = mail.Failed
		r.Reply = mail.Reply{Code: 451, Detail: "4.7", Text: "delivery time expired; last answer: " + truncate(last, longestReply)}
		q.log.Info("delivery", "id", m.ID, "to", m.Envelope.Recipients[i].String(), "relay", "none",
			"delay", max(q.now().Sub(m.Received), 0), "dsn", statusCode(*r), "status", r.Status.String(), "reply", r.Reply.String())
	}
}

// unroutable reports whether no unfinished recipient has a route.
func (q *Queue) unroutable(m *spool.Message) bool {
	for i, r := range m.Recipients {
		if r.Status != mail.Deferred {
			continue
		}
		if _, ok := q.route(m, m.Envelope.Recipients[i].Address); ok {
			return false
		}
	}
	return true
}

const copyReason = "a copy for a journal that its address does not take: put that right, then release it"

// takeBack makes the failed recipients of a message waiting ones again, and
// reports whether there are any. A journal's copy is nobody's to drop.
func takeBack(m *spool.Message) (any bool) {
	for i, r := range m.Recipients {
		if r.Status == mail.Failed {
			m.Recipients[i].Status, any = mail.Deferred, true
		}
	}
	return any
}
