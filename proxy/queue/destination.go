package queue

import (
	"strings"
	"time"

	"gatepost/internal/mail"
)

// destination is one next hop, or several that stand for each other: the
// messages before it, a line for each lane, and how it has been of late. All
// under q.mu.
type destination struct {
	timer // of paused and probing

	name   string
	group  *group
	line   [lines]fifo[*item]
	turn   uint          // takes turns between lines
	active int           // deliveries on their way
	slow   int           // of those, from the slow lane
	window int           // how many there may be
	moved  time.Duration // when a delivery ended, or the first of those on their way began
	proven bool          // it answered
	listed [tracks]bool  // in the lines of its group

	mode     mode
	failures int        // to reach it, in a row
	reply    mail.Reply // the last failure
	waits    map[*item]struct{}
}

// mode is whether messages go to a destination. From paused it comes back by
// way of a probe.
type mode int8

const (
	open    mode = iota // they do
	paused              // none does, until the timer ends
	probing             // the next one does, as a probe; the timer calls another should it not come
	probed              // none does: the probe is on its way
)

const firstWindow = 5

// destination returns the destination of that name; q.mu is held.
func (q *Queue) destination(name string) *destination {
	d := q.dests[name]
	if d == nil {
		d = &destination{name: name, group: q.groupOf(name), window: firstWindow}
		d.timer = timer{place: -1, dest: d}
		q.dests[name] = d
	}
	return d
}

// take removes the message from the line of d whose turn it is; q.mu is held.
func (q *Queue) take(d *destination, t track) job {
	j := job{item: d.pop(t), dest: d, group: d.group, track: t, try: t != putOffTrack}
	if t == troubledTrack && d.mode == probing {
		d.mode = probed
		q.unset(&d.timer)
	}
	if j.try {
		q.started(d, t)
	}
	q.list(d)
	return j
}

// pop prefers what is fresh, but every fourth time lets in one that was tried
// before. The slow lane has a track of its own, but for probes and pauses.
func (d *destination) pop(t track) *item {
	fresh, retry := &d.line[freshLine], &d.line[retryLine]
	d.turn++
	switch {
	case t == slowTrack || fresh.len()+retry.len() == 0:
		return d.line[slowLine].pop()
	case retry.len() > 0 && (fresh.len() == 0 || d.turn%4 == 0):
		return retry.pop()
	}
	return fresh.pop()
}

// idle reports whether nobody waits for d or is on the way there.
func (d *destination) idle() bool {
	return d.line[freshLine].len()+d.line[retryLine].len()+d.line[slowLine].len()+d.active+len(d.waits) == 0 &&
		d.place < 0 && d.listed == [tracks]bool{}
}

// verdict is what an attempt says of the destination, not of the message.
type verdict int8

const (
	silent      verdict = iota // nothing: something else went wrong
	useful                     // it takes or refuses mail
	busy                       // it answers, but puts everybody off
	refusing                   // "421 not available", or a hang
	unreachable                // no connection
)

// judge tells what the outcomes of one attempt say of the destination.
func judge(out []mail.Outcome, took time.Duration) verdict {
	reached, gone := false, 0
	for _, o := range out {
		reached = reached || o.Remote != ""
		switch {
		case o.Status != mail.Deferred && o.Remote != "":
			return useful
		case o.Status != mail.Deferred:
		case o.Remote == "" && !strings.HasPrefix(o.Reply.Detail, "3."):
			gone++ // RFC 3463 3.4: X.3.X would be our own trouble
		case o.Remote != "" && (o.Reply.Code == 421 || took >= hang):
			gone++ // RFC 5321 4.2.3: 421 is about the service, never about the mail
		}
	}
	switch {
	case gone < len(out) && reached:
		return busy
	case gone < len(out) || gone == 0:
		return silent
	case reached:
		return refusing
	}
	return unreachable
}

// ended records what an attempt said of the destination; q.mu is held.
func (q *Queue) ended(j job, v verdict, reply mail.Reply) {
	d := j.dest
	q.over(j)
	switch v {
	case useful:
		d.proven = true
		d.window = min(d.window+1, d.group.window)
		q.reopen(d)
		q.callBack(d)
	case busy:
		d.proven = true
		// Those who wait keep their own times: they would be put off, too.
		d.window = max(d.window-1, 1)
		q.reopen(d)
	case refusing, unreachable:
		reply.Text = truncate(reply.Text, longestReply/2)
		d.reply = reply
		d.window, d.proven = firstWindow, false
		// Of several attempts that fail together only the first one counts.
		if d.mode == open || d.mode == probed {
			d.failures++
			q.pause(d)
		}
	case silent:
		if d.mode == probed {
			q.pause(d)
		}
	}
	q.list(d)
	q.recall()
	q.drop(d)
}

// comeback is how many of those who wait for a destination are called when one
// of them had an answer: each calls so many more, and the lock is held for
// none of them long.
const comeback = 100

// callBack makes some of those who wait for d due; q.mu is held.
func (q *Queue) callBack(d *destination) {
	n := 0
	for it := range d.waits {
		q.line(it)
		if n++; n == comeback {
			return
		}
	}
}

// reopen lets messages go to d; q.mu is held.
func (q *Queue) reopen(d *destination) {
	d.mode, d.failures = open, 0
	q.unset(&d.timer)
}

func (q *Queue) pause(d *destination) {
	d.mode = paused
	q.set(&d.timer, q.elapsed()+jitter(backoff(q.config().FirstPause, q.config().MaxPause, d.failures)))
}

// probe ends a pause: one of those who wait for d may try; q.mu is held.
func (q *Queue) probe(d *destination) {
	d.mode = probing
	for it := range d.waits { // any one will do, and the map's order spreads it
		q.line(it)
		q.set(&d.timer, q.elapsed()+q.config().FirstPause) // it may be deleted on its way
		return
	}
	q.drop(d)
}

// fewDestinations are remembered when they have nothing to do.
const fewDestinations = 1000

// drop forgets a destination with nothing to do, where there are many; q.mu is
// held.
func (q *Queue) drop(d *destination) {
	if len(q.dests) > fewDestinations && d.idle() {
		delete(q.dests, d.name)
	}
}

// waitFor makes it due again when d can be reached; q.mu is held.
func (q *Queue) waitFor(it *item, d *destination) {
	if d.waits == nil {
		d.waits = make(map[*item]struct{})
	}
	d.waits[it] = struct{}{}
	it.waits = d
}

func (q *Queue) stopWaiting(it *item) {
	if it.waits != nil {
		delete(it.waits.waits, it)
		it.waits = nil
	}
}
