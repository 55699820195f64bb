package queue

import (
	"context"
	"errors"
	"fmt"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// What an admin may be told; errors.Is finds them, and spool.ErrNotFound, in
// what the calls below return.
var (
	ErrHeld    = errors.New("is held; release it first")
	ErrNotHeld = errors.New("is not held")
	ErrBusy    = errors.New("is being worked on; try again")
)

// The calls below take effect one message at a time: they return how many it
// was, and an error for each of the others. They also work while Run does not,
// on a spool that is running. What they did is durable when they return.

// Retry makes messages due now and gives their destinations a chance, whatever
// was found there before.
func (q *Queue) Retry(ctx context.Context, ids ...string) (int, error) {
	return q.each(ctx, ids, q.retry)
}

// RetryAll makes all messages due that are not held.
func (q *Queue) RetryAll(ctx context.Context) (int, error) {
	var ids []string
	for m := range q.spool.All() {
		if m.Progress.State != spool.Hold {
			ids = append(ids, m.ID)
		}
	}
	done, err := q.Retry(ctx, ids...)
	return done, withoutGone(err)
}

// Delete removes messages, and nobody is told. One that is being delivered
// right now goes when that attempt has ended, which the recipient may see; it
// is never tried again.
func (q *Queue) Delete(ctx context.Context, ids ...string) (int, error) {
	return q.each(ctx, ids, q.delete)
}

// Hold keeps messages from being tried until they are released. One that is
// being delivered right now is held if something is left of it afterwards.
func (q *Queue) Hold(ctx context.Context, reason string, ids ...string) (int, error) {
	return q.each(ctx, ids, func(id string) error { return q.hold(id, mail.CleanText(reason)) })
}

// Release lets held messages go to the recipients they were held for. Their
// attempts count anew, so that they don't expire for having been held long.
func (q *Queue) Release(ctx context.Context, ids ...string) (int, error) {
	return q.each(ctx, ids, q.release)
}

func (q *Queue) each(ctx context.Context, ids []string, do func(id string) error) (done int, err error) {
	var errs []error
	for _, id := range ids {
		if err := do(id); err != nil {
			errs = append(errs, err)
			continue
		}
		done++
	}
	if done > 0 {
		if err := q.sync(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return done, errors.Join(errs...)
}

// withoutGone drops the complaints about messages that were finished between
// two looks.
func withoutGone(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		if !errors.Is(e, spool.ErrNotFound) && !errors.Is(e, ErrHeld) {
			errs = append(errs, e)
		}
	}
	return errors.Join(errs...)
}

func (q *Queue) retry(id string) error {
	m, err := q.get(id)
	if err != nil {
		return err
	}
	if m.Progress.State == spool.Hold {
		return fmt.Errorf("queue: message %s %w", id, ErrHeld)
	}
	if q.retryNow(m) {
		return nil
	}
	m.Next = q.now()
	return q.saveAs(m)
}

// retryNow does what Retry promises where Run runs.
func (q *Queue) retryNow(m *spool.Message) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state != running {
		return false
	}
	for i, r := range m.Recipients {
		if r.Status != mail.Deferred {
			continue
		}
		if name, ok := q.route(m, m.Envelope.Recipients[i].Address); ok && q.dests[name] != nil {
			q.reopen(q.dests[name])
			q.list(q.dests[name])
		}
	}
	it := q.items[m.ID]
	if it == nil {
		it = q.newItem(m.ID, m.Age)
		it.phase = waiting
	}
	if it.phase == waiting {
		q.line(it)
	}
	return true
}

func (q *Queue) delete(id string) error {
	m, err := q.get(id)
	if err != nil {
		return err
	}
	it, later := q.takeAway(id, wishDelete, "")
	if later {
		return nil
	}
	if err := q.step(stepAdmin); err != nil {
		q.putBack(it)
		return fmt.Errorf("queue: deleting %s: %w", id, err)
	}
	if err := q.spool.Remove(id); err != nil {
		q.putBack(it)
		return fmt.Errorf("queue: deleting %s: %w", id, err)
	}
	q.log.Info("removed", "id", id, "reason", "deleted")
	q.note(m, mail.Event{What: mail.EventRemoved, Text: "deleted"})
	return nil
}

func (q *Queue) hold(id, reason string) error {
	m, err := q.get(id)
	if err != nil {
		return err
	}
	if m.Progress.State == spool.Hold {
		return fmt.Errorf("queue: message %s %w", id, ErrHeld)
	}
	it, later := q.takeAway(id, wishHold, reason)
	if later {
		return nil
	}
	if it != nil && it.msg != nil {
		m = it.msg // may know more than the spool
	} else if m, err = q.get(id); err != nil { // again: an attempt may have ended between
		return err
	}
	state, old := m.Progress.State, m.Progress.Reason
	m.Progress.State, m.Progress.Reason = spool.Hold, reason
	if err := q.saveAs(m); err != nil {
		m.Progress.State, m.Progress.Reason = state, old
		q.putBack(it)
		return err
	}
	q.log.Info("held", "id", id, "reason", reason)
	q.note(m, mail.Event{What: mail.EventHeld, Text: reason})
	return nil
}

func (q *Queue) release(id string) error {
	m, err := q.get(id)
	if err != nil {
		return err
	}
	if m.Progress.State != spool.Hold {
		return fmt.Errorf("queue: message %s %w", id, ErrNotHeld)
	}
	q.mu.Lock()
	busy := q.items[id] != nil // its hold is just being recorded
	q.mu.Unlock()
	if busy {
		return fmt.Errorf("queue: message %s %w", id, ErrBusy)
	}
	m.Progress.State, m.Progress.Reason, m.Attempts, m.Age, m.Next = spool.Queue, "", 0, 0, q.now()
	if err := q.saveAs(m); err != nil {
		return err
	}
	q.log.Info("released", "id", id)
	q.note(m, mail.Event{What: mail.EventReleased})
	q.Accepted(id)
	return nil
}

// saveAs records progress that an admin changed.
func (q *Queue) saveAs(m *spool.Message) error {
	err := q.step(stepAdmin)
	if err == nil {
		err = q.spool.Save(m.ID, m.Progress)
	}
	if err != nil {
		return fmt.Errorf("queue: saving progress of %s: %w", m.ID, err)
	}
	return nil
}

// takeAway takes an item out of the queue's hands. Where a worker is at it, the
// worker is told the wish instead, and later is true.
func (q *Queue) takeAway(id string, w wish, why string) (it *item, later bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it = q.items[id]
	if it == nil {
		return nil, false
	}
	if it.hands > 0 {
		if it.wish != wishDelete { // nothing takes that back
			it.wish, it.why = w, why
		}
		return it, true
	}
	q.unset(&it.timer)
	q.stopWaiting(it)
	it.phase = finished
	delete(q.items, id)
	if it.msg != nil {
		q.loaded--
	}
	return it, false
}

// putBack undoes takeAway where the spool could not record what was wanted.
func (q *Queue) putBack(old *item) {
	if old == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.newItem(old.id, q.age(old)) // the old one may still stand in the line of a destination
	it.phase, it.unsaved = waiting, old.unsaved
	if old.unsaved {
		it.msg = old.msg
		q.loaded++
	}
	q.set(&it.timer, q.elapsed()+q.config().FirstRetry)
}
