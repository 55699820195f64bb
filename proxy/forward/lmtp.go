package forward

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/emersion/go-smtp"

	"gatepost/internal/mail"
)

// lmtpSender delivers over LMTP (RFC 2033) with go-smtp's client, inside a
// guard. Each recipient has its own answer to the message.
type lmtpSender struct {
	*link
	guard   *guard
	client  *smtp.Client
	host    *host
	open    bool // a transaction was begun and not ended
	spoiled bool // the connection is of no more use
}

// newLMTPSender hands a connection that was greeted over to the client, which
// wants to be greeted itself and says hello once more.
func newLMTPSender(l *link, h *host) (*lmtpSender, error) {
	g := &guard{Conn: l.conn, link: l, within: h.command, reply: []byte("220 ready\r\n")}
	s := &lmtpSender{link: l, guard: g, client: smtp.NewClientLMTP(g), host: h}
	return s, s.client.Hello(h.hostname)
}

func (s *lmtpSender) clean() bool { return !s.spoiled }

func (s *lmtpSender) send(t *transaction) *failure {
	if failed := t.refuse(s.ext); failed != nil || t.done() {
		return failed
	}
	if s.open {
		if err := s.client.Reset(); err != nil {
			return lmtpFailure("sending RSET", err)
		}
		s.open = false
	}
	if failed := s.envelope(t); failed != nil || len(t.accepted) == 0 {
		return failed
	}
	w, err := s.client.Data()
	if err != nil {
		if r, ok := refusal(err); ok {
			t.settleAccepted(r)
			return nil
		}
		return lmtpFailure("sending DATA", err)
	}
	return s.message(t, w)
}

func (s *lmtpSender) envelope(t *transaction) *failure {
	err := s.client.Mail(t.address(t.sender, s.ext).String(), t.mailOptions(s.ext))
	if r, ok := refusal(err); ok {
		t.refuseMail(r)
		return nil
	}
	if err != nil {
		return lmtpFailure("sending MAIL", err)
	}
	s.open, t.begun = true, true
	for i, rcpt := range t.recipients {
		if t.settled[i] {
			continue
		}
		err := s.client.Rcpt(t.address(rcpt, s.ext).String(), t.rcptOptions(i))
		if r, ok := refusal(err); ok {
			t.settle(i, tooMany(r))
		} else if err != nil {
			return lmtpFailure("sending RCPT", err)
		} else if t.asks {
			t.settle(i, mail.Reply{Code: 250, Detail: "1.5", Text: "recipient OK"}) // the client keeps no more of it
		} else {
			t.accepted = append(t.accepted, i)
		}
	}
	return nil
}

// message sends the content. DataCommand.Close sends the final dot whatever
// happened before, so it is called only when all did well.
func (s *lmtpSender) message(t *transaction, data *smtp.DataCommand) *failure {
	if s.in.Buffered() > 0 {
		return lmtpFailure("sending the message", protocolError("a reply to nothing"))
	}
	s.guard.body = true
	w := dotWriter{w: data, buf: t.buf}
	n, err := t.content.WriteTo(&w)
	if err == nil && n != t.content.Size() {
		err = fmt.Errorf("%d bytes of %d", n, t.content.Size())
	}
	switch {
	case w.err != nil:
		return lmtpFailure("sending the message", w.err)
	case err != nil:
		return unreadable(err)
	case w.end() != nil:
		return lmtpFailure("sending the message", w.err)
	}
	t.sent = true
	s.guard.owed, s.guard.within = len(t.accepted), s.host.data
	replies, err := data.CloseWithLMTPResponse()
	s.guard.body, s.guard.within = false, s.host.command
	refused := refusals(err)
	open := t.accepted[:0]
	for _, i := range t.accepted {
		rcpt := t.address(t.recipients[i], s.ext).String()
		if r, ok := replies[rcpt]; ok {
			t.settle(i, parsed(250, r.StatusText))
		} else if e := refused[rcpt]; e != nil {
			t.settle(i, replyOf(e))
			s.spoiled = s.spoiled || e.Code == 421
		} else {
			open = append(open, i)
		}
	}
	t.accepted, s.open = open, false
	if len(open) > 0 {
		return lmtpFailure("waiting for the answer to the message", err)
	}
	return nil
}

func (s *lmtpSender) quit() {
	s.guard.within, s.patience = quitTimeout, quitTimeout
	_ = s.client.Quit()
	_ = s.conn.Close()
}

// refusals finds the answers for single recipients in an error of the client.
func refusals(err error) smtp.LMTPDataError {
	var refused smtp.LMTPDataError
	errors.As(err, &refused)
	return refused
}

// refusal is a reply that says no, and does not hang up.
func refusal(err error) (mail.Reply, bool) {
	var e *smtp.SMTPError
	if !errors.As(err, &e) || e.Code == 421 || e.Code/100 != 4 && e.Code/100 != 5 {
		return mail.Reply{}, false
	}
	return replyOf(e), true
}

func replyOf(e *smtp.SMTPError) mail.Reply {
	text := e.Message
	if e.EnhancedCode != (smtp.EnhancedCode{}) {
		text = fmt.Sprintf("%d.%d.%d %s", e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2], text)
	}
	return parsed(e.Code, text)
}

func parsed(code int, text string) mail.Reply {
	r, ok := mail.ParseReply(fmt.Sprintf("%d %s", code, text))
	if !ok {
		return mail.Reply{Code: 451, Detail: "5.0", Text: text}
	}
	return r
}

func lmtpFailure(doing string, err error) *failure {
	var e *smtp.SMTPError
	if errors.As(err, &e) {
		if e.Code == 421 {
			return hungUp(replyOf(e))
		}
		err = protocolError(e.Error())
	}
	return broken(doing, err)
}

// mailOptions are the arguments of MAIL in go-smtp's words. The client drops
// what the next hop does not offer.
func (t *transaction) mailOptions(e extensions) *smtp.MailOptions {
	o := &smtp.MailOptions{Size: t.content.Size(), UTF8: t.utf8 && e.utf8, RequireTLS: t.requireTLS && e.requireTLS}
	ret, _ := t.sender.Arg("RET")
	switch r := smtp.DSNReturn(strings.ToUpper(ret)); r {
	case smtp.DSNReturnFull, smtp.DSNReturnHeaders:
		o.Return = r
	}
	if id, ok := argument(t.sender, "ENVID", false); ok && e.dsn {
		o.EnvelopeID = xtext(id)
	}
	return o
}

// rcptOptions are the arguments of RCPT, likewise.
func (t *transaction) rcptOptions(i int) *smtp.RcptOptions {
	o := &smtp.RcptOptions{}
	if notify, ok := argument(t.recipients[i], "NOTIFY", false); ok {
		for n := range strings.SplitSeq(strings.ToUpper(notify), ",") {
			o.Notify = append(o.Notify, smtp.DSNNotify(n))
		}
	}
	if orcpt, ok := argument(t.recipients[i], "ORCPT", false); ok {
		kind, value, _ := strings.Cut(orcpt, ";")
		if strings.EqualFold(kind, string(smtp.DSNAddressTypeRFC822)) {
			o.OriginalRecipientType, o.OriginalRecipient = smtp.DSNAddressTypeRFC822, xtext(value)
		}
	}
	return o
}

// xtext decodes +2B to "+" (RFC 3461 4), "" where that makes no printable text.
func xtext(s string) string {
	decoded, err := url.PathUnescape(strings.NewReplacer("%", "%25", "+", "%").Replace(s))
	if err != nil || strings.ContainsFunc(decoded, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return decoded
}
