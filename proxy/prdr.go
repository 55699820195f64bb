package proxy

import (
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// PRDR (draft-hall-prdr) gives each recipient an answer of its own behind the
// message, to clients that ask for it with MAIL. So nothing has to be held that
// could be refused.
const prdr = "PRDR"

// answersEach reports whether the client wants, and gets, an answer for each
// recipient.
func (s *session) answersEach(tx *transaction) bool {
	_, asked := tx.Envelope.Sender.Arg(prdr)
	return asked && s.offersPRDR() && len(tx.Envelope.Recipients) > 1
}

// offersPRDR: where the next hop answers for all, nobody knows of whom it
// speaks.
func (s *session) offersPRDR() bool { return s.set.Delivery != Interactive }

// settleEach is settle where each recipient has an answer. Those that the
// message is refused for are in no part.
func settleEach(v mail.Verdict, st sticky, rcpts []mail.Path) (mail.Verdict, []part, []mail.Reply) {
	if len(v.Recipients) != len(rcpts) {
		v, parts := settle(v, st, rcpts)
		return v, parts, nil
	}
	replies := make([]mail.Reply, len(rcpts))
	var parts []part
	refused := mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "7.1", Text: "refused for all recipients"}, Reason: v.Reason}
	for i, r := range v.Recipients {
		if r = st.apply(r); r.Action >= mail.TempFail {
			replies[i] = refusalOf(r)
			if r.Action == mail.TempFail {
				refused.Action, refused.Reply = mail.TempFail, mail.Reply{Code: 451, Detail: "7.1", Text: "taken for no recipient"}
			}
			continue
		}
		replies[i] = mail.Reply{Code: 250, Detail: "1.5", Text: "taken for this recipient"}
		parts = group(parts, r, rcpts[i])
	}
	if len(parts) == 0 {
		return refused, nil, replies
	}
	strongest := slices.MaxFunc(parts, func(a, b part) int { return int(a.verdict.Action - b.verdict.Action) })
	return strongest.verdict, parts, replies
}

// sayEach gives the answers for recipients; the one for the message is behind
// them.
func (s *session) sayEach(replies []mail.Reply) {
	s.reply(mail.Reply{Code: 353, Text: "an answer for each recipient follows"})
	for _, r := range replies {
		s.reply(r)
	}
}

// withoutPRDR is a sender as it is kept: the answers were given.
func withoutPRDR(p mail.Path) mail.Path {
	p.Args = slices.DeleteFunc(slices.Clone(p.Args), func(a string) bool { return strings.EqualFold(a, prdr) })
	return p
}
