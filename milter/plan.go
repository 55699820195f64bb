package milter

import (
	"io"
	"reflect"
	"slices"

	"gatepost/internal/mail"

	"github.com/emersion/go-milter"
)

// Held is a copy of a message, for some of its recipients, that we keep: until
// somebody decides, or, where Verdict delivers, until it is passed on by us.
// Verdict has the reason, and the edits that it is kept with.
type Held struct {
	Recipients []mail.Path
	Verdict    mail.Verdict
}

// plan is what becomes of a message: what the MTA is told, and before that what
// we keep.
type plan struct {
	verdict mail.Verdict // one for all recipients
	held    []Held
}

func (s *session) plan(v mail.Verdict) plan {
	rcpts := s.msg.tx.Envelope.Recipients
	if len(v.Recipients) != 0 && len(v.Recipients) != len(rcpts) {
		return plan{verdict: mail.Verdict{Action: mail.TempFail, Reason: "the verdict does not fit the recipients"}}
	}
	if r, ok := refusedForAll(v); ok {
		return plan{verdict: r}
	}
	if s.srv.cfg.Quarantine == QuarantineHold && len(rcpts) > 0 && (len(v.Recipients) > 0 || v.Action == mail.Quarantine) {
		mayDelete := s.agreed.Actions&milter.OptRemoveRcpt != 0
		p := planHold(v, rcpts, mayDelete)
		p.verdict = s.orLater(p.verdict)
		return p
	}
	return plan{verdict: s.orLater(oneForAll(v, rcpts))}
}

// orLater is v, or TempFail where the MTA didn't allow what v can't do without:
// it would deliver what is to be held or dropped.
func (s *session) orLater(v mail.Verdict) mail.Verdict {
	missing := ""
	if v.Action == mail.Quarantine && s.agreed.Actions&milter.OptQuarantine == 0 {
		missing = "quarantine"
	}
	deletes := slices.ContainsFunc(v.Edits, func(e mail.Edit) bool { _, ok := e.(mail.DeleteRecipient); return ok })
	if v.Action.Delivers() && deletes && s.agreed.Actions&milter.OptRemoveRcpt == 0 {
		missing = "delete recipients"
	}
	if missing == "" {
		return v
	}
	return mail.Verdict{Action: mail.TempFail, Reason: "the MTA lets no filter " + missing + ": " + v.Reason}
}

// refusedForAll is the answer where the message is refused: for all recipients,
// or to one of them for now, as there is but one answer.
func refusedForAll(v mail.Verdict) (mail.Verdict, bool) {
	for _, r := range v.Recipients {
		if r.Action == mail.TempFail {
			return r, true
		}
	}
	if len(v.Recipients) == 0 || slices.ContainsFunc(v.Recipients, func(r mail.Verdict) bool { return r.Action != mail.Reject }) {
		return v, false
	}
	return v.Recipients[0], true
}

// planHold takes those whose copy we hold out of the envelope; when nobody is
// left, the MTA drops the message. An MTA that lets no filter delete recipients
// would deliver what we hold: there the others' copies are held, too, since a
// hold loses nothing. The MTA has one copy for all that it delivers: who is to
// get another one gets it from us.
func planHold(v mail.Verdict, rcpts []mail.Path, mayDelete bool) plan {
	p := plan{verdict: mail.Verdict{Action: mail.Discard, Reason: v.Reason}}
	var gone []mail.Edit
	var delivered []int
	for i, to := range rcpts {
		r := v.For(i)
		if r.Action.Delivers() {
			delivered = append(delivered, i)
			continue
		}
		gone = append(gone, mail.DeleteRecipient{Recipient: to.Address})
		if r.Action > mail.Discard {
			p.held = grouped(p.held, r, to)
		}
	}
	if len(delivered) == 0 {
		return p
	}
	one := v.For(delivered[0])
	delivered = slices.DeleteFunc(delivered, func(i int) bool {
		other := v.For(i)
		if sameEdits(one.Edits, other.Edits) {
			return false
		}
		p.held = grouped(p.held, other, rcpts[i])
		gone = append(gone, mail.DeleteRecipient{Recipient: rcpts[i].Address})
		return true
	})
	if !mayDelete && len(p.held) > 0 {
		for _, i := range delivered { // the MTA can't be told to deliver to some: all is ours to pass on, or to hold
			p.held = grouped(p.held, one, rcpts[i])
		}
		return p
	}
	one.Edits = append(slices.Clone(one.Edits), gone...)
	one.Recipients = nil
	p.verdict = one
	return p
}

