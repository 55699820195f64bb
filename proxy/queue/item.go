package queue

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// item is a message that is waiting or being tried. Held messages have none.
type item struct {
	timer // when it is due, while it waits

	id    string
	phase phase         // q.mu
	jobs  int           // of the present attempt that have not ended; q.mu
	hands int           // workers that are at it; q.mu
	age   time.Duration // how long it was tried
	since time.Duration // when it was of that age, on the queue's own clock
	wish  wish          // what the admin wants when the attempt has ended; q.mu
	why   string        // the reason of a wish to hold; q.mu
	waits *destination  // can't be reached; its return makes the item due; q.mu

	work  sync.Mutex     // held while results are recorded; taken before q.mu
	stuck *destination   // that this attempt met paused or could not reach
	msg   *spool.Message // nil where the spool's copy is all there is to know
	// unsaved says that msg knows more than the spool, which could not write.
	unsaved bool
}

type phase int8

const (
	waiting  phase = iota // in the timers
	lined                 // in fresh, due, or the lines of destinations
	finished              // nothing is left to do; whoever meets it drops it
)

type wish int8

const (
	wishNone wish = iota
	wishDelete
	wishHold
	wishBounce
	wishExpire
	wishSlow
	wishRetry
)

// ends tells whether the message is not to be tried before the wish is done.
func (w wish) ends() bool { return w > wishNone && w < wishSlow }

// newItem makes the item of a message that was tried for so long; q.mu is held.
func (q *Queue) newItem(id string, age time.Duration) *item {
	it := &item{id: id, phase: lined, age: age, since: q.elapsed()}
	it.timer = timer{place: -1, item: it}
	q.items[id] = it
	return it
}

// mostLoaded is how many messages, of those in line, are kept in memory without
// their content. The others are read again when it is their turn.
const mostLoaded = 10_000

// load returns the message with the progress as the queue knows it; it.work is
// held.
func (q *Queue) load(it *item) (*spool.Message, error) {
	if it.msg != nil {
		return it.msg, nil
	}
	m, err := q.get(it.id)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	q.loaded++
	q.mu.Unlock()
	it.msg = m
	return m, nil
}

// unload forgets the message where the spool knows as much; it.work and q.mu
// are held.
func (q *Queue) unload(it *item) {
	if it.msg != nil && !it.unsaved {
		it.msg = nil
		q.loaded--
	}
}

// get returns the message as the spool has it; it is the caller's.
func (q *Queue) get(id string) (*spool.Message, error) {
	m, err := q.spool.Get(id)
	if err != nil {
		return nil, fmt.Errorf("queue: message %q: %w", id, err)
	}
	return m, nil
}

// save records the progress of it.msg; it.work is held. Where the spool can't
// write, the queue goes on with what it knows and tries again with the next
// attempt.
func (q *Queue) save(it *item) error {
	err := q.step(stepSave)
	if err == nil {
		err = q.spool.Save(it.id, it.msg.Progress)
	}
	if err == nil {
		err = q.step(stepSaved)
	}
	it.unsaved = err != nil && !errors.Is(err, spool.ErrNotFound)
	if err != nil {
		return fmt.Errorf("queue: saving progress of %s: %w", it.id, err)
	}
	return nil
}

// remove takes a message out of the spool.
func (q *Queue) remove(id string) error {
	err := q.step(stepRemove)
	if err == nil {
		err = q.spool.Remove(id)
	}
	if err == nil {
		err = q.step(stepRemoved)
	}
	if err != nil && !errors.Is(err, spool.ErrNotFound) {
		return fmt.Errorf("queue: removing %s: %w", id, err)
	}
	return nil
}

// complete reports whether all recipients have their final state.
func complete(m *spool.Message) bool {
	return !slices.ContainsFunc(m.Recipients, func(r spool.Recipient) bool { return r.Status == mail.Deferred })
}
