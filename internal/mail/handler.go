package mail

import "context"

// Handler judges the mail of one connection. An MTA (our proxy, or a foreign
// one over the milter protocol) asks it at every stage, one call at a time, and
// does what the verdict says. It answers with verdicts, never with errors: what
// could not be told was turned into a verdict by the failure policy.
//
// The handler may append to tx.Findings and read everything else.
type Handler interface {
	Connect(ctx context.Context, tx *Transaction) Verdict
	Helo(ctx context.Context, tx *Transaction) Verdict
	Mail(ctx context.Context, tx *Transaction) Verdict
	// Rcpt judges one recipient, which is not yet part of tx.Envelope.
	Rcpt(ctx context.Context, tx *Transaction, rcpt Path) Verdict
	Data(ctx context.Context, tx *Transaction) Verdict
	Message(ctx context.Context, tx *Transaction) Verdict
	// Abort ends a transaction before its end; the session goes on.
	Abort(tx *Transaction)
	// Close ends the session.
	Close()
}
