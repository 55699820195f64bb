package proxy

import (
	"context"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// Held is a copy of a message, for some recipients, that is kept until somebody
// decides, or, where Verdict delivers, queued. Verdict has the reason, and the
// edits that it is kept with.
type Held struct {
	Recipients []mail.Path
	Verdict    mail.Verdict
}

// Hold keeps copies of a message that another entry than ours has taken. nil
// means that all are durable; after an error some may be. to is told of those
// that are still to be judged, q of those that are queued.
func Hold(ctx context.Context, sp *spool.Spool, q Queue, to Unscanned, tx *mail.Transaction, copies []Held) (err error) {
	st := spoolStore{sp}
	var shared parcel // of those with the body as it came: durable together
	var parcels []parcel
	defer func() {
		for _, p := range append(parcels, shared) {
			if p.draft != nil {
				p.draft.Discard() // does nothing after a commit
			}
		}
	}()
	for _, c := range copies {
		env, m := mail.Apply(mail.Envelope{Sender: tx.Envelope.Sender, Recipients: c.Recipients}, tx.Message, c.Verdict.Edits)
		if len(env.Recipients) == 0 {
			continue
		}
		e := heldEntry(tx, env, m, c.Verdict)
		if !replacesBody(c.Verdict.Edits) && shared.draft != nil {
			shared.entries = append(shared.entries, e)
			continue
		}
		d, err := rewrite(st, m)
		if err != nil {
			return err
		}
		p := parcel{d, []spool.Entry{e}}
		if replacesBody(c.Verdict.Edits) {
			parcels = append(parcels, p)
		} else {
			shared = p
		}
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if shared.draft != nil {
		parcels, shared = append(parcels, shared), parcel{}
	}
	for _, p := range parcels {
		if err := st.Commit(ctx, p.draft, p.entries...); err != nil {
			return err
		}
		for _, e := range p.entries {
			switch {
			case e.Unscanned != "":
				to.Unscanned(e)
			case e.State == spool.Queue:
				q.Accepted(e.ID)
			}
		}
	}
	return nil
}

// heldEntry is a message that we hold for an MTA; Listener names its entry here.
func heldEntry(tx *mail.Transaction, env mail.Envelope, m *mail.Message, v mail.Verdict) spool.Entry {
	if !v.Action.Delivers() {
		v.Action = mail.Quarantine
	}
	id := mail.NewID(time.Now())
	e := entry(tx, id, env, m, v)
	e.Origin = spool.FromMilter
	e.Header = append(mail.NewField(ownID, id).Raw(), mended(m.Header.Bytes())...)
	return e
}

// mended is a header without a bare CR or LF: each becomes a blank, as a line
// end there would begin another field.
func mended(header []byte) []byte {
	for i, c := range header {
		bareCR := c == '\r' && (i+1 == len(header) || header[i+1] != '\n')
		bareLF := c == '\n' && (i == 0 || header[i-1] != '\r')
		if bareCR || bareLF {
			header[i] = ' '
		}
	}
	return header
}
