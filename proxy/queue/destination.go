package queue

import (
	"strings"
	"time"

	"gatepost/internal/mail"
)

// destination is one next hop, or group of them: the line of messages before it
// and how it has been of late. All under q.mu.
type destination struct {
	timer // of paused and probing

	name   string
	line   fifo[*item]
	active int  // deliveries on their way
	window int  // how many there may be
	listed bool // in q.lines

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
		d = &destination{name: name, window: min(firstWindow, q.cfg.MaxPerDestination)}
		d.timer = timer{place: -1, dest: d}
		q.dests[name] = d
	}
	return d
}

// list puts d among those that a worker may take from, where it has work; q.mu
// is held.
func (q *Queue) list(d *destination) {
	if d.listed || !d.hasWork() {
		return
	}
	d.listed = true
	q.lines.push(d)
	q.ready.Signal()
}

// hasWork tells whether take may be called. Where nothing goes there is work,
// too: to put off those who come.
func (d *destination) hasWork() bool {
	return d.line.len() > 0 && (d.mode != open || d.active < d.window)
}

// take removes the first message from the line. try tells whether it may be
// delivered; q.mu is held.
func (q *Queue) take(d *destination) (it *item, try bool) {
	it = d.line.pop()
	switch d.mode {
	case paused, probed:
		return it, false
	case probing:
		d.mode = probed
		q.unset(&d.timer)
	}
	d.active++
	return it, true
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

// hang is after what time an attempt that came to nothing counts as one.
const hang = time.Minute

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
func (q *Queue) ended(d *destination, v verdict, reply mail.Reply) {
	d.active--
	switch v {
	case useful:
		d.window = min(d.window+1, q.cfg.MaxPerDestination)
		q.reopen(d)
		for it := range d.waits {
			q.line(it)
		}
	case busy:
		// Those who wait keep their own times: they would be put off, too.
		d.window = max(d.window-1, 1)
		q.reopen(d)
	case refusing, unreachable:
		reply.Text = truncate(reply.Text, longestReply/2)
		d.reply = reply
		d.window = min(firstWindow, q.cfg.MaxPerDestination)
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
	q.drop(d)
}

// reopen lets messages go to d; q.mu is held.
func (q *Queue) reopen(d *destination) {
	d.mode, d.failures = open, 0
	q.unset(&d.timer)
}

func (q *Queue) pause(d *destination) {
	d.mode = paused
	q.set(&d.timer, q.elapsed()+jitter(backoff(q.cfg.FirstPause, q.cfg.MaxPause, d.failures)))
}

// probe ends a pause: one of those who wait for d may try; q.mu is held.
func (q *Queue) probe(d *destination) {
	d.mode = probing
	for it := range d.waits { // any one will do, and the map's order spreads it
		q.line(it)
		q.set(&d.timer, q.elapsed()+q.cfg.FirstPause) // it may be deleted on its way
		return
	}
	q.drop(d)
}

// fewDestinations are remembered when they have nothing to do.
const fewDestinations = 1000

// drop forgets a destination with nothing to do, where there are many; q.mu is
// held.
func (q *Queue) drop(d *destination) {
	if len(q.dests) > fewDestinations && d.line.len() == 0 && d.active == 0 && !d.listed && d.place < 0 && len(d.waits) == 0 {
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
