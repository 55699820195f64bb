package proxy

import (
	"context"

	"gatepost/internal/mail"
)

// ask puts one question to the handler, within the time that it has. The second
// result is who decided: the policy, or a failure.
func (s *session) ask(ctx context.Context, tx *mail.Transaction, stage mail.Stage, call func(context.Context, *mail.Transaction) mail.Verdict) (v mail.Verdict, cause string) {
	tx.Stage = stage
	ctx, cancel := context.WithTimeout(ctx, s.set.Limits.JudgeTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			s.logPanic(p)
			v, cause = mail.Verdict{Action: mail.TempFail, Reply: ourFault(), Reason: "panic in the handler"}, causePanic
		}
	}()
	v = call(ctx, tx)
	if ctx.Err() != nil && v.Action < mail.TempFail {
		// Whoever was interrupted has not judged. A refusal stands.
		return mail.Verdict{Action: mail.TempFail, Reply: ourFault(), Reason: "no verdict in time"}, causeTimeout
	}
	return v, causePolicy
}

func (s *session) askRcpt(ctx context.Context, tx *transaction, rcpt mail.Path) (mail.Verdict, string) {
	return s.ask(ctx, &tx.Transaction, mail.StageRcpt, func(ctx context.Context, t *mail.Transaction) mail.Verdict {
		return s.handler.Rcpt(ctx, t, rcpt)
	})
}
