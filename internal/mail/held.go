package mail

import "slices"

// HeldKind says for what kind of reason a message is held: by it people sort
// what is held, and it decides how long it is kept and who may release it.
type HeldKind string

// The kinds, the gravest first: of several reasons the gravest counts.
const (
	HeldVirus      HeldKind = "virus"
	HeldAttachment HeldKind = "attachment" // what the operator's lists don't want
	HeldUnscanned  HeldKind = "unscanned"  // a filter could not look inside, or could not be asked
	HeldAmbiguous  HeldKind = "ambiguous"  // mail programs would see different things in it
	HeldDMARC      HeldKind = "dmarc"      // not from its author
	HeldSpam       HeldKind = "spam"
	HeldRule       HeldKind = "rule" // a policy rule, the access map, a milter or a recipient's own list
	HeldHand       HeldKind = "hand" // an operator holds it
)

// HeldKinds lists all of them, the gravest first.
func HeldKinds() []HeldKind {
	return []HeldKind{HeldVirus, HeldAttachment, HeldUnscanned, HeldAmbiguous, HeldDMARC, HeldSpam, HeldRule, HeldHand}
}

// Graver is the graver of two kinds; "" is none.
func (k HeldKind) Graver(other HeldKind) HeldKind {
	if other == "" {
		return k
	}
	if k == "" || slices.Index(HeldKinds(), other) < slices.Index(HeldKinds(), k) {
		return other
	}
	return k
}

// NeedsApproval reports whether somebody who may approve must release it.
func (k HeldKind) NeedsApproval() bool { return k == HeldVirus || k == HeldAttachment }
