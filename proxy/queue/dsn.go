package queue

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// notice is what a notification tells of: recipients of the message by their
// place.
type notice struct {
	failed, relayed, delayed []int
	early                    bool // others are still tried
}

func (n notice) empty() bool { return len(n.failed)+len(n.relayed)+len(n.delayed) == 0 }

// The kinds of notification, for Stats.
const (
	kindFailure = "failure"
	kindSuccess = "success"
	kindDelay   = "delay"
)

func (n notice) kind() string {
	switch {
	case len(n.failed) > 0:
		return kindFailure
	case len(n.relayed) > 0:
		return kindSuccess
	}
	return kindDelay
}

// group ties a notification to what it is about, so that after a crash it isn't
// made again. A warning doesn't stand for the last word.
func (n notice) group(m *spool.Message) string {
	switch {
	case n.kind() == kindDelay:
		return m.ID + delaySuffix
	case n.early:
		return m.ID + earlySuffix
	}
	return m.ID
}

const (
	delaySuffix = "-delay"
	earlySuffix = "-early"
)

// notify tells the sender of a finished message what has to be told, durably,
// before the message is removed. it.work is held.
//
// There is one such notification for a message, ever: with all recipients that
// failed and that the sender has not heard of yet, and those that were delivered
// where he asked to hear of it.
// Its Group is the message's ID; so after a crash between its commit and the
// removal of the message, which follows in the log, it isn't made again.
func (q *Queue) notify(ctx context.Context, it *item) error {
	n := toReport(it.msg)
	if n.empty() || !q.mayTell(ctx, it.msg, n) {
		return nil
	}
	if err := q.save(it); err != nil {
		return err
	}
	return q.tell(ctx, it.msg, n)
}

// tellEarly tells the sender of recipients that failed while others are still
// tried: it may take days until the last of them is settled, and a mistyped
// address can be put right now. It is done once for a message; of those who fail
// later, notify tells. it.work is held; what it notes is saved with the attempt.
func (q *Queue) tellEarly(ctx context.Context, it *item) {
	m := it.msg
	if slices.ContainsFunc(m.Recipients, func(r spool.Recipient) bool { return r.Told }) {
		return
	}
	n := notice{failed: toReport(m).failed, early: true}
	if len(n.failed) == 0 {
		return
	}
	if _, silent := q.silence(ctx, m); silent != "" { // which may ask the DNS
		return // notify says so in the end
	}
	if !q.wasReported(n.group(m)) {
		if err := q.tell(ctx, m, n); err != nil {
			q.log.Error("notification not recorded", "id", m.ID, "error", err)
			return
		}
	}
	for _, i := range n.failed {
		m.Recipients[i].Told = true
	}
}

// warn tells the sender, once, that a message is late and still tried. it.work
// is held; what it notes is saved with the attempt.
func (q *Queue) warn(ctx context.Context, it *item) {
	m, after := it.msg, q.config().DelayWarning
	if m.Warned || after == 0 || q.age(it) < after {
		return
	}
	m.Warned = true
	n := notice{delayed: toWarn(m)}
	if n.empty() || !q.mayTell(ctx, m, n) {
		return
	}
	if err := q.tell(ctx, m, n); err != nil {
		m.Warned = false
		q.log.Error("notification not recorded", "id", m.ID, "error", err)
	}
}

// mayTell reports whether the sender is to hear of n, and notes where it is not.
func (q *Queue) mayTell(ctx context.Context, m *spool.Message, n notice) bool {
	result, why := q.silence(ctx, m)
	if why == "" {
		return !q.wasReported(n.group(m))
	}
	q.log.Info("no bounce", "id", m.ID, "to", m.Envelope.Sender.String(), "kind", n.kind(), "reason", why)
	q.note(m, mail.Event{What: mail.EventSilent, Text: n.kind() + ": " + why})
	q.countNotice(n, result)
	return false
}

func (q *Queue) wasReported(group string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.reported[group]
}

// tell makes a notification durable.
func (q *Queue) tell(ctx context.Context, m *spool.Message, n notice) error {
	id, err := q.sendReport(ctx, m, n)
	if err != nil {
		return err
	}
	q.mu.Lock()
	q.reported[n.group(m)] = true // should m's removal have to be tried again
	q.mu.Unlock()
	q.log.Info("bounce", "id", m.ID, "dsn_id", id, "to", m.Envelope.Sender.String(), "kind", n.kind(),
		"failed", len(n.failed), "relayed", len(n.relayed), "delayed", len(n.delayed))
	q.note(m, mail.Event{What: mail.EventNotified, Text: n.kind() + ", as " + id})
	q.countNotice(n, "sent")
	return nil
}

func (q *Queue) countNotice(n notice, result string) {
	if q.stats != nil {
		q.stats.Notification(n.kind(), result)
	}
}

// toReport returns the recipients that the sender is to hear of in the end (RFC
// 3461 4.1): of failures unless NOTIFY says otherwise, of successes only where
// it asks for them and the next hop won't tell.
func toReport(m *spool.Message) (n notice) {
	for i, r := range m.Recipients {
		asked := notifyArg(m.Envelope.Recipients[i])
		switch {
		case r.Status == mail.Failed && !r.Told && (asked.failure || !asked.given):
			n.failed = append(n.failed, i)
		case r.Status == mail.Delivered && r.Relayed && asked.success:
			n.relayed = append(n.relayed, i)
		}
	}
	return n
}

