package proxy

import (
	"context"
	"slices"
	"time"

	"gatepost/internal/mail"
)

// mail begins a transaction.
func (s *session) mail(ctx context.Context, arg string) {
	switch {
	case s.facts.Helo == "":
		s.refuse(badSequence("send HELO first"))
		return
	case s.tx != nil:
		s.refuse(badSequence("there is a sender already"))
		return
	case !s.refusesStart().IsZero():
		s.refuseStage(mail.StageMail, arg, s.refusesStart(), "")
		return
	case s.messages >= s.set.Limits.MaxMessages:
		s.reply(closing("7.0", "too many messages on one connection"))
		return
	}
	sender, refusal := parseMail(arg, s.set.Limits.MaxSize)
	if !refusal.IsZero() {
		s.refuseStage(mail.StageMail, arg, refusal, "")
		return
	}
	if _, ok := sender.Arg("REQUIRETLS"); ok && s.facts.TLS == nil {
		s.refuseStage(mail.StageMail, sender.String(), mail.Reply{Code: 530, Detail: "7.10", Text: "REQUIRETLS needs STARTTLS first"}, "")
		return
	}
	if r := s.checkSender(ctx, sender.Address); !r.IsZero() {
		s.refuseStage(mail.StageMail, sender.String(), r, "the user is "+s.facts.User)
		return
	}
	if err := s.store.Ready(); err != nil {
		r, _ := spoolFault(err)
		s.logReject(mail.StageMail, sender.String(), r, err.Error())
		s.reply(r)
		return
	}
	if s.facts.Window { // it may have ended since
		s.facts.Window = s.windowOpen(ctx)
	}
	s.begin(sender)
	v, _ := s.ask(ctx, &s.tx.Transaction, mail.StageMail, s.handler.Mail)
	if v.Action >= mail.TempFail {
		s.refuseStage(mail.StageMail, sender.String(), refusalOf(v), v.Reason)
		s.abort()
		return
	}
	s.tx.sticky = s.tx.sticky.with(v)
	s.reply(mail.Reply{Code: 250, Detail: "1.0", Text: "sender OK"})
}

func (s *session) begin(sender mail.Path) {
	now := time.Now()
	s.messages++
	s.tx = &transaction{
		Transaction: mail.Transaction{
			ID:       mail.NewID(now),
			Session:  s.facts,
			Envelope: mail.Envelope{Sender: sender},
			Findings: slices.Clone(s.base.Findings),
			Start:    now,
		},
		sticky: s.helo,
	}
}

// parseMail reads the argument of MAIL. The second result is the refusal.
func parseMail(arg string, maxSize int64) (mail.Path, mail.Reply) {
	text, params, ok := splitPath(arg, "FROM:")
	if !ok {
		return mail.Path{}, badSyntax("want MAIL FROM:<address>")
	}
	ps, refusal := parseParams(params)
	if !refusal.IsZero() {
		return mail.Path{}, refusal
	}
	args, allowUTF8, refusal := mailParams(ps, maxSize)
	if !refusal.IsZero() {
		return mail.Path{}, refusal
	}
	addr, refusal := parseAddress(text, allowUTF8, "1.7")
	switch {
	case !refusal.IsZero():
		return mail.Path{}, refusal
	case addr.HasHops():
		return mail.Path{}, mail.Reply{Code: 553, Detail: "1.3", Text: "addresses with % or ! are not accepted"}
	case addr.Domain == "" && !addr.IsNull():
		return mail.Path{}, mail.Reply{Code: 553, Detail: "1.7", Text: "the sender needs a domain"}
	}
	return mail.Path{Address: addr, Args: args}, mail.Reply{}
}

