package queue

import (
	"container/heap"
	"context"
	"time"
)

// timer is a moment at which an item is due or a destination's pause ends.
type timer struct {
	at    time.Duration // on the queue's own clock
	place int           // in the heap; -1 while in none
	item  *item         // one of the two
	dest  *destination
}

// timers is a heap, earliest first.
type timers []*timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at < t[j].at }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i, j
}

// Push is for container/heap.
func (t *timers) Push(x any) {
	n := x.(*timer)
	n.place = len(*t)
	*t = append(*t, n)
}

// Pop is for container/heap.
func (t *timers) Pop() any {
	old := *t
	n := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	n.place = -1
	return n
}

// set starts or moves a timer; q.mu is held.
func (q *Queue) set(t *timer, at time.Duration) {
	t.at = at
	if t.place >= 0 {
		heap.Fix(&q.timers, t.place)
	} else {
		heap.Push(&q.timers, t)
	}
	if t.place == 0 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// unset stops a timer; q.mu is held.
func (q *Queue) unset(t *timer) {
	if t.place >= 0 {
		heap.Remove(&q.timers, t.place)
	}
}

// clockwork hands out what becomes due until ctx ends.
func (q *Queue) clockwork(ctx context.Context) {
	const idle = time.Hour // nothing is set; wake tells when that changes
	sleep := time.NewTimer(idle)
	defer sleep.Stop()
	for {
		sleep.Reset(q.fire(idle))
		select {
		case <-ctx.Done():
			return
		case <-sleep.C:
		case <-q.wake:
		}
	}
}

// fire hands out all that is due and returns how long to sleep, at most idle.
func (q *Queue) fire(idle time.Duration) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.timers) > 0 {
		next := q.timers[0]
		if wait := next.at - q.elapsed(); wait > 0 {
			return min(wait, idle)
		}
		q.unset(next)
		if next.item != nil {
			q.line(next.item)
		} else {
			q.probe(next.dest)
		}
	}
	return idle
}

// line puts a waiting item among those to be tried; q.mu is held.
func (q *Queue) line(it *item) {
	q.unset(&it.timer)
	q.stopWaiting(it)
	it.phase = lined
	q.due.push(it)
	q.ready.Signal()
}
