package queue

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
	"unicode/utf8"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// work does jobs until the queue stops.
func (q *Queue) work(ctx context.Context) {
	for {
		j, ok := q.next()
		switch {
		case !ok:
			return
		case j.dest == nil:
			q.group(ctx, j.item)
		default:
			q.deliver(ctx, j)
		}
	}
}

// part is what of a message goes to one destination.
type part struct {
	msg   *spool.Message
	env   mail.Envelope
	index []int // of its recipients in msg
}

// deliver tries the part of a message that goes to one destination.
func (q *Queue) deliver(ctx context.Context, j job) {
	it, d := j.item, j.dest
	if !q.enter(it) {
		if j.try {
			q.end(j, silent, mail.Reply{})
		}
		return
	}
	p, err := q.part(it, d)
	if err != nil {
		q.log.Error("message can't be read", "id", it.id, "error", err)
	}
	var out []mail.Outcome
	switch {
	case len(p.index) == 0: // answered meanwhile, or the routes changed
		if j.try {
			q.end(j, silent, mail.Reply{})
		}
	case j.try:
		var v verdict
		out, v = q.attempt(ctx, d.name, p)
		q.end(j, v, out[0].Reply)
		// A message that was answered follows its own times: it may be the
		// cause of what it met.
		if v == unreachable {
			q.stick(it, d)
		}
	default:
		out = putOff(p.env, q.suspension(d))
		q.stick(it, d)
	}
	q.record(ctx, it, p, out)
}

// part picks the recipients that d is to have.
func (q *Queue) part(it *item, d *destination) (part, error) {
	it.work.Lock()
	defer it.work.Unlock()
	m, err := q.load(it)
	if err != nil {
		return part{}, err
	}
	p := part{msg: m, env: mail.Envelope{Sender: m.Envelope.Sender}}
	for i, r := range m.Recipients {
		if r.Status != mail.Deferred {
			continue
		}
		rcpt := m.Envelope.Recipients[i]
		if name, ok := q.route(m, rcpt.Address); ok && name == d.name {
			p.index = append(p.index, i)
			p.env.Recipients = append(p.env.Recipients, rcpt)
		}
	}
	return p, nil
}

// attempt asks the deliverer and judges the destination. Whatever goes wrong
// here, and not at the next hop, puts the recipients off.
func (q *Queue) attempt(ctx context.Context, dest string, p part) (out []mail.Outcome, v verdict) {
	content, err := q.spool.Open(p.msg.ID)
	if err != nil {
		q.log.Error("content can't be read", "id", p.msg.ID, "error", err)
		return putOff(p.env, localError), silent
	}
	defer content.Close()
	return q.try(ctx, dest, p, content)
}

func (q *Queue) try(ctx context.Context, dest string, p part, content mail.Content) (out []mail.Outcome, v verdict) {
	id := p.msg.ID
	defer func() {
		if e := recover(); e != nil {
			q.log.Error("delivery panicked", "id", id, "error", fmt.Sprint(e), "stack", string(debug.Stack()))
			out, v = putOff(p.env, localError), silent
		}
	}()
	if err := q.step(stepAttempt); err != nil {
		return putOff(p.env, localError), silent
	}
	ctx, cancel := context.WithTimeout(ctx, q.config().AttemptTimeout)
	defer cancel()
	began := time.Now()
	out = q.deliverer.Deliver(ctx, dest, p.msg.Facts(), p.env, content)
	took := time.Since(began)
	if len(out) != len(p.env.Recipients) {
		q.log.Error("wrong number of outcomes", "id", id, "want", len(p.env.Recipients), "got", len(out))
		return putOff(p.env, localError), silent
	}
	for i, o := range out {
		out[i].Took = took
		if o.Status != mail.Delivered && o.Status != mail.Failed {
			out[i].Status = mail.Deferred // whatever else it is, it loses nothing
		}
	}
	q.count(dest, out, took)
	if err := q.step(stepDelivered); err != nil {
		q.log.Error("after delivery", "id", id, "error", err)
	}
	return out, judge(out, took)
}

// localError says that nothing was learnt of the next hop.
var localError = mail.Reply{Code: 451, Detail: "3.0", Text: "local error, see the log"}

// putOff is the outcome of an attempt that was not made.
func putOff(env mail.Envelope, reply mail.Reply) []mail.Outcome {
	out := make([]mail.Outcome, len(env.Recipients))
	for i, r := range env.Recipients {
		out[i] = mail.Outcome{Recipient: r.Address, Status: mail.Deferred, Reply: reply}
	}
	return out
}

// suspension is what those are told who come to a paused destination.
func (q *Queue) suspension(d *destination) mail.Reply {
	q.mu.Lock()
	defer q.mu.Unlock()
	return mail.Reply{Code: 451, Detail: "4.1", Text: "delivery suspended, waiting for " + d.name + " to return: " + d.reply.String()}
}

func (q *Queue) end(j job, v verdict, reply mail.Reply) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended(j, v, reply)
}

// stick remembers which destination the message has to wait for.
func (q *Queue) stick(it *item, d *destination) {
	it.work.Lock()
	defer it.work.Unlock()
	it.stuck = d
}

func (q *Queue) count(dest string, out []mail.Outcome, took time.Duration) {
	if q.stats == nil {
		return
	}
	for _, o := range out {
		q.stats.Attempt(dest, o.Status.String(), took)
	}
}

// record notes the outcomes. The last part of an attempt concludes it; after
// the others, what was delivered is saved at once.
func (q *Queue) record(ctx context.Context, it *item, p part, out []mail.Outcome) {
	it.work.Lock()
	defer it.work.Unlock()
	if m, err := q.load(it); err == nil {
		for i, o := range out {
			q.apply(m, p.index[i], o)
		}
	}
	q.mu.Lock()
	it.jobs--
	last := it.jobs == 0
	if !last {
		it.hands--
	}
	q.mu.Unlock()
	if last {
		q.conclude(ctx, it)
		return
	}
	if len(out) > 0 {
		if err := q.save(it); err != nil {
			q.log.Error("progress not recorded", "id", it.id, "error", err)
		}
	}
}

const longestReply = 1000 // bytes of a next hop's text that are kept

// apply notes one outcome and logs it.
func (q *Queue) apply(m *spool.Message, i int, o mail.Outcome) {
	now := q.now()
	o.Reply.Text = truncate(o.Reply.Text, longestReply)
	r := &m.Recipients[i]
	r.Status, r.Reply, r.Remote, r.Last = o.Status, o.Reply, truncate(o.Remote, longestReply), now
	r.Attempts++
	r.Relayed = o.Status == mail.Delivered && !o.DSN
	relay := r.Remote
	if relay == "" {
		relay = "none"
	}
	attrs := []any{"id", m.ID, "to", m.Envelope.Recipients[i].String(), "relay", relay, "delay", max(now.Sub(m.Received), 0),
		"dsn", statusCode(*r), "status", o.Status.String(), "reply", o.Reply.String()}
	if o.TLS != "" {
		attrs = append(attrs, "tls", o.TLS)
	}
	q.log.Info("delivery", attrs...)
	q.noteAttempt(m, i, o)
}

// noteAttempt records how the last attempt for a recipient went.
func (q *Queue) noteAttempt(m *spool.Message, i int, o mail.Outcome) {
	r := m.Recipients[i]
	text := r.Reply.String()
	if o.TLS != "" {
		text += " (" + o.TLS + ")"
	}
	q.note(m, mail.Event{What: mail.EventAttempt, Rcpt: m.Envelope.Recipients[i].Address, Status: r.Status, Remote: r.Remote, Text: text, Took: o.Took})
}

func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