// parseAddress reads what stands between the brackets. detail is the enhanced
// code of bad syntax: 1.7 for a sender, 1.3 for a recipient.
func parseAddress(text string, allowUTF8 bool, detail string) (mail.Address, mail.Reply) {
	addr, err := mail.ParseAddress(text, allowUTF8)
	switch {
	case err == nil:
		return addr, mail.Reply{}
	case !allowUTF8 && !isASCII(text):
		return addr, mail.Reply{Code: 553, Detail: "6.7", Text: "a non-ASCII address needs SMTPUTF8"}
	}
	return addr, mail.Reply{Code: 501, Detail: detail, Text: "bad address syntax"}
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// rcpt adds a recipient.
func (s *session) rcpt(ctx context.Context, arg string) {
	switch {
	case s.tx == nil:
		s.refuse(noTransaction())
		return
	case s.tx.in != nil:
		s.refuse(badSequence("the message has begun"))
		return
	}
	rcpt, refusal := parseRcpt(arg, s.tx.Envelope.UTF8())
	if !refusal.IsZero() {
		s.refuseStage(mail.StageRcpt, arg, refusal, "")
		return
	}
	if rcpt.Domain == "" {
		rcpt.Address = s.set.postmaster
	}
	isSame := func(r mail.Path) bool { return r.Address == rcpt.Address }
	switch to := s.tx.Envelope.Recipients; {
	case slices.ContainsFunc(to, isSame):
		s.idle(rcptOK())
	case len(to) >= s.set.Limits.MaxRecipients:
		s.tooMany()
	default:
		s.judgeRcpt(ctx, rcpt)
	}
}

func rcptOK() mail.Reply { return mail.Reply{Code: 250, Detail: "1.5", Text: "recipient OK"} }

// tooMany refuses a recipient above the limit. A list server tries some more
// and sends the message again to the rest; only who goes on for ever is cut.
func (s *session) tooMany() {
	r := mail.Reply{Code: 452, Detail: "5.3", Text: "too many recipients"}
	s.tx.overflow++
	if s.tx.overflow > s.set.Limits.MaxRecipients {
		s.refuse(r)
		return
	}
	s.reply(r)
}

func (s *session) judgeRcpt(ctx context.Context, rcpt mail.Path) {
	tx := s.tx
	var v mail.Verdict
	if tx.sticky.action != mail.Discard {
		v, _ = s.askRcpt(ctx, tx, rcpt)
	}
	s.deps.Stats.Recipient(s.set.Name, v.Action.String())
	switch {
	case v.Action == mail.TempFail && refusalOf(v).Code != 421 && !v.Close:
		s.putOff(tx, rcpt, refusalOf(v), v.Reason)
		return
	case v.Action >= mail.TempFail:
		s.refuseStage(mail.StageRcpt, rcpt.String(), refusalOf(v), v.Reason)
		if v.Close && !s.closing {
			s.hangUp(closing("7.0", "closing connection"))
		}
		return
	}
	tx.sticky = tx.sticky.with(v)
	tx.Envelope.Recipients = append(tx.Envelope.Recipients, rcpt)
	s.reply(rcptOK())
}

// putOff answers a recipient that is to come again. That is no fault of the
// client, who has as many of them as it may have recipients.
func (s *session) putOff(tx *transaction, rcpt mail.Path, r mail.Reply, reason string) {
	tx.later++
	if tx.later > s.set.Limits.MaxRecipients {
		s.refuseStage(mail.StageRcpt, rcpt.String(), r, reason)
		return
	}
	s.logReject(mail.StageRcpt, rcpt.String(), r, reason)
	s.reply(r)
}

// parseRcpt reads the argument of RCPT. The second result is the refusal.
func parseRcpt(arg string, allowUTF8 bool) (mail.Path, mail.Reply) {
	text, params, ok := splitPath(arg, "TO:")
	if !ok {
		return mail.Path{}, badSyntax("want RCPT TO:<address>")
	}
	ps, refusal := parseParams(params)
	if !refusal.IsZero() {
		return mail.Path{}, refusal
	}
	args, refusal := rcptParams(ps, allowUTF8)
	if !refusal.IsZero() {
		return mail.Path{}, refusal
	}
	addr, refusal := parseAddress(text, allowUTF8, "1.3")
	switch {
	case !refusal.IsZero():
		return mail.Path{}, refusal
	case addr.IsNull():
		return mail.Path{}, mail.Reply{Code: 501, Detail: "1.3", Text: "bad address syntax"}
	case addr.HasHops():
		return mail.Path{}, mail.Reply{Code: 550, Detail: "7.1", Text: "addresses with % or ! are not accepted"}
	}
	return mail.Path{Address: addr, Args: args}, mail.Reply{}
}

// refuseStage refuses a sender or a recipient, and logs it. about is the address,
// or what came instead of one.
func (s *session) refuseStage(stage mail.Stage, about string, r mail.Reply, reason string) {
	s.logReject(stage, about, r, reason)
	s.refuse(r)
}
