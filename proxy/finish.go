package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatepost/internal/mail"
)

// decision is how a message ended: for the client, the log and Stats.
type decision struct {
	action mail.Action
	reply  mail.Reply
	cause  string       // from the closed set of Stats
	taken  string       // the ID as which it is kept; "" when it is not
	reason string       // for the log
	each   []mail.Reply // for each recipient, where the client hears them
}

// finish judges a complete message, keeps it, and answers. The transaction ends
// here in any case.
func (s *session) finish(ctx context.Context) {
	tx := s.tx
	tx.in.finish()
	d, judged := s.decide(ctx, tx)
	s.logDecision(ctx, tx, d)
	if judged {
		s.tx = nil // the handler has seen the end
		tx.in.drop()
	} else {
		s.abort()
	}
	if d.each != nil {
		s.sayEach(d.each)
	}
	if d.action >= mail.TempFail {
		s.refuse(d.reply)
		return
	}
	s.faults, s.idles = 0, 0
	s.reply(d.reply)
	s.answered(tx, d.taken)
}

// decide returns the decision, and whether the handler was asked for it. When
// it says 250, the message is in the spool.
func (s *session) decide(ctx context.Context, tx *transaction) (d decision, judged bool) {
	if r, cause := tx.in.problem(); cause != "" {
		return refusal(r, cause), false
	}
	if tx.in.draft == nil { // discarded by an earlier stage
		return accepted(tx, mail.Verdict{Action: mail.Discard, Reason: tx.sticky.reason}), false
	}
	if d, ok := s.readMessage(tx); !ok {
		return d, false
	}
	each := s.answersEach(tx)
	if id, ok := s.repeated(tx); ok && !each { // who was taken then is not known
		return repeat(id), false
	}
	v, cause := s.ask(ctx, &tx.Transaction, mail.StageMessage, s.handler.Message)
	var parts []part
	var replies []mail.Reply
	if each {
		v, parts, replies = settleEach(v, tx.sticky, tx.Envelope.Recipients)
	} else {
		v, parts = settle(v, tx.sticky, tx.Envelope.Recipients)
	}
	if v.Action >= mail.TempFail {
		return decision{action: v.Action, reply: refusalOf(v), cause: cause, reason: v.Reason, each: replies}, true
	}
	if len(s.buffered()) == 0 && isGone(s.raw) {
		// It would not see the 250 and send the message again.
		d := refusal(closing("4.2", "connection lost"), causeGone)
		d.reason = "the client is gone"
		return d, true
	}
	if d = s.take(ctx, tx, v, parts); d.action < mail.TempFail {
		d.each = replies
	}
	return d, true
}

// take keeps the parts of a message, or delivers them while the client waits.
func (s *session) take(ctx context.Context, tx *transaction, v mail.Verdict, parts []part) decision {
	parcels, err := s.pack(tx, parts)
	defer discard(parcels)
	if err != nil {
		return s.spoolFailed(tx, err)
	}
	if len(parcels) == 0 {
		if v.Action != mail.Discard {
			v = mail.Verdict{Action: mail.Discard, Reason: "no recipients left"}
		}
		return accepted(tx, v)
	}
	if s.set.Delivery == Interactive && s.deps.Courier != nil {
		return s.deliver(ctx, tx, v, parcels)
	}
	if err := s.keep(ctx, parcels, nil); err != nil {
		return s.spoolFailed(tx, err)
	}
	d := accepted(tx, v)
	d.taken = tx.ID
	return d
}

// spoolFailed is the answer to a message that can't be kept.
func (s *session) spoolFailed(tx *transaction, err error) decision {
	s.log.Error("spool", "id", tx.ID, "error", err)
	r, cause := spoolFault(err)
	return refusal(r, cause)
}

// repeat is the answer to a message that was taken before.
func repeat(id string) decision {
	r := mail.Reply{Code: 250, Detail: "0.0", Text: "queued as " + id}
	return decision{action: mail.Accept, reply: r, cause: causeRepeat, taken: id, reason: "again, its answer was lost: taken as " + id}
}

func accepted(tx *transaction, v mail.Verdict) decision {
	r := mail.Reply{Code: 250, Detail: "0.0", Text: "queued as " + tx.ID}
	return decision{action: v.Action, reply: r, cause: causePolicy, reason: v.Reason}
}

// refusal is a decision of ours, not of the handler.
func refusal(r mail.Reply, cause string) decision {
	action := mail.Reject
	if r.Code/100 == 4 {
		action = mail.TempFail
	}
	return decision{action: action, reply: r, cause: cause, reason: r.Text}
}

// readMessage splits the draft and puts our Received on top.
func (s *session) readMessage(tx *transaction) (decision, bool) {
	m, err := mail.ReadMessage(tx.in.draft, tx.in.draft.Size())
	switch {
	case errors.Is(err, mail.ErrHeader):
		r := mail.Reply{Code: 554, Detail: "6.0", Text: "the message header is too large"}
		d := refusal(r, causeHeader)
		d.reason = err.Error()
		return d, false
	case err != nil:
		s.log.Error("spool", "id", tx.ID, "error", err)
		r, cause := spoolFault(err)
		return refusal(r, cause), false
	}
	if n := m.Header.Count("Received"); n >= s.set.Limits.MaxReceived {
		d := refusal(mail.Reply{Code: 554, Detail: "4.6", Text: "too many hops, this is a loop"}, causeLoop)
		d.reason = fmt.Sprintf("%d Received fields", n)
		return d, false
	}
	if n := m.Header.Passes(s.set.Hostname); n >= mail.MaxPasses {
		d := refusal(mail.Reply{Code: 554, Detail: "4.6", Text: "this message has been here before, this is a loop"}, causeLoop)
		d.reason = fmt.Sprintf("%d Received fields are ours", n)
		return d, false
	}
	m.Header = slices.Insert(m.Header, 0, mail.NewReceived(&tx.Transaction, s.set.Hostname, time.Now()))
	tx.Message = m
	return decision{}, true
}