// grouped adds a recipient to the copy that has the same reason and edits.
func grouped(held []Held, v mail.Verdict, to mail.Path) []Held {
	if !v.Action.Delivers() {
		v.Action = mail.Quarantine
	}
	for i, h := range held {
		if h.Verdict.Action == v.Action && (v.Action.Delivers() || h.Verdict.Reason == v.Reason) && sameEdits(h.Verdict.Edits, v.Edits) {
			held[i].Recipients = append(held[i].Recipients, to)
			return held
		}
	}
	v.Recipients = nil
	return append(held, Held{Recipients: []mail.Path{to}, Verdict: v})
}

// sameEdits reports whether two lists leave the same message.
func sameEdits(a, b []mail.Edit) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || sameBody(a, b) && reflect.DeepEqual(withoutBody(a), withoutBody(b)))
}

func withoutBody(edits []mail.Edit) []mail.Edit {
	return slices.DeleteFunc(slices.Clone(edits), func(e mail.Edit) bool { _, ok := e.(mail.ReplaceBody); return ok })
}

// otherBody is why a copy is held that could be delivered: an MTA has one body
// for all. Who is to get a message without a part must not get it with that.
const otherBody = "an MTA delivers one text to all recipients, and this recipient's copy has other parts"

// sameBody reports whether two verdicts leave the same body.
func sameBody(a, b []mail.Edit) bool { return body(a) == body(b) }

func body(edits []mail.Edit) (b io.ReaderAt) {
	for _, e := range edits {
		if r, ok := e.(mail.ReplaceBody); ok {
			b = r.Body
		}
	}
	return b
}

// ofEnvelope are the changes of recipients among edits that others have not.
func ofEnvelope(edits, others []mail.Edit) []mail.Edit {
	return slices.DeleteFunc(slices.Clone(edits), func(e mail.Edit) bool {
		switch e.(type) {
		case mail.AddRecipient, mail.DeleteRecipient:
			return slices.ContainsFunc(others, func(o mail.Edit) bool { return reflect.DeepEqual(o, e) })
		}
		return true
	})
}

// oneForAll makes one verdict of those for several recipients. The protocol has
// one answer at the end of a message and one header for all: a recipient whose
// mail is dropped is taken out of the envelope; if any other's is held, the
// whole message is, since a hold loses nothing and can be released.
func oneForAll(v mail.Verdict, rcpts []mail.Path) mail.Verdict {
	if len(v.Recipients) == 0 {
		return v
	}
	one := mail.Verdict{Action: mail.Discard, Reason: v.Reason}
	var gone []mail.Edit
	first := -1
	for i, r := range v.Recipients {
		if r.Action.Delivers() {
			if first >= 0 { // its header is that of the first, but not its envelope
				gone = append(gone, ofEnvelope(r.Edits, one.Edits)...)
			} else {
				first = i
			}
		}
		switch {
		case r.Action == mail.Discard:
			gone = append(gone, mail.DeleteRecipient{Recipient: rcpts[i].Address})
			continue
		case r.Action.Delivers() && one.Action == mail.Discard:
			one = r
		case r.Action.Delivers() && one.Action.Delivers() && !sameBody(one.Edits, r.Edits):
			if body(one.Edits) != nil {
				r.Edits = one.Edits
			}
			one = mail.Verdict{Action: mail.Quarantine, Reason: otherBody, Edits: r.Edits}
		case r.Action > mail.Discard && (one.Action == mail.Discard || one.Action < mail.Quarantine):
			one = mail.Verdict{Action: mail.Quarantine, Reason: r.Reason, Edits: r.Edits}
		}
	}
	if one.Action != mail.Discard {
		one.Edits = append(slices.Clone(one.Edits), gone...)
	}
	return one
}
