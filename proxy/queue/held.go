package queue

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// ErrNotAsked says that a held message is not held for a recipient who was named.
var ErrNotAsked = errors.New("is not held for this recipient")

// ReleaseTo lets a held message go to some of those it is held for, and to
// nobody else. While others wait for it, it goes as a message of its own, whose ID
// is returned. After a crash between its commit and the record that these have
// it, they may be sent it once more.
func (q *Queue) ReleaseTo(ctx context.Context, id string, to []mail.Address) (as string, err error) {
	m, chosen, err := q.heldFor(id, to)
	if err != nil {
		return "", err
	}
	if len(chosen) == len(waitingFor(m)) {
		if _, err := q.Release(ctx, id); err != nil {
			return "", err
		}
		return id, nil
	}
	if as, err = q.copyFor(ctx, m, chosen); err != nil {
		return "", fmt.Errorf("queue: releasing %s to some: %w", id, err)
	}
	q.log.Info("released", "id", id, "as", as, "recipients", len(chosen))
	q.note(m, mail.Event{What: mail.EventReleased, Text: fmt.Sprintf("for %s, as %s", names(m, chosen), as)})
	return as, q.settleHeld(ctx, m, chosen, spool.Recipient{
		Status: mail.Delivered, Reply: mail.Reply{Code: 250, Detail: "0.0", Text: "released from quarantine as " + as},
	})
}

// Withdraw takes recipients off a held message: they never get it, and nobody is
// told. When nobody is left it is removed.
func (q *Queue) Withdraw(ctx context.Context, id string, of []mail.Address) error {
	m, chosen, err := q.heldFor(id, of)
	if err != nil {
		return err
	}
	if len(chosen) == len(waitingFor(m)) {
		_, err := q.Delete(ctx, id)
		return err
	}
	q.log.Info("deleted for some", "id", id, "recipients", len(chosen))
	q.note(m, mail.Event{What: mail.EventRemoved, Text: "deleted for " + names(m, chosen)})
	return q.settleHeld(ctx, m, chosen, spool.Recipient{
		Status: mail.Failed, Told: true, Reply: mail.Reply{Code: 550, Detail: "7.1", Text: "deleted from quarantine"},
	})
}

// heldFor finds the places of recipients that a message is held for.
func (q *Queue) heldFor(id string, who []mail.Address) (*spool.Message, []int, error) {
	m, err := q.get(id)
	if err != nil {
		return nil, nil, err
	}
	if m.Progress.State != spool.Hold {
		return nil, nil, fmt.Errorf("queue: message %s %w", id, ErrNotHeld)
	}
	if q.find(id) != nil { // its hold is just being recorded
		return nil, nil, fmt.Errorf("queue: message %s %w", id, ErrBusy)
	}
	waits := waitingFor(m)
	var chosen []int
	for _, a := range who {
		at := slices.IndexFunc(waits, func(i int) bool { return m.Envelope.Recipients[i].Address == a })
		if at < 0 {
			at = slices.IndexFunc(waits, func(i int) bool { return matchAddress(a.String(), m.Envelope.Recipients[i].Address) })
		}
		if at < 0 {
			return nil, nil, fmt.Errorf("queue: message %s %w: %s", id, ErrNotAsked, a)
		}
		if !slices.Contains(chosen, waits[at]) {
			chosen = append(chosen, waits[at])
		}
	}
	if len(chosen) == 0 {
		return nil, nil, fmt.Errorf("queue: message %s: no recipient named", id)
	}
	return m, chosen, nil
}

// kindOf is the kind of reason that a message is held for; "" where it is not.
func kindOf(m *spool.Message) mail.HeldKind {
	switch {
	case m.Progress.State != spool.Hold:
		return ""
	case m.Unscanned != "":
		return mail.HeldUnscanned
	case m.Silent == string(mail.HeldVirus), m.Kind == mail.HeldVirus:
		return mail.HeldVirus
	case m.Entry.State != spool.Hold:
		return mail.HeldHand.Graver(m.Kind)
	case m.Kind == "" && m.Silent == string(mail.HeldSpam): // of an earlier version
		return mail.HeldSpam
	}
	return cmp.Or(m.Kind, mail.HeldRule)
}

// waitingFor lists the recipients that are not settled.
func waitingFor(m *spool.Message) (waits []int) {
	for i := range m.Envelope.Recipients {
		if i >= len(m.Recipients) || m.Recipients[i].Status == mail.Deferred {
			waits = append(waits, i)
		}
	}
	return waits
}

// settleHeld records how recipients of a held message ended.
func (q *Queue) settleHeld(ctx context.Context, m *spool.Message, chosen []int, how spool.Recipient) error {
	for _, i := range chosen {
		m.Recipients[i] = how
	}
	if err := q.saveAs(m); err != nil {
		return err
	}
	return q.sync(ctx)
}

func names(m *spool.Message, chosen []int) string {
	text := m.Envelope.Recipients[chosen[0]].String()
	if len(chosen) > 1 {
		text += fmt.Sprintf(" and %d more", len(chosen)-1)
	}
	return text
}

// copyFor queues a copy for some recipients.
func (q *Queue) copyFor(ctx context.Context, m *spool.Message, chosen []int) (id string, err error) {
	e := m.Entry
	e.ID, e.State, e.Reason, e.Body = mail.NewID(q.now()), spool.Queue, "", 0
	e.Envelope.Recipients = nil
	for _, i := range chosen {
		e.Envelope.Recipients = append(e.Envelope.Recipients, m.Envelope.Recipients[i])
	}
	content, err := q.spool.Open(m.ID)
	if err != nil {
		return "", err
	}
	defer content.Close()
	header, body, err := splitContent(content)
	if err != nil {
		return "", err
	}
	e.Header = bytes.Replace(header, []byte(m.ID), []byte(e.ID), 1) // in our own field, the first
	draft := q.spool.Draft(e.ID)
	defer draft.Discard() // does nothing after a commit
	if _, err := io.Copy(draft, body); err != nil {
		return "", err
	}
	if err := q.step(stepAdmin); err != nil {
		return "", err
	}
	if err := q.spool.Commit(ctx, draft, e); err != nil {
		return "", err
	}
	q.Accepted(e.ID)
	return e.ID, nil
}

// splitContent returns the header without the empty line, and the body.
func splitContent(content interface {
	io.ReaderAt
	Size() int64
}) (header []byte, body io.Reader, err error) {
	head := make([]byte, min(content.Size(), mail.MaxHeaderSize+4))
	if _, err := content.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	end, skip := len(head), 0
	if bytes.HasPrefix(head, []byte("\r\n")) {
		end, skip = 0, 2
	} else if i := bytes.Index(head, []byte("\r\n\r\n")); i >= 0 {
		end, skip = i+2, 2
	} else if content.Size() > int64(len(head)) {
		return nil, nil, errors.New("the header has no end")
	}
	from := int64(end + skip)
	return head[:end], io.NewSectionReader(content, from, content.Size()-from), nil
}
