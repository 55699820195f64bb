package queue

import (
	"context"
	"slices"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// mostAtOnce is how many destinations of one message are tried side by side.
const mostAtOnce = 4

// Attempt tries once to deliver a message that is not in the spool, and notes in
// m.Recipients how that went. It is one delivery among the others: it has no
// turn where a destination has all that it may, and none where that is paused or
// does not answer; such recipients stay as they are.
func (q *Queue) Attempt(ctx context.Context, m *spool.Message, content mail.Content) {
	var parts []part
	var names []string
	for i, r := range m.Envelope.Recipients {
		name, ok := q.route(m, r.Address)
		if !ok {
			q.apply(m, i, mail.Outcome{Recipient: r.Address, Status: mail.Failed, Reply: noRoute})
			continue
		}
		at := slices.Index(names, name)
		if at < 0 {
			at = len(parts)
			names = append(names, name)
			parts = append(parts, part{msg: m, env: mail.Envelope{Sender: m.Envelope.Sender}})
		}
		p := &parts[at]
		p.index = append(p.index, i)
		p.env.Recipients = append(p.env.Recipients, r)
	}
	var wg sync.WaitGroup
	turns := make(chan struct{}, mostAtOnce)
	for i, p := range parts {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			q.attemptNow(ctx, names[i], p, content)
		})
	}
	wg.Wait()
}

// attemptNow tries one part of a message, if there is a place for it.
func (q *Queue) attemptNow(ctx context.Context, dest string, p part, content mail.Content) {
	j, ok := q.place(dest)
	if !ok || ctx.Err() != nil {
		if ok {
			q.end(j, silent, mail.Reply{})
		}
		return
	}
	out, v := q.try(ctx, dest, p, content)
	q.end(j, v, out[0].Reply)
	for i, o := range out {
		q.apply(p.msg, p.index[i], o)
	}
}

// place takes the place of a delivery that may begin at once.
func (q *Queue) place(dest string) (job, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state != running {
		return job{}, false
	}
	d := q.destination(dest)
	t := q.standing(d)
	room := q.room(t)
	if d.mode != open || t == troubledTrack || d.active >= min(d.window, d.group.window) || d.group.active >= d.group.limit ||
		room <= 0 || d.holds(t)+1 > t.share(room) {
		q.drop(d)
		return job{}, false
	}
	q.started(d, t)
	return job{dest: d, group: d.group, track: t, try: true}, true
}

// Tried takes over messages that were committed after Attempt, with what came of
// it. What was put off waits its time; what was not tried is tried now.
func (q *Queue) Tried(messages ...*spool.Message) {
	for _, m := range messages {
		wait, now := q.afterAttempt(m)
		m.Next = q.now().Add(wait)
		if err := q.spool.Save(m.ID, m.Progress); err != nil {
			q.log.Error("progress not recorded", "id", m.ID, "error", err)
		}
		if now {
			q.Accepted(m.ID)
			continue
		}
		q.mu.Lock()
		if q.state == running && q.items[m.ID] == nil {
			it := q.newItem(m.ID, 0)
			it.phase = waiting
			q.set(&it.timer, q.elapsed()+wait)
		}
		q.mu.Unlock()
	}
}

// afterAttempt says when a message is to be tried that was tried before it was
// committed; now where that is at once.
func (q *Queue) afterAttempt(m *spool.Message) (wait time.Duration, now bool) {
	putOff := func(r spool.Recipient) bool { return r.Status == mail.Deferred && r.Attempts > 0 }
	if !slices.ContainsFunc(m.Recipients, putOff) {
		return 0, true
	}
	m.Attempts = 1
	return q.retryAfter(m, q.termsOf(m), 0), false
}
