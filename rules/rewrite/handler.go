package rewrite

import (
	"context"
	"fmt"
	"slices"

	"gatepost/internal/mail"
)

// Handler returns next with the rewriting around it, or next itself where there
// is none. routed reports whether mail for an address has a way to go.
//
// What goes out is changed before the filters see it, so that one of them can
// sign it; what comes in keeps the recipients that its sender wrote until they
// have judged it.
func (r *Rewriter) Handler(next mail.Handler, routed func(mail.Address) bool) mail.Handler {
	if r == nil || !r.outgoing && !r.incoming {
		return next
	}
	return &handler{Handler: next, rules: r, routed: routed}
}

type handler struct {
	mail.Handler
	rules  *Rewriter
	routed func(mail.Address) bool
}

// Unknown passes on what mail.UnknownHandler is about.
func (h *handler) Unknown(ctx context.Context, tx *mail.Transaction, command string) mail.Verdict {
	return mail.Unknown(ctx, h.Handler, tx, command)
}

func (r *Rewriter) sends(s *mail.Session) bool {
	return r.outgoing && s.Via == mail.ViaSMTP && (s.Role == "relay" || s.Role == "submission" || s.Role == "submissions")
}

func (r *Rewriter) receives(s *mail.Session) bool {
	return r.incoming && s.Via == mail.ViaSMTP && s.Role == "mx"
}

// Rcpt refuses what a table refuses, while the client can be told.
func (h *handler) Rcpt(ctx context.Context, tx *mail.Transaction, rcpt mail.Path) mail.Verdict {
	v := h.Handler.Rcpt(ctx, tx, rcpt)
	if v.Action >= mail.TempFail || !h.rules.receives(tx.Session) {
		return v
	}
	to, err := h.rules.Incoming(rcpt.Address)
	switch {
	case err != nil:
		return later(err.Error())
	case !to.Refusal.IsZero():
		action := mail.Reject
		if to.Refusal.Code < 500 {
			action = mail.TempFail
		}
		return mail.Verdict{Action: action, Reply: to.Refusal, Reason: "a table refuses " + rcpt.String()}
	}
	for _, a := range to.To {
		if a != rcpt.Address && !h.routed(a) {
			return later(fmt.Sprintf("%s becomes %s, which has no route", rcpt, a))
		}
	}
	return v
}

// later is for tables that are wrong: ours to put right.
func later(why string) mail.Verdict {
	return mail.Verdict{
		Action: mail.TempFail,
		Reply:  mail.Reply{Code: 451, Detail: "3.5", Text: "Address could not be rewritten, please try again later"},
		Reason: mail.CleanText(why),
	}
}

func (h *handler) Message(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	switch {
	case h.rules.sends(tx.Session):
		return h.outgoing(ctx, tx)
	case h.rules.receives(tx.Session):
		return h.incoming(tx, h.Handler.Message(ctx, tx))
	}
	return h.Handler.Message(ctx, tx)
}

// outgoing shows the filters the message as it will be. Fields keep their
// places, so what they say of one is said of the same.
func (h *handler) outgoing(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	edits := h.rules.Outgoing(tx.Envelope, tx.Message.Header)
	if len(edits) == 0 {
		return h.Handler.Message(ctx, tx)
	}
	view := *tx
	view.Envelope, view.Message = mail.Apply(tx.Envelope, tx.Message, edits)
	v := h.Handler.Message(ctx, &view)
	tx.Findings, tx.Inside, tx.Asked = view.Findings, view.Inside, view.Asked
	v.Edits = behind(v.Edits, edits)
	v.Recipients = slices.Clone(v.Recipients)
	for i := range v.Recipients {
		v.Recipients[i].Edits = behind(v.Recipients[i].Edits, edits)
	}
	return v
}

// behind adds edits of ours to those of the filters, which saw them done: what
// they did to the same thing stands.
func behind(theirs, ours []mail.Edit) []mail.Edit {
	all := slices.Clone(theirs)
	for _, e := range ours {
		if !slices.ContainsFunc(theirs, func(t mail.Edit) bool { return same(t, e) }) {
			all = append(all, e)
		}
	}
	return all
}

// same reports whether t changes what e changes.
func same(t, e mail.Edit) bool {
	switch e := e.(type) {
	case mail.ChangeHeader:
		switch t := t.(type) {
		case mail.ChangeHeader:
			return t.At == e.At
		case mail.DeleteHeader:
			return t.At == e.At
		}
	case mail.ChangeSender:
		_, is := t.(mail.ChangeSender)
		return is
	}
	return false
}

// incoming puts others in the place of recipients, for each with what was
// decided for it.
func (h *handler) incoming(tx *mail.Transaction, v mail.Verdict) mail.Verdict {
	if v.Action >= mail.TempFail && len(v.Recipients) == 0 {
		return v
	}
	var all []mail.Edit
	per := make([][]mail.Edit, len(tx.Envelope.Recipients))
	for i, rcpt := range tx.Envelope.Recipients {
		to, err := h.rules.Incoming(rcpt.Address)
		if err != nil || len(to.To) == 0 {
			return later("after RCPT the table says something else of " + rcpt.String())
		}
		per[i] = replace(rcpt, to.To)
		all = append(all, per[i]...)
	}
	v.Edits = append(slices.Clone(v.Edits), all...)
	v.Recipients = slices.Clone(v.Recipients)
	for i := range v.Recipients {
		v.Recipients[i].Edits = append(slices.Clone(v.Recipients[i].Edits), per[i]...)
	}
	return v
}

// replace are the edits that put to in the place of a recipient. What its sender
// asked for goes with it (RFC 3461 5.2.7.1), also who it was.
func replace(rcpt mail.Path, to []mail.Address) []mail.Edit {
	if len(to) == 1 && to[0] == rcpt.Address {
		return nil
	}
	args := rcpt.Args
	if _, ok := rcpt.Arg("ORCPT"); !ok && rcpt.IsASCII() {
		args = append(slices.Clone(args), "ORCPT=rfc822;"+mail.Xtext(rcpt.String()))
	}
	edits := []mail.Edit{mail.DeleteRecipient{Recipient: rcpt.Address}}
	for _, a := range to {
		edits = append(edits, mail.AddRecipient{Recipient: mail.Path{Address: a, Args: args}})
	}
	return edits
}
