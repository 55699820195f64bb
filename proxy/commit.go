package proxy

import (
	"context"
	"io"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// commitTimeout is how long the spool may take. The client waits ten minutes
// for the answer (RFC 5321 4.5.3.2.6), of which the handler may have had some.
const commitTimeout = 2 * time.Minute

// parcel is the entries that share one body.
type parcel struct {
	draft   draft
	entries []spool.Entry
}

// commit makes the parts of a message durable and tells the queue. kept is
// false when there was nothing to keep.
func (s *session) commit(ctx context.Context, tx *transaction, parts []part) (kept bool, err error) {
	parcels, err := s.pack(tx, parts)
	defer func() {
		for _, p := range parcels {
			p.draft.Discard() // does nothing after a commit
		}
	}()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	var due []string
	defer func() {
		// What is durable is delivered, even when a later parcel fails and the
		// client sends all of it again.
		if len(due) > 0 {
			s.deps.Queue.Accepted(due...)
		}
	}()
	for _, p := range parcels {
		if err := s.store.Commit(ctx, p.draft, p.entries...); err != nil {
			return false, err
		}
		for _, e := range p.entries {
			if e.State == spool.Queue {
				due = append(due, e.ID)
			}
		}
	}
	return len(parcels) > 0, nil
}

// pack makes the entries. All parts with the body as it came are one parcel and
// become durable together; a part whose body was replaced is one of its own.
func (s *session) pack(tx *transaction, parts []part) (parcels []parcel, err error) {
	var whole parcel
	id := tx.ID
	for _, p := range parts {
		if p.verdict.Action == mail.Discard {
			continue
		}
		env := mail.Envelope{Sender: tx.Envelope.Sender, Recipients: p.rcpts}
		env, m := mail.Apply(env, tx.Message, p.verdict.Edits)
		if len(env.Recipients) == 0 {
			continue
		}
		e := s.entry(tx, id, env, m, p.verdict)
		id = mail.NewID(time.Now()) // for the next
		if !replacesBody(p.verdict.Edits) {
			e.Body = tx.in.draft.Size() - tx.Message.BodySize()
			whole.draft = tx.in.draft
			whole.entries = append(whole.entries, e)
			continue
		}
		d, err := rewrite(s.store, m)
		if err != nil {
			return parcels, err
		}
		parcels = append(parcels, parcel{d, []spool.Entry{e}})
	}
	if whole.draft != nil {
		parcels = append(parcels, whole)
	}
	return parcels, nil
}

func (s *session) entry(tx *transaction, id string, env mail.Envelope, m *mail.Message, v mail.Verdict) spool.Entry {
	e := spool.Entry{
		ID:       id,
		Group:    tx.ID,
		Received: time.Now(),
		Origin:   spool.FromSMTP,
		Envelope: env,
		Header:   append(mail.NewField("X-Gatepost-ID", id).Raw(), m.Header.Bytes()...),
		State:    spool.Queue,
		Client:   s.client,
		Listener: s.set.Name,
		Helo:     s.facts.Helo,
		Subject:  clip(mail.CleanText(m.Header.Get("Subject")), maxSubject),
		Score:    tx.Score(),
	}
	if v.Action == mail.Quarantine {
		e.State, e.Reason = spool.Hold, v.Reason
	}
	return e
}

const maxSubject = 200

func replacesBody(edits []mail.Edit) bool {
	for _, e := range edits {
		if _, ok := e.(mail.ReplaceBody); ok {
			return true
		}
	}
	return false
}

// rewrite puts a body that did not come in here into a draft of its own: its
// line ends are made ours, so that it can't end the message on the way out.
func rewrite(to store, m *mail.Message) (draft, error) {
	d := to.Draft(mail.NewID(time.Now()))
	n := &mail.CRLFWriter{W: d}
	_, err := io.Copy(n, m.Body())
	if err == nil {
		err = n.Close()
	}
	if err != nil {
		d.Discard()
		return nil, err
	}
	return d, nil
}
