package recipients

import (
	"context"
	"slices"

	"gatepost/internal/mail"
)

// Handler returns next with a look at recipients behind its own word on them, or
// next itself where there is nothing to look at. What next refuses stays
// refused.
func (c *Checker) Handler(next mail.Handler) mail.Handler {
	if c == nil || c.cfg.Empty() {
		return next
	}
	return &handler{next, c}
}

type handler struct {
	mail.Handler
	c *Checker
}

// Unknown passes on what mail.UnknownHandler is about.
func (h *handler) Unknown(ctx context.Context, tx *mail.Transaction, command string) mail.Verdict {
	return mail.Unknown(ctx, h.Handler, tx, command)
}

func (h *handler) Rcpt(ctx context.Context, tx *mail.Transaction, rcpt mail.Path) mail.Verdict {
	v := h.Handler.Rcpt(ctx, tx, rcpt)
	if v.Action >= mail.TempFail && !greylisted(tx, v, rcpt) || !h.c.looks(tx.Session) || rcpt.IsPostmaster() { // RFC 5321 4.5.1
		return v
	}
	list := h.c.sources(rcpt.ASCIIDomain())
	if len(list) == 0 || !h.c.deps.Ours(rcpt.Address) {
		return v
	}
	network, counted := h.c.guesses.network(tx.Session)
	if counted && h.c.guesses.barred(ctx, network) {
		return away(network.String() + " has asked for too many recipients that there are not")
	}
	o := h.c.consult(ctx, list, rcpt.Address)
	h.c.deps.Log.DebugContext(ctx, "recipient", "id", tx.ID, "to", rcpt.String(), "is", o.is.String(), "source", o.sources)
	switch {
	case o.cant:
		return mail.Verdict{
			Action: mail.TempFail, Reply: mail.Reply{Code: 451, Detail: "4.3", Text: "Recipient can't be verified now, please try again later"},
			Reason: o.sources,
		}
	case o.is == isKnown || o.is == isAnything:
		if counted && o.is == isKnown {
			h.c.guesses.knew(ctx, network, key(rcpt.Address))
		}
		return v
	case o.is == isDeferred:
		return mail.Verdict{Action: mail.TempFail, Reply: o.reply, Reason: "deferred by " + o.sources}
	case o.is == isRefused:
		return mail.Verdict{Action: mail.Reject, Reply: o.reply, Reason: "refused by " + o.sources}
	}
	if counted && h.c.guesses.guessed(ctx, network, key(rcpt.Address)) {
		return away("unknown to " + o.sources + "; " + network.String() + " has asked for too many recipients that there are not")
	}
	reply := o.reply
	if reply.IsZero() {
		reply = mail.Reply{Code: 550, Detail: "1.1", Text: "User unknown"}
	}
	return mail.Verdict{Action: mail.Reject, Reply: reply, Reason: "unknown to " + o.sources}
}

// looks reports whether recipients of a session are looked at. A message that
// was taken already is not asked for again.
func (c *Checker) looks(s *mail.Session) bool {
	switch {
	case s.Again:
		return false
	case s.Via == mail.ViaMilter:
		return slices.Contains(c.cfg.Milters, s.Listener)
	}
	return s.Via == mail.ViaSMTP
}

// away sends a client away (RFC 5321 3.8).
func away(why string) mail.Verdict {
	return mail.Verdict{
		Action: mail.TempFail, Reply: mail.Reply{Code: 421, Detail: "7.0", Text: "Too many unknown recipients, come back later"}, Close: true, Reason: why,
	}
}

// greylisted reports whether it is greylisting alone that puts a recipient off:
// one that there is not need not be tried twice, and a guess is one at once.
func greylisted(tx *mail.Transaction, v mail.Verdict, rcpt mail.Path) bool {
	return v.Action == mail.TempFail && v.Reply.Code == 450 && slices.ContainsFunc(tx.Findings, func(f mail.Finding) bool {
		return f.Name == mail.FindingGreylisted && f.Rcpt == rcpt.Address
	})
}
