package milter

import "gatepost/internal/mail"

// logEnvelope notes what the MTA is told before there is a message: a refusal,
// in the words of the proxy's log, or the decision of a mail that it is to drop.
func (s *session) logEnvelope(stage mail.Stage, about string, v mail.Verdict) {
	if noReply[stage] != 0 && !s.replies(stage) {
		return // it is said, and logged, at the end
	}
	switch {
	case v.Action == mail.Discard && s.msg != nil:
		s.log(v, 0)
		s.answered(stage, about, v)
	case v.Action >= mail.TempFail:
		s.answered(stage, about, v)
		id, from, to := "", "", ""
		if s.msg != nil {
			id, from, to = s.msg.tx.ID, s.msg.tx.Envelope.Sender.String(), about
		}
		if stage == mail.StageMail {
			from, to = about, ""
		}
		s.srv.deps.Log.Info("reject", "id", id, "listener", s.srv.cfg.Name, "stage", stage.String(), "client", clientOf(s.smtp), "helo", s.smtp.Helo,
			"from", mail.CleanText(from), "to", mail.CleanText(to), "action", v.Action.String(), "reason", v.Reason, "reply", v.Reply.String())
	}
}

// answered tells the handler what the MTA is told.
func (s *session) answered(stage mail.Stage, about string, v mail.Verdict) {
	a := mail.Answer{Stage: stage, Action: v.Action, Reply: v.Reply, Reason: v.Reason, About: mail.CleanText(about)}
	if s.msg != nil {
		mail.Answered(s.msg.handler, s.msg.tx, a)
		return
	}
	mail.Answered(s.handler, &mail.Transaction{Stage: stage, Session: s.smtp}, a)
}
