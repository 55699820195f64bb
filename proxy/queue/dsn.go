package queue

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// notify tells the sender of a finished message what has to be told, durably,
// before the message is removed. it.work is held.
//
// There is one notification for a message, ever: with all recipients that
// failed, and those that were delivered where the sender asked to hear of it.
// Its Group is the message's ID; so after a crash between its commit and the
// removal of the message, which follows in the log, it isn't made again.
func (q *Queue) notify(ctx context.Context, it *item) error {
	m := it.msg
	failed, relayed := toReport(m)
	if len(failed)+len(relayed) == 0 {
		return nil
	}
	if why := q.silence(m); why != "" {
		q.log.Info("no bounce", "id", m.ID, "to", m.Envelope.Sender.String(), "reason", why)
		return nil
	}
	q.mu.Lock()
	was := q.reported[m.ID]
	q.mu.Unlock()
	if was {
		return nil
	}
	if err := q.save(it); err != nil {
		return err
	}
	id, err := q.sendReport(ctx, m, failed, relayed)
	if err != nil {
		return err
	}
	q.mu.Lock()
	q.reported[m.ID] = true // should m's removal have to be tried again
	q.mu.Unlock()
	q.log.Info("bounce", "id", m.ID, "dsn_id", id, "to", m.Envelope.Sender.String(), "failed", len(failed), "relayed", len(relayed))
	return nil
}

// toReport returns the recipients that the sender is to hear of (RFC 3461 4.1):
// of failures unless NOTIFY says otherwise, of successes only where it asks for
// them and the next hop won't tell.
func toReport(m *spool.Message) (failed, relayed []int) {
	for i, r := range m.Recipients {
		success, failure := notifyArg(m.Envelope.Recipients[i])
		switch {
		case r.Status == mail.Failed && failure:
			failed = append(failed, i)
		case r.Status == mail.Delivered && r.Relayed && success:
			relayed = append(relayed, i)
		}
	}
	return failed, relayed
}

func notifyArg(rcpt mail.Path) (success, failure bool) {
	value, ok := rcpt.Arg("NOTIFY")
	if !ok {
		return false, true
	}
	for _, word := range strings.Split(value, ",") {
		success = success || strings.EqualFold(word, "SUCCESS")
		failure = failure || strings.EqualFold(word, "FAILURE")
	}
	return success, failure
}

// silence returns why nobody is to be told, "" where somebody is.
func (q *Queue) silence(m *spool.Message) string {
	switch {
	case m.Origin == spool.FromDSN:
		return "it is a notification itself"
	case m.Envelope.Sender.IsNull():
		return "null sender"
	case q.cfg.DSNMaxScore > 0 && m.Score >= q.cfg.DSNMaxScore:
		return "spam: its sender is most likely forged"
	}
	return ""
}

// sendReport makes a notification, commits it, and queues it. One that has no
// way to go is held, where an admin sees it.
func (q *Queue) sendReport(ctx context.Context, m *spool.Message, failed, relayed []int) (id string, err error) {
	now := q.now()
	id = mail.NewID(now)
	r := report{id: id, hostname: q.hostname, now: now, msg: m, failed: failed, relayed: relayed, fullSize: q.cfg.DSNFullSize}
	content, err := q.spool.Open(m.ID)
	if err != nil {
		q.log.Error("content can't be read, the bounce goes without it", "id", m.ID, "error", err)
	} else {
		defer content.Close()
		r.content = content
	}
	draft := q.spool.Draft(id)
	header, err := safely(draft, r.writeTo)
	if err != nil {
		draft.Discard()
		return "", fmt.Errorf("queue: writing notification for %s: %w", m.ID, err)
	}
	e := spool.Entry{
		ID: id, Group: m.ID, Received: now, Origin: spool.FromDSN, Envelope: r.envelope(),
		Header: header.Bytes(), State: spool.Queue, Subject: header.Get("Subject"),
	}
	if _, ok := q.deliverer.Route(m.Envelope.Sender.Address); !ok {
		e.State, e.Reason = spool.Hold, noRouteReason
	}
	if err := q.step(stepReport); err != nil {
		draft.Discard()
		return "", fmt.Errorf("queue: notification for %s: %w", m.ID, err)
	}
	if err := q.spool.Commit(ctx, draft, e); err != nil {
		return "", fmt.Errorf("queue: notification for %s: %w", m.ID, err)
	}
	if err := q.step(stepReported); err != nil {
		q.log.Error("after the commit of a notification", "id", id, "error", err)
	}
	q.Accepted(id)
	return id, nil
}

// safely turns a panic into an error. What a notification is made of comes from
// anywhere, and a message that ends the process would end it again at the next
// start.
func safely(w io.Writer, write func(io.Writer) (mail.Header, error)) (h mail.Header, err error) {
	defer func() {
		if e := recover(); e != nil {
			err = fmt.Errorf("panic: %v\n%s", e, debug.Stack())
		}
	}()
	return write(w)
}
