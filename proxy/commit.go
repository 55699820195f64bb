package proxy

import (
	"cmp"
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

func (s *session) pack(tx *transaction, parts []part) ([]parcel, error) {
	body := tx.in.draft.Size() - tx.Message.BodySize()
	return pack(s.store, &tx.Transaction, tx.ID, parcel{draft: tx.in.draft}, body, parts)
}

func discard(parcels []parcel) {
	for _, p := range parcels {
		p.draft.Discard() // does nothing after a commit
	}
}

// keep makes parcels durable and announces what is in them. tried has those that
// a delivery was tried of, by ID.
func (s *session) keep(ctx context.Context, parcels []parcel, tried map[string]*spool.Message) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	var due []string
	var waiting []spool.Entry
	defer func() {
		// What is durable is delivered, even when a later parcel fails and the
		// client sends all of it again.
		if len(due) > 0 {
			s.deps.Queue.Accepted(due...)
		}
		if len(waiting) > 0 && s.deps.Unscanned != nil {
			s.deps.Unscanned.Unscanned(waiting...)
		}
	}()
	for _, p := range parcels {
		if err := s.store.Commit(ctx, p.draft, p.entries...); err != nil {
			return err
		}
		for _, e := range p.entries {
			switch {
			case tried[e.ID] != nil:
				s.deps.Courier.Tried(tried[e.ID])
			case e.State == spool.Queue:
				due = append(due, e.ID)
			case e.Unscanned != "":
				waiting = append(waiting, e)
			}
		}
	}
	return nil
}

// pack makes the entries; id is that of the first. All parts with the body as it
// came are one parcel and become durable together: whole, whose draft has the
// body at that place. A part whose body was replaced is a parcel of its own.
func pack(st store, tx *mail.Transaction, id string, whole parcel, body int64, parts []part) (parcels []parcel, err error) {
	for _, p := range parts {
		if p.verdict.Action == mail.Discard {
			continue
		}
		env := mail.Envelope{Sender: withoutPRDR(tx.Envelope.Sender), Recipients: p.rcpts}
		env, m := mail.Apply(env, tx.Message, p.verdict.Edits)
		if len(env.Recipients) == 0 {
			continue
		}
		e := entry(tx, id, env, m, p.verdict)
		id = mail.NewID(time.Now()) // for the next
		if !replacesBody(p.verdict.Edits) {
			e.Body = body
			whole.entries = append(whole.entries, e)
			continue
		}
		d, err := rewrite(st, m)
		if err != nil {
			return parcels, err
		}
		parcels = append(parcels, parcel{d, []spool.Entry{e}})
	}
	if len(whole.entries) > 0 {
		parcels = append(parcels, whole)
	}
	return parcels, nil
}

// entry is a message for these recipients as it is kept.
func entry(tx *mail.Transaction, id string, env mail.Envelope, m *mail.Message, v mail.Verdict) spool.Entry {
	s := tx.Session
	e := spool.Entry{
		ID:         id,
		Group:      tx.ID,
		Received:   time.Now(),
		Origin:     spool.FromSMTP,
		Envelope:   env,
		Header:     append(mail.NewField(ownID, id).Raw(), m.Header.Bytes()...),
		State:      spool.Queue,
		Client:     "unknown",
		Listener:   s.Listener,
		Helo:       s.Helo,
		Subject:    clip(mail.CleanText(m.Header.Get("Subject")), maxSubject),
		Score:      tx.Score(),
		ClientName: s.Name,
		ClientAddr: s.Client,
		Proto:      tx.Protocol(),
		User:       s.User,
		Trusted:    s.Trusted,
		Window:     s.Window || s.TLS != nil && s.TLS.Relay,
		Silent:     silence(tx, v),
		Unscanned:  v.Unscanned,
	}
	if s.Client.IsValid() {
		e.Client = clientName(s.Name, s.Client.Addr())
	}
	if v.Action == mail.Quarantine {
		e.State, e.Reason, e.Kind = spool.Hold, v.Reason, heldKind(tx, v)
	}
	return e
}

// heldKind is why a message is held. A virus that was found counts, whatever
// the verdict says.
func heldKind(tx *mail.Transaction, v mail.Verdict) mail.HeldKind {
	switch {
	case len(tx.Find(mail.FindingVirus)) > 0:
		return mail.HeldVirus
	case v.Unscanned != "":
		return mail.HeldUnscanned
	}
	return cmp.Or(v.Kind, mail.HeldRule)
}

// ownID is the field that we put on top of every message.
const ownID = "X-Gatepost-ID"

// silence is why the sender of a message is never told what becomes of it: a
// virus, spam and forgeries have senders that know nothing of them. A score that
// held nothing up is the queue's to judge.
func silence(tx *mail.Transaction, v mail.Verdict) string {
	switch {
	case len(tx.Find(mail.FindingVirus)) > 0:
		return "virus"
	case v.Action == mail.Quarantine && v.Unscanned == "" && tx.Score() > 0:
		return "spam"
	case tx.IsForgedAuthor():
		return "sender authentication failed"
	}
	return ""
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
