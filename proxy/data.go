package proxy

import (
	"context"
	"errors"
	"os"

	"gatepost/internal/mail"
)

// data receives a message behind DATA.
func (s *session) data(ctx context.Context, arg string) {
	switch {
	case arg != "":
		s.refuseData(badSyntax("DATA takes no argument"))
		return
	case s.tx == nil:
		s.refuseData(noTransaction())
		return
	case s.tx.in != nil:
		s.refuseData(badSequence("the message has begun with BDAT"))
		return
	case len(s.tx.Envelope.Recipients) == 0:
		s.refuseData(noRecipients())
		return
	}
	if r := s.judgeData(ctx); !r.IsZero() {
		s.refuseData(r)
		return
	}
	s.tx.in = s.newIntake(true)
	s.reply(mail.Reply{Code: 354, Text: "end the message with <CRLF>.<CRLF>"})
	if err := s.receive(s.tx.in); err != nil {
		s.cutOff(err)
		return
	}
	s.finish(ctx)
}

// refuseData answers a DATA that is not obeyed. If the message is on its way
// already, the connection ends: its lines are no commands.
func (s *session) refuseData(r mail.Reply) {
	if len(s.buffered()) > 0 {
		s.log.Info("closed", "client", s.client, "cause", "message behind a refused DATA")
		s.hangUp(r)
		return
	}
	s.refused = true
	s.refuse(r)
}

// judgeData asks the handler before the message comes. It returns the refusal,
// which ends the transaction.
func (s *session) judgeData(ctx context.Context) mail.Reply {
	if s.tx.sticky.action == mail.Discard {
		return mail.Reply{}
	}
	v, _ := s.ask(ctx, &s.tx.Transaction, mail.StageData, s.handler.Data)
	if v.Action < mail.TempFail {
		s.tx.sticky = s.tx.sticky.with(v)
		return mail.Reply{}
	}
	r := refusalOf(v)
	s.logReject(mail.StageData, "", r, v.Reason)
	s.abort()
	return r
}

// receive reads up to CRLF.CRLF.
func (s *session) receive(in *intake) error {
	s.enlarge()
	defer s.shrink()
	for {
		text, n, done := in.scan(s.buffered())
		in.write(text)
		s.advance(n)
		if done {
			return nil
		}
		if err := in.pace.fill(s.wire); err != nil {
			return err
		}
	}
}

// cutOff ends a session that broke inside a message. Whatever still comes is
// text of it.
func (s *session) cutOff(err error) {
	cause, r := "connection lost inside a message", closing("4.2", "connection lost")
	switch {
	case errors.Is(err, errStopping):
		cause, r = "the server stopped inside a message", stops()
	case errors.Is(err, os.ErrDeadlineExceeded):
		cause, r = "too slow inside a message", closing("4.2", "timeout")
	}
	s.log.Info("closed", "client", s.client, "cause", cause, "id", s.txID())
	s.abort()
	s.hangUp(r)
}
