package proxy

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// deliver tries to deliver a message while its client waits, and makes the next
// hop's answer ours. Nothing of it is on disk unless that fails: then what is
// left is kept, with what was learnt, before the client gets its 250.
//
// The client gets a refusal only where nobody has the message. So whatever is
// delivered to some and refused for others is the queue's, which tells the
// sender by its rules.
func (s *session) deliver(ctx context.Context, tx *transaction, v mail.Verdict, parcels []parcel) decision {
	if err := s.store.Ready(); err != nil { // where could we keep what fails?
		return s.spoolFailed(tx, err)
	}
	tried := s.attempt(ctx, parcels)
	sum := summarise(parcels, tried)
	switch {
	case sum.delivered > 0 && sum.left == 0:
		d := accepted(tx, v)
		d.reply, d.taken = sum.reply(d.reply), tx.ID
		return d
	case sum.refused > 0 && sum.refused == sum.left && sum.delivered == 0:
		r := sum.first
		return decision{action: mail.Reject, reply: r, cause: causeNextHop, reason: "refused by the next hop"}
	}
	// Some of it may be delivered: it must not be kept from the record of it by
	// a gateway that stops.
	if err := s.keep(context.WithoutCancel(ctx), remaining(parcels, tried), tried); err != nil {
		if sum.delivered > 0 {
			s.log.Error("delivered to some, but not kept for the others: all are told to come later, and some get it twice",
				"id", tx.ID, "delivered", sum.delivered, "left", sum.left)
		}
		return s.spoolFailed(tx, err)
	}
	d := accepted(tx, v)
	d.taken = tx.ID
	return d
}

// attempt tries to deliver each message of the parcels that may be delivered at
// once.
func (s *session) attempt(ctx context.Context, parcels []parcel) map[string]*spool.Message {
	ctx, cancel := context.WithTimeout(ctx, s.set.InteractiveTimeout)
	defer cancel()
	tried := make(map[string]*spool.Message)
	for _, p := range parcels {
		for _, e := range p.entries {
			if e.State != spool.Queue || asksForSuccess(e.Envelope) {
				continue
			}
			content := newOutgoing(e.Header, p.draft, e.Body)
			m := &spool.Message{Entry: e, Size: content.Size()}
			m.Progress.State = spool.Queue
			m.Recipients = make([]spool.Recipient, len(e.Envelope.Recipients))
			s.deps.Courier.Attempt(ctx, m, content)
			tried[e.ID] = m
		}
	}
	return tried
}

// asksForSuccess reports whether somebody wants to hear that it was delivered:
// we may owe that notification, and only the queue can send one.
func asksForSuccess(env mail.Envelope) bool {
	return slices.ContainsFunc(env.Recipients, func(r mail.Path) bool {
		when, _ := r.Arg("NOTIFY")
		return strings.Contains(strings.ToUpper(when), "SUCCESS")
	})
}

// summary is what came of the attempts, for all recipients of all parts.
type summary struct {
	delivered, left int
	refused         int // of those left
	first           mail.Reply
	differ          bool // the delivered ones had different answers
}

func summarise(parcels []parcel, tried map[string]*spool.Message) (sum summary) {
	for _, p := range parcels {
		for _, e := range p.entries {
			m := tried[e.ID]
			if m == nil {
				sum.left += len(e.Envelope.Recipients)
				continue
			}
			for _, r := range m.Recipients {
				sum.add(r)
			}
		}
	}
	return sum
}

func (sum *summary) add(r spool.Recipient) {
	switch {
	case r.Status == mail.Delivered:
		if sum.delivered > 0 && r.Reply != sum.first {
			sum.differ = true
		}
		if sum.delivered == 0 {
			sum.first = r.Reply
		}
		sum.delivered++
		return
	case r.Status == mail.Failed && r.Reply.Code/100 == 5:
		if sum.refused == 0 && sum.delivered == 0 {
			sum.first = r.Reply
		}
		sum.refused++
	}
	sum.left++
}

// reply is the answer to a message that all have: the next hop's where there is
// one.
func (sum *summary) reply(ours mail.Reply) mail.Reply {
	if sum.differ || sum.first.Code/100 != 2 {
		return ours
	}
	r := sum.first
	r.Code = ours.Code
	if r.Detail == "" {
		r.Detail = ours.Detail
	}
	return r
}

// remaining is what is left of the parcels to be kept. The messages of tried are
// cut down to it, too.
func remaining(parcels []parcel, tried map[string]*spool.Message) []parcel {
	var left []parcel
	for _, p := range parcels {
		var entries []spool.Entry
		for _, e := range p.entries {
			if m := tried[e.ID]; m != nil {
				dropDelivered(m)
				e.Envelope = m.Envelope
			}
			if len(e.Envelope.Recipients) > 0 {
				entries = append(entries, e)
			}
		}
		if len(entries) > 0 {
			left = append(left, parcel{p.draft, entries})
		}
	}
	return left
}

func dropDelivered(m *spool.Message) {
	var to []mail.Path
	var how []spool.Recipient
	for i, r := range m.Recipients {
		if r.Status != mail.Delivered {
			to, how = append(to, m.Envelope.Recipients[i]), append(how, r)
		}
	}
	m.Envelope.Recipients, m.Recipients = to, how
}

// outgoing is a message that is not in the spool, as it goes out.
type outgoing struct {
	head []byte // with the empty line
	body *io.SectionReader
}

func newOutgoing(header []byte, d draft, at int64) outgoing {
	return outgoing{append(slices.Clip(header), "\r\n"...), io.NewSectionReader(d, at, d.Size()-at)}
}

func (o outgoing) Size() int64 { return int64(len(o.head)) + o.body.Size() }

func (o outgoing) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return o.body.ReadAt(p, off)
	}
	if off < int64(len(o.head)) {
		n = copy(p, o.head[off:])
	}
	if n == len(p) {
		return n, nil
	}
	m, err := o.body.ReadAt(p[n:], off+int64(n)-int64(len(o.head)))
	return n + m, err
}

func (o outgoing) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, io.MultiReader(bytes.NewReader(o.head), io.NewSectionReader(o.body, 0, o.body.Size())))
}