// toWarn returns the late recipients that the sender is to hear of: those where
// NOTIFY asks for it. Without NOTIFY the choice is ours (RFC 3461 5.2.7), and
// only our own users are warned: any other sender may be forged.
func toWarn(m *spool.Message) (delayed []int) {
	ours := m.User != "" || m.Trusted
	for i, r := range m.Recipients {
		asked := notifyArg(m.Envelope.Recipients[i])
		if r.Status == mail.Deferred && (asked.delay || ours && !asked.given) {
			delayed = append(delayed, i)
		}
	}
	return delayed
}

// wanted is what NOTIFY says (RFC 3461 4.1).
type wanted struct{ given, success, failure, delay bool }

func notifyArg(rcpt mail.Path) (w wanted) {
	value, ok := rcpt.Arg("NOTIFY")
	if !ok {
		return w
	}
	w.given = true
	for _, word := range strings.Split(value, ",") {
		w.success = w.success || strings.EqualFold(word, "SUCCESS")
		w.failure = w.failure || strings.EqualFold(word, "FAILURE")
		w.delay = w.delay || strings.EqualFold(word, "DELAY")
	}
	return w
}

// silence returns why nobody is to be told, "" where somebody is; result is
// that for Stats.
func (q *Queue) silence(ctx context.Context, m *spool.Message) (result, why string) {
	switch {
	case m.Origin == spool.FromDSN:
		return "notification", "it is a notification itself"
	case m.Envelope.Sender.IsNull():
		return "null_sender", "null sender"
	case m.Silent != "":
		return "policy", m.Silent + ": its sender is most likely forged"
	case q.config().DSNMaxScore > 0 && m.Score >= q.config().DSNMaxScore:
		return "spam", "spam: its sender is most likely forged"
	case q.forged == nil || m.User != "" || m.Trusted || m.Origin != spool.FromSMTP:
		return "", ""
	}
	ctx, cancel := context.WithTimeout(ctx, forgedTimeout)
	defer cancel()
	if why := q.forged(ctx, &m.Entry); why != "" {
		return "authentication", why
	}
	return "", ""
}

// forgedTimeout is what it may take to find out whether a sender is forged.
const forgedTimeout = 10 * time.Second

// sendReport makes a notification, commits it, and queues it. One that has no
// way to go is held, where an admin sees it. A copy for the postmaster becomes
// durable with it.
func (q *Queue) sendReport(ctx context.Context, m *spool.Message, n notice) (id string, err error) {
	now := q.now()
	id = mail.NewID(now)
	r := report{id: id, hostname: q.hostname, now: now, msg: m, notice: n, fullSize: q.config().DSNFullSize}
	if n.kind() == kindDelay {
		r.until = m.Received.Add(q.maxAge(m))
	}
	content, err := q.spool.Open(m.ID)
	if err != nil {
		q.log.Error("content can't be read, the bounce goes without it", "id", m.ID, "error", err)
	} else {
		defer content.Close()
		r.content = content
	}
	draft := q.spool.Draft(id)
	defer draft.Discard() // does nothing after a commit
	if err := safely(draft, r.writeTo); err != nil {
		return "", fmt.Errorf("queue: writing notification for %s: %w", m.ID, err)
	}
	signed := func(h mail.Header) mail.Header {
		if q.sign == nil {
			return h
		}
		return q.sign(h, draft, draft.Size())
	}
	entries := []spool.Entry{q.reportEntry(id, &r, r.envelope(), signed(r.header()))}
	if to, ok := q.config().copyTo(); ok && n.kind() == kindFailure {
		id := mail.NewID(now)
		entries = append(entries, q.reportEntry(id, &r, r.envelopeTo(to), signed(r.copyHeader(id, to))))
	}
	if err := q.step(stepReport); err != nil {
		return "", fmt.Errorf("queue: notification for %s: %w", m.ID, err)
	}
	if err := q.spool.Commit(ctx, draft, entries...); err != nil {
		return "", fmt.Errorf("queue: notification for %s: %w", m.ID, err)
	}
	if err := q.step(stepReported); err != nil {
		q.log.Error("after the commit of a notification", "id", id, "error", err)
	}
	for _, e := range entries {
		if e.State == spool.Queue {
			q.Accepted(e.ID)
		}
	}
	return id, nil
}

func (q *Queue) reportEntry(id string, r *report, env mail.Envelope, header mail.Header) spool.Entry {
	e := spool.Entry{
		ID: id, Group: r.group(r.msg), Received: r.now, Origin: spool.FromDSN, Envelope: env,
		Header: header.Bytes(), State: spool.Queue, Subject: header.Get("Subject"),
		Score: r.msg.Score, // of what it returns: who cleans up wants to know, and the message itself is gone
	}
	if _, ok := q.deliverer.Route(env.Recipients[0].Address); !ok {
		e.State, e.Reason = spool.Hold, noRouteReason
	}
	return e
}

// safely turns a panic into an error. What a notification is made of comes from
// anywhere, and a message that ends the process would end it again at the next
// start.
func safely(w io.Writer, write func(io.Writer) error) (err error) {
	defer func() {
		if e := recover(); e != nil {
			err = fmt.Errorf("panic: %v\n%s", e, debug.Stack())
		}
	}()
	return write(w)
}
