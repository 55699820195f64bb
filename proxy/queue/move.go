package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// ErrQuarantined says that a message was held when it came, for what it is.
var ErrQuarantined = errors.New("was quarantined when it came, and its sender must not hear of that: delete it, or release it")

// Move puts messages into the slow lane, or back into that of retries. A
// message keeps its attempts and its age. One that is being delivered right now
// is moved if something is left of it afterwards.
func (q *Queue) Move(ctx context.Context, lane Lane, ids ...string) (int, error) {
	switch lane {
	case Slow:
		return q.each(ctx, ids, func(id string) error { return q.move(id, spool.Slow, wishSlow) })
	case Retry:
		return q.each(ctx, ids, func(id string) error { return q.move(id, spool.Queue, wishRetry) })
	}
	return 0, fmt.Errorf("queue: lane %q: a message can be moved to %q or %q", lane, Slow, Retry)
}

func (q *Queue) move(id string, to spool.State, w wish) error {
	m, err := q.get(id)
	if err != nil {
		return err
	}
	if m.Progress.State == spool.Hold {
		return fmt.Errorf("queue: message %s %w", id, ErrHeld)
	}
	it := q.find(id)
	if it == nil {
		return q.moveTo(m, to)
	}
	it.work.Lock()
	defer it.work.Unlock()
	if later, gone := q.wishFor(it, w); later || gone {
		return q.unlessGone(id, gone)
	}
	if m, err = q.load(it); err != nil {
		return err
	}
	if err := q.moveTo(m, to); err != nil {
		return err
	}
	it.unsaved = false
	q.lineAgain(it)
	return nil
}

func (q *Queue) find(id string) *item {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.items[id]
}

// wishFor leaves a wish where a worker is at the item; it.work is held.
func (q *Queue) wishFor(it *item, w wish) (later, gone bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it.phase == finished {
		return false, true
	}
	if it.hands > 0 && !it.wish.ends() {
		it.wish = w
	}
	return it.hands > 0, false
}

// unlessGone is the error for a message that was finished between two looks.
func (q *Queue) unlessGone(id string, gone bool) error {
	if !gone {
		return nil
	}
	if _, err := q.get(id); err != nil {
		return err
	}
	return fmt.Errorf("queue: message %s %w", id, ErrBusy)
}

// moveTo records that m is in another lane. It is nothing where it is there.
func (q *Queue) moveTo(m *spool.Message, to spool.State) error {
	from := m.Progress.State
	if from == to {
		return nil
	}
	if err := q.step(stepMove); err != nil {
		return fmt.Errorf("queue: moving %s: %w", m.ID, err)
	}
	m.Progress.State = to
	if err := q.saveAs(m); err != nil {
		m.Progress.State = from
		return err
	}
	q.log.Info("moved", "id", m.ID, "lane", LaneOf(m), "reason", "moved")
	q.note(m, mail.Event{What: mail.EventMoved, Text: string(LaneOf(m))})
	return nil
}

// lineAgain takes an item that stands in line out of the lane where it was; it
// comes back in that of now. it.work is held.
func (q *Queue) lineAgain(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unload(it)
	if it.phase != lined || it.hands > 0 || it.unsaved {
		return
	}
	it.phase = finished
	q.due.push(q.newItem(it.id, q.age(it)))
	q.ready.Signal()
}

// Bounce gives up the recipients that are not delivered yet, and tells the
// sender by the usual rules. One that is being delivered right now ends so if
// something is left of it afterwards.
func (q *Queue) Bounce(ctx context.Context, ids ...string) (int, error) {
	return q.each(ctx, ids, func(id string) error { return q.expel(ctx, id, wishBounce) })
}

// Expire does what happens when messages get too old.
func (q *Queue) Expire(ctx context.Context, ids ...string) (int, error) {
	return q.each(ctx, ids, func(id string) error { return q.expel(ctx, id, wishExpire) })
}

// expel ends a message. That it does is recorded first: whatever happens then,
// the sender is told and the message removed, at the next start if need be.
func (q *Queue) expel(ctx context.Context, id string, w wish) error {
	m, err := q.get(id)
	if err != nil {
		return err
	}
	held := m.Progress.State == spool.Hold
	if quarantined(m) {
		return fmt.Errorf("queue: message %s %w", id, ErrQuarantined)
	}
	if held && q.find(id) != nil { // its hold is just being recorded
		return fmt.Errorf("queue: message %s %w", id, ErrBusy)
	}
	q.knowReports()
	old, later := q.takeAway(id, w, "")
	if later {
		return nil
	}
	it, err := q.inHand(id, old)
	if err != nil {
		q.putBack(old)
		return err
	}
	it.work.Lock()
	defer it.work.Unlock()
	if err := q.recordEnd(it, w); err != nil {
		q.forget(it)
		q.putBack(old)
		return err
	}
	q.conclude(ctx, it)
	return nil
}

// quarantined reports whether a message is held, and was when it came, for what
// it is.
func quarantined(m *spool.Message) bool {
	return m.Progress.State == spool.Hold && m.Entry.State == spool.Hold && m.Unscanned == ""
}

// inHand makes the item of a message anew, as if a worker were at it, with what
// is known of it.
func (q *Queue) inHand(id string, old *item) (*item, error) {
	m, err := q.get(id)
	if err != nil {
		return nil, err
	}
	age := m.Age
	if old != nil {
		age = q.age(old)
		if old.msg != nil {
			clone := *old.msg // old stays as it was, should this fail
			clone.Recipients = slices.Clone(old.msg.Recipients)
			m = &clone
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.newItem(id, age)
	it.hands, it.msg = 1, m
	q.loaded++
	return it, nil
}

// recordEnd fails what is left of a message; it.work is held.
func (q *Queue) recordEnd(it *item, w wish) error {
	if err := q.step(stepBounce); err != nil {
		return fmt.Errorf("queue: ending %s: %w", it.id, err)
	}
	why := bounced
	if w == wishExpire {
		why = tooOld
	}
	q.giveUp(it, why)
	it.msg.Progress.State, it.msg.Progress.Reason = spool.Queue, ""
	if err := q.save(it); err != nil {
		return err
	}
	if err := q.step(stepBounced); err != nil {
		q.log.Error("after the end of a message", "id", it.id, "error", err)
	}
	return nil
}
