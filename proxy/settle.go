package proxy

import (
	"reflect"

	"gatepost/internal/mail"
)

// part is the recipients that share one outcome.
type part struct {
	verdict mail.Verdict
	rcpts   []mail.Path
}

// settle turns the handler's verdict into what becomes of the message: a
// refusal of all of it, or parts. The first result is the strongest outcome.
//
// The client gets one answer for all recipients. So where some are to be told
// "later", all are; where some are refused and others not, the refused ones'
// copy is held: it was answered 250, and a bounce would go to whoever was named
// as the sender.
func settle(v mail.Verdict, st sticky, rcpts []mail.Path) (mail.Verdict, []part) {
	if len(v.Recipients) == 0 {
		v = st.apply(v)
		if v.Action >= mail.TempFail {
			return v, nil
		}
		return v, []part{{v, rcpts}}
	}
	if len(v.Recipients) != len(rcpts) {
		return mail.Verdict{Action: mail.TempFail, Reply: ourFault(), Reason: "the verdict does not fit the recipients"}, nil
	}
	rejected := 0
	for i, r := range v.Recipients {
		switch r.Action {
		case mail.TempFail:
			return r, nil
		case mail.Reject:
			rejected++
		}
		if rejected == i+1 && i+1 == len(rcpts) {
			return v.Recipients[0], nil
		}
	}
	var strongest mail.Verdict
	var parts []part
	for i, r := range v.Recipients {
		if r.Action == mail.Reject {
			r.Action, r.Reason, r.Unscanned = mail.Quarantine, "refused for this recipient: "+r.Reason, ""
		}
		r = st.apply(r)
		parts = group(parts, r, rcpts[i])
		if i == 0 || r.Action > strongest.Action {
			strongest = r
		}
	}
	return strongest, parts
}

// apply makes v at least as strong as what an earlier stage said.
func (s sticky) apply(v mail.Verdict) mail.Verdict {
	if s.action > v.Action {
		v.Action, v.Reason = s.action, s.reason
	}
	return v
}

// group adds a recipient to the part with the same outcome.
func group(parts []part, v mail.Verdict, rcpt mail.Path) []part {
	for i, p := range parts {
		if sameOutcome(p.verdict, v) {
			parts[i].rcpts = append(parts[i].rcpts, rcpt)
			return parts
		}
	}
	return append(parts, part{v, []mail.Path{rcpt}})
}

func sameOutcome(a, b mail.Verdict) bool {
	if a.Action.Delivers() && b.Action.Delivers() {
		return sameEdits(a.Edits, b.Edits)
	}
	return a.Action == b.Action && a.Reason == b.Reason && a.Unscanned == b.Unscanned && sameEdits(a.Edits, b.Edits)
}

func sameEdits(a, b []mail.Edit) bool {
	switch {
	case len(a) != len(b):
		return false
	case len(a) == 0 || &a[0] == &b[0]:
		return true
	case replacesBody(a) || replacesBody(b):
		return false // bodies are not compared
	}
	return reflect.DeepEqual(a, b)
}
