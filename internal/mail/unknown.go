package mail

import "context"

// UnknownHandler is a Handler that wants to hear of commands that the MTA
// doesn't know.
type UnknownHandler interface {
	// Unknown judges the line of such a command. The client is refused in any
	// case: a verdict of TempFail or Reject says in which words, any other
	// says nothing. tx.Stage is StageMail within a transaction, else StageHelo.
	Unknown(ctx context.Context, tx *Transaction, command string) Verdict
}

// Unknown asks h, if it wants to hear of it.
func Unknown(ctx context.Context, h Handler, tx *Transaction, command string) Verdict {
	u, ok := h.(UnknownHandler)
	if !ok {
		return Verdict{}
	}
	return u.Unknown(ctx, tx, command)
}
