package mail

// Answer is what a client was told at the end of something: a message, or a
// command that was refused.
type Answer struct {
	Stage  Stage
	Action Action
	Reply  Reply
	Reason string
	About  string // the address of MAIL or RCPT as it was given
}

// AnsweredHandler is a Handler that wants to know what its verdicts came to,
// and what was refused without asking it.
type AnsweredHandler interface {
	// Answered is called in the session's own turn, when the answer is known
	// and before the transaction is over.
	Answered(tx *Transaction, a Answer)
}

// Answered tells h, if it wants to know.
func Answered(h Handler, tx *Transaction, a Answer) {
	if l, ok := h.(AnsweredHandler); ok {
		l.Answered(tx, a)
	}
}
