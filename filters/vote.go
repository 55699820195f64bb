package filters

import (
	"slices"

	"gatepost/internal/mail"
)

// Vote is a verdict that the operator lets a filter give by itself. The zero
// Vote is none.
type Vote struct {
	Action mail.Action
	Reply  mail.Reply // as it is, for TempFail and Reject
	Reason string     // for us
}

func (v Vote) verdict() mail.Verdict {
	return mail.Verdict{Action: v.Action, Reply: v.Reply, Reason: v.Reason}
}

// stronger returns the one with the stronger action; v when they are equal.
func (v Vote) stronger(other Vote) Vote {
	if other.Action > v.Action {
		return other
	}
	return v
}

// strengthen returns the stronger of v and worst, for every recipient.
func strengthen(v, worst mail.Verdict) mail.Verdict {
	v.Recipients = slices.Clone(v.Recipients)
	worsened := false
	for i, r := range v.Recipients {
		v.Recipients[i] = stronger(r, worst)
		worsened = worsened || worst.Action > r.Action
	}
	if worsened && worst.Action >= mail.TempFail {
		// There is one answer for all. 451 makes the client offer the message
		// to every recipient again; any other would lose those that failed.
		return worst
	}
	return stronger(v, worst)
}
