package journal

import (
	"context"

	"gatepost/internal/mail"
)

// Handler returns next with the journals around it, or next itself where there
// are none.
func (s *Set) Handler(next mail.Handler) mail.Handler {
	if s.Empty() {
		return next
	}
	return &handler{Handler: next, set: s}
}

type handler struct {
	mail.Handler
	set *Set
}

// Unknown passes on what mail.UnknownHandler is about.
func (h *handler) Unknown(ctx context.Context, tx *mail.Transaction, command string) mail.Verdict {
	return mail.Unknown(ctx, h.Handler, tx, command)
}

// Message keeps the copies and asks the filters side by side. A message whose
// copy is missing is put off, whatever they say but for a refusal.
func (h *handler) Message(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	seen := *tx // the filters append to tx
	kept := make(chan error, 1)
	if tx.Session.Again { // its first copy was made when it came
		kept <- nil
	} else {
		go func() { kept <- h.set.keep(ctx, &seen, nil) }()
	}
	v := h.Handler.Message(ctx, tx)
	err := <-kept
	if err == nil && v.Action < mail.TempFail && v.Unscanned == "" {
		err = h.set.keep(ctx, tx, &v)
	}
	if err != nil && v.Action < mail.TempFail {
		return mail.Verdict{
			Action: mail.TempFail,
			Reply:  mail.Reply{Code: 451, Detail: "3.0", Text: "Message could not be recorded, please try again later"},
			Reason: "no journal copy: " + mail.CleanText(err.Error()),
		}
	}
	return v
}
