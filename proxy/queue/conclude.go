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
	if !w.ends() {
		it.wish = wishNone
	}
	q.unload(it)
	it.hands--
	it.phase = waiting
	switch stuck := it.stuck; {
	case stuck == nil:
	case stuck.mode == paused || stuck.mode == probed:
		q.waitFor(it, stuck)
	default: // it came back while we wrote this down, or needs somebody to probe it
		wait = min(wait, q.config().FirstPause)
	}
	it.stuck = nil
	q.set(&it.timer, q.elapsed()+wait)
	return true
}

// settle does what follows from the results. It returns how long to wait for
// the next attempt, or done.
func (q *Queue) settle(ctx context.Context, it *item, w wish, why string) (wait time.Duration, done bool) {
	m, t, age := it.msg, q.termsOf(it.msg), q.age(it)
	m.Age = age
	switch {
	case w == wishDelete:
		return q.finish(it, "deleted")
	case w == wishBounce:
		q.giveUp(it, bounced)
	case w == wishExpire, w != wishHold && !complete(m) && expired(t.maxAge, age, m.Attempts):
		q.giveUp(it, tooOld)
	}
	if m.Origin == spool.FromJournal && takeBack(m) {
		w, why = wishHold, copyReason
	}
	if complete(m) {
		if err := q.notify(ctx, it); err != nil {
			q.log.Error("notification not recorded", "id", it.id, "error", err)
			return q.retryAfter(m, t, age), false
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
			return q.retryAfter(m, t, age), false
		}
		q.log.Info("held", "id", it.id, "reason", why)
		q.note(m, mail.Event{What: mail.EventHeld, Text: why})
		return 0, true
	}
	q.tellEarly(ctx, it)
	q.warn(ctx, it)
	q.shift(m, w, t, age)
	wait = q.retryAfter(m, t, age)
	m.Next = q.now().Add(wait)
	if ctx.Err() != nil { // broken off at shutdown, which is not the message's fault
		m.Next = q.now()
	}
	if err := q.save(it); err != nil {
		q.log.Error("progress not recorded", "id", it.id, "error", err)
	}
	return wait, false
}

// shift puts the message into the lane where it belongs by its age, or where an
// admin wants it. It is recorded with the attempt.
func (q *Queue) shift(m *spool.Message, w wish, t terms, age time.Duration) {
	state, why := m.Progress.State, "age"
	switch {
	case w == wishRetry:
		state, why = spool.Queue, "moved"
	case w == wishSlow:
		state, why = spool.Slow, "moved"
	case t.slowNow(age):
		state = spool.Slow
	}
	if state == m.Progress.State {
		return
	}
	if err := q.step(stepMove); err != nil {
		q.log.Error("not moved", "id", m.ID, "error", err)
		return
	}
	m.Progress.State = state
	q.log.Info("moved", "id", m.ID, "lane", LaneOf(m), "reason", why)
	q.note(m, mail.Event{What: mail.EventMoved, Text: string(LaneOf(m))})
}

// finish removes the message from the spool. Where that can't be recorded, the
// item stays and knows that only this is left to do.
func (q *Queue) finish(it *item, why string) (wait time.Duration, done bool) {
	if err := q.remove(it.id); err != nil {
		q.log.Error("removal not recorded", "id", it.id, "error", err)
		it.unsaved = true
		return q.retryAfter(it.msg, q.termsOf(it.msg), q.age(it)), false
	}
	q.log.Info("removed", "id", it.id, "reason", why)
	q.note(it.msg, mail.Event{What: mail.EventRemoved, Text: why})
	return 0, true
}

func (q *Queue) maxAge(m *spool.Message) time.Duration { return q.termsOf(m).maxAge }

// retryAfter is the time to the next attempt. The last one comes when the
// message has just become too old, not much after that.
func (q *Queue) retryAfter(m *spool.Message, t terms, age time.Duration) time.Duration {
	wait := t.wait(m.Progress.State, m.Attempts)
	if left := t.maxAge - age; left > 0 {
		wait = min(wait, left+time.Second)
	}
	return wait
}

// Why a recipient is given up who was only put off.
var (
	tooOld  = mail.Reply{Code: 451, Detail: "4.7", Text: "delivery time expired"}
	bounced = mail.Reply{Code: 554, Detail: "0.0", Text: "returned by the postmaster"}
)

// giveUp fails what is still put off; it.work is held.
func (q *Queue) giveUp(it *item, why mail.Reply) {
	m := it.msg
	it.unsaved = true
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if r.Status != mail.Deferred {
			continue
		}
		last := "none"
		if !r.Reply.IsZero() {
			last = r.Reply.String()
		}
		r.Status, r.Reply = mail.Failed, why
		r.Reply.Text += "; last answer: " + truncate(last, longestReply)
		q.log.Info("delivery", "id", m.ID, "to", m.Envelope.Recipients[i].String(), "relay", "none",
			"delay", max(q.now().Sub(m.Received), 0), "dsn", statusCode(*r), "status", r.Status.String(), "reply", r.Reply.String())
		q.note(m, mail.Event{What: mail.EventAttempt, Rcpt: m.Envelope.Recipients[i].Address, Status: r.Status, Text: r.Reply.String()})
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
