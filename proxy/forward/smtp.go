package forward

import (
	"fmt"
	"time"

	"gatepost/internal/mail"
)

// smtpSender is our own sending loop. It sends as much at once as the next hop
// allows (PIPELINING, RFC 2920) and a message in large blocks.
type smtpSender struct {
	*link
	host    *host
	open    bool // a transaction was begun and not ended
	spoiled bool // the connection is of no more use
}

func (s *smtpSender) clean() bool { return !s.spoiled }

// verb is a command of a transaction.
type verb string

const (
	verbReset verb = "RSET"
	verbMail  verb = "MAIL"
	verbRcpt  verb = "RCPT"
	verbData  verb = "DATA"
)

// step is a command that is sent, and what becomes of its reply.
type step struct {
	verb verb
	rcpt int // of verbRcpt
	end  int // of the command in the text of all
}

func (s *smtpSender) send(t *transaction) *failure {
	if failed := t.refuse(s.ext); failed != nil || t.done() {
		return failed
	}
	if failed := s.envelope(t); failed != nil {
		return failed
	}
	switch {
	case t.asks:
	case t.goAhead && len(t.accepted) > 0:
		return s.message(t)
	case t.goAhead && t.mailed:
		return s.nothing()
	case t.goAhead:
		return broken("sending DATA", protocolError("a message is expected without a sender"))
	}
	s.open = t.mailed
	return nil
}

// script lists the commands of a transaction and writes their text to buf.
func (s *smtpSender) script(t *transaction, buf []byte) ([]step, []byte) {
	steps := make([]step, 0, len(t.recipients)+3)
	if s.open {
		buf = append(buf, "RSET\r\n"...)
		steps = append(steps, step{verb: verbReset, end: len(buf)})
	}
	buf = t.mailCommand(buf, s.ext)
	steps = append(steps, step{verb: verbMail, end: len(buf)})
	for i, settled := range t.settled {
		if settled {
			continue
		}
		buf = t.rcptCommand(buf, i, s.ext)
		steps = append(steps, step{verb: verbRcpt, rcpt: i, end: len(buf)})
	}
	if t.asks {
		return steps, buf
	}
	buf = append(buf, "DATA\r\n"...)
	return append(steps, step{verb: verbData, end: len(buf)}), buf
}

// maxPipeline is how many bytes of commands are sent before replies are read.
// They fit any socket's buffer: two peers that both write and neither reads
// wait for each other for ever (RFC 2920 3.1).
const maxPipeline = 8 << 10

// envelope sends the commands and reads their replies.
func (s *smtpSender) envelope(t *transaction) *failure {
	steps, text := s.script(t, t.buf)
	sent := 0
	for len(steps) > 0 && !t.pointless(steps[0].verb) {
		n := 1
		for s.ext.pipelining && n < len(steps) && steps[n].end-sent <= maxPipeline {
			n++
		}
		if err := s.say(text[sent:steps[n-1].end]); err != nil {
			return s.lost(string(steps[0].verb), err)
		}
		for _, step := range steps[:n] {
			r, err := s.reply(s.host.command)
			if err == nil && r.Code == 421 {
				return hungUp(r)
			}
			if err == nil {
				err = t.answer(step, r)
			}
			if err != nil {
				return broken("waiting for the answer to "+string(step.verb), err)
			}
		}
		sent, steps = steps[n-1].end, steps[n:]
	}
	return nil
}

// pointless reports whether a command can only be refused after what was said.
func (t *transaction) pointless(v verb) bool {
	switch v {
	case verbRcpt:
		return !t.mailed
	case verbData:
		return len(t.accepted) == 0
	}
	return false
}

// answer takes the reply to a step.
func (t *transaction) answer(s step, r mail.Reply) error {
	class := r.Code / 100
	refused := class == 4 || class == 5
	switch {
	case s.verb == verbReset && class == 2:
	case s.verb == verbMail && class == 2:
		t.mailed, t.begun = true, true
	case s.verb == verbMail && refused:
		t.refuseMail(r)
	case s.verb == verbRcpt && class == 2 && t.mailed && t.asks:
		t.settle(s.rcpt, r)
	case s.verb == verbRcpt && class == 2 && t.mailed:
		t.accepted = append(t.accepted, s.rcpt)
	case s.verb == verbRcpt && refused && t.mailed:
		t.settle(s.rcpt, tooMany(r))
	case s.verb == verbRcpt && refused: // after MAIL was
	case s.verb == verbData && class == 3:
		t.goAhead = true
	case s.verb == verbData && refused:
		t.settleAccepted(r)
	default:
		return protocolError(fmt.Sprintf("%s was answered %d", s.verb, r.Code))
	}
	return nil
}

// refuseMail takes a refusal of MAIL: of all recipients, but where it is they who
// are asked about.
func (t *transaction) refuseMail(r mail.Reply) {
	if t.asks {
		t.unsent = bounded(r)
	}
	t.settleAll(r)
}

// message sends the content. The final dot is sent only behind all of it.
func (s *smtpSender) message(t *transaction) *failure {
	if s.in.Buffered() > 0 {
		return broken("sending the message", protocolError("a reply to nothing"))
	}
	w := dotWriter{w: linkWriter{s.link}, dots: true, buf: t.buf}
	n, err := t.content.WriteTo(&w)
	switch {
	case w.err != nil:
		return s.cutShort(t, w.err)
	case err != nil:
		return unreadable(err)
	case n != t.content.Size():
		return unreadable(fmt.Errorf("%d bytes of %d", n, t.content.Size()))
	}
	t.sent = true
	if err := w.end(); err != nil {
		return s.cutShort(t, err)
	}
	r, err := s.reply(s.host.data)
	if err == nil && r.Code == 421 {
		return hungUp(r)
	}
	if err == nil && r.Code/100 == 3 {
		err = protocolError(fmt.Sprintf("the message was answered %d", r.Code))
	}
	if err != nil {
		return broken("waiting for the answer to the message", err)
	}
	s.open = false
	t.settleAccepted(r)
	return nil
}

// lastWords is how long a next hop that stopped reading has to say why.
const lastWords = 2 * time.Second

// cutShort is for a next hop that does not take the message to its end. Some say
// why before they close, and "too large" must not be tried for days.
func (s *smtpSender) cutShort(t *transaction, err error) *failure {
	if r, replyErr := s.reply(lastWords); replyErr == nil && (r.Code/100 == 4 || r.Code/100 == 5) && r.Code != 421 {
		t.settleAccepted(r)
		s.spoiled = true
		return nil
	}
	return broken("sending the message", err)
}

// lost is a connection that did not take a command; a 421 may say why.
func (s *smtpSender) lost(command string, err error) *failure {
	if r, replyErr := s.reply(lastWords); replyErr == nil && r.Code == 421 {
		return hungUp(r)
	}
	return broken("sending "+command, err)
}

// nothing ends the data of a message that no recipient is left for (RFC 2920
// 3.1).
func (s *smtpSender) nothing() *failure {
	if err := s.say([]byte(".\r\n")); err != nil {
		return broken("ending an empty message", err)
	}
	r, err := s.reply(s.host.data)
	if err != nil {
		return broken("ending an empty message", err)
	}
	s.open, s.spoiled = false, r.Code == 421
	return nil
}

// linkWriter writes to a link, each time with a deadline.
type linkWriter struct{ *link }

func (w linkWriter) Write(p []byte) (int, error) {
	if err := w.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}
