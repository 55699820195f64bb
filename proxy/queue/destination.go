package queue

import (
	"time"

	"gatepost/internal/mail"
)

// destination is one next hop, or group of them: the line of messages before it
// and how it has been of late. All under q.mu.
//
// It is reachable while failures is 0. Otherwise it is paused until its timer
// ends; then the next message that comes is the probe, and as long as that is
// on its way the pause goes on for all others.
type destination struct {
	timer // end of the pause

	name   string
	line   fifo[*item]
	active int  // deliveries on their way
	window int  // how many there may be
	listed bool // in q.open

	failures int        // to reach it, in a row
	probing  bool       // the pause has ended; one message may go
	reply    mail.Reply // the last failure
	waits    map[*item]struct{}
}

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
	if d.listed || d.line.len() == 0 || d.failures == 0 && d.active >= d.window {
		return
	}
	d.listed = true
	q.open.push(d)
	q.ready.Signal()
}

// take removes the first message from the line. try tells whether it may be
// delivered; otherwise the destination is paused.
func (d *destination) take() (it *item, try bool) {
	it = d.line.pop()
	if d.failures > 0 && !d.probing {
		return it, false
	}
	d.probing = false
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
		case o.Remote == "" || o.Reply.Code == 421 || took >= hang:
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
		q.resume(d)
		for it := range d.waits {
			q.line(it)
		}
	case busy:
		// Those who wait keep their own times: they would be put off, too.
		d.window = max(d.window-1, 1)
		q.resume(d)
	case refusing, unreachable:
		reply.Text = truncate(reply.Text, longestReply/2)
		d.reply = reply
		d.window = min(firstWindow, q.cfg.MaxPerDestination)
		// Of several attempts that fail together only the first one counts.
		if d.failures == 0 || d.place < 0 && !d.probing {
			d.failures++
			q.pause(d)
		}
	case silent:
		if d.failures > 0 && d.place < 0 && !d.probing {
			q.pause(d)
		}
	}
	q.list(d)
	q.drop(d)
}

func (q *Queue) resume(d *destination) {
	d.failures, d.probing = 0, false
	q.unset(&d.timer)
}

func (q *Queue) pause(d *destination) {
	q.set(&d.timer, q.elapsed()+jitter(backoff(q.cfg.FirstPause, q.cfg.MaxPause, d.failures)))
}

// probe ends a pause: one of those who wait for d may try; q.mu is held.
func (q *Queue) probe(d *destination) {
	d.probing = true
	for it := range d.waits { // any one will do, and the map's order spreads it
		q.line(it)
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
