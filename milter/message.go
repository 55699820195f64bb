package milter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

// message is one transaction: what the MTA has told us of it.
type message struct {
	tx      *mail.Transaction
	handler mail.Handler
	draft   Draft
	limit   int64
	err     error                   // of the draft
	sticky  mail.Verdict            // of stages of this transaction that could not answer
	asked   map[mail.Address]string // recipients as the MTA wrote them
}

func (s *session) mail(ctx context.Context, data []byte) error {
	e, err := wire.DecodeEnvelope(data)
	if err != nil {
		return err
	}
	if s.smtp == nil {
		return fmt.Errorf("%w: MAIL before CONNECT", wire.ErrMalformed)
	}
	s.drop() // an MTA need not abort what it gave up
	id := mail.NewID(time.Now())
	s.smtp.User = s.value("auth_authen")
	s.msg = &message{
		tx:      &mail.Transaction{ID: id, Session: s.smtp, Start: time.Now()},
		handler: s.handler, draft: s.srv.deps.NewDraft(id), limit: s.srv.cfg.MaxSize, sticky: s.sticky,
		asked: map[mail.Address]string{},
	}
	v := refused(553, "1.7", "sender address not understood")
	if sender, err := s.path(e); err == nil {
		s.msg.tx.Envelope.Sender = sender
		v = s.handler.Mail(ctx, s.stage(mail.StageMail))
	}
	s.logEnvelope(mail.StageMail, e.Address, v)
	err = s.answer(mail.StageMail, noReply[mail.StageMail], v)
	if v.Action >= mail.TempFail && s.replies(mail.StageMail) {
		s.abort()
	}
	return err
}

// refused is a verdict of our own, before the handler is asked.
func refused(code int, detail, text string) mail.Verdict {
	v := mail.Verdict{Action: mail.Reject, Reason: text, Reply: mail.Reply{Code: code, Detail: detail, Text: text}}
	if code < 500 {
		v.Action = mail.TempFail
	}
	return v
}

func (s *session) rcpt(ctx context.Context, data []byte) error {
	e, err := wire.DecodeEnvelope(data)
	if err != nil {
		return err
	}
	v := refused(553, "1.3", "recipient address not understood")
	rcpt, err := s.path(e)
	switch {
	case len(s.msg.tx.Envelope.Recipients) == s.srv.cfg.MaxRecipients:
		v = refused(452, "5.3", "too many recipients")
	case err == nil:
		v = s.handler.Rcpt(ctx, s.stage(mail.StageRcpt), rcpt)
		if v.Action < mail.TempFail || !s.replies(mail.StageRcpt) {
			s.msg.tx.Envelope.Recipients = append(s.msg.tx.Envelope.Recipients, rcpt)
			s.msg.asked[rcpt.Address] = e.Address
		}
	}
	s.logEnvelope(mail.StageRcpt, e.Address, v)
	return s.answer(mail.StageRcpt, noReply[mail.StageRcpt], v)
}

// path reads an address as the MTA gives it. A name without a domain is one of
// the MTA's own users.
func (s *session) path(e wire.Envelope) (mail.Path, error) {
	text := strings.TrimSuffix(strings.TrimPrefix(e.Address, "<"), ">")
	if text != "" && !strings.Contains(text, "@") {
		if host := s.value("j"); host != "" {
			text += "@" + host
		}
	}
	a, err := mail.ParseAddress(text, true)
	return mail.Path{Address: a, Args: e.Args}, err
}

// stage sets where the transaction is.
func (s *session) stage(at mail.Stage) *mail.Transaction {
	s.msg.tx.Stage = at
	return s.msg.tx
}

// abort ends the transaction and forgets its macros.
func (s *session) abort() {
	s.drop()
	s.macros = nil
}

// drop gives up the transaction, if there is one.
func (s *session) drop() {
	if s.msg == nil {
		return
	}
	s.msg.handler.Abort(s.msg.tx)
	s.done()
}

// done forgets a transaction that is over.
func (s *session) done() {
	s.msg.draft.Discard()
	s.msg = nil
}

// field writes a header field as it stood in the message. A folded value comes
// with LF; without HDR_LEADSPC the MTA ate one blank behind the colon.
func (m *message) field(data []byte, exact bool) error {
	h, err := wire.DecodeHeader(data)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.Grow(len(data) + 4)
	b.WriteString(h.Name)
	b.WriteByte(':')
	if !exact {
		b.WriteByte(' ')
	}
	b.WriteString(strings.ReplaceAll(strings.ReplaceAll(h.Value, "\r\n", "\n"), "\n", "\r\n"))
	b.WriteString("\r\n")
	m.write(b.Bytes())
	return nil
}

var errTooLarge = errors.New("message too large")

// write keeps content. An error is told at the end of the message: there is no
// answer before.
func (m *message) write(p []byte) {
	if m.err != nil {
		return
	}
	if m.draft.Size()+int64(len(p)) > m.limit {
		m.err = errTooLarge
		return
	}
	_, m.err = m.draft.Write(p)
}

// endOfMessage judges what was kept, answers, and is ready for the next.
func (s *session) endOfMessage(ctx context.Context) error {
	defer func() {
		s.done()
		s.macros = nil
	}()
	v, err := s.judge(ctx)
	if err != nil {
		return err
	}
	p := s.plan(v)
	if len(p.held) > 0 {
		// The MTA is told to drop what we hold only when it is on disk.
		failure := errors.New("panic")
		if err := s.patiently(ctx, func(ctx context.Context) { failure = s.srv.deps.Hold(ctx, s.msg.tx, p.held) }); err != nil {
			return err
		}
		if failure != nil {
			v = s.failed(fmt.Errorf("hold the message: %w", failure))
			p = plan{verdict: v}
		}
	}
	if p.verdict.Action == mail.TempFail {
		v = p.verdict // the log says what the MTA was told
	}
	s.log(v, len(p.held))
	told := p.verdict
	if len(p.held) > 0 && told.Action == mail.Discard {
		told.Action = mail.Quarantine // the MTA drops what we hold
	}
	told.Reason = v.Reason
	s.answered(mail.StageMessage, "", told)
	return s.finish(p.verdict)
}

func (s *session) judge(ctx context.Context) (mail.Verdict, error) {
	switch {
	case s.blind(s.msg.handler):
		return s.msg.sticky, nil
	case errors.Is(s.msg.err, errTooLarge), s.size() > s.srv.cfg.MaxSize:
		return refused(552, "3.4", "message larger than max_size"), nil
	case s.msg.err != nil:
		return s.failed(fmt.Errorf("keep the message: %w", s.msg.err)), nil
	}
	m, err := mail.ReadMessage(s.msg.draft, s.msg.draft.Size())
	if errors.Is(err, mail.ErrHeader) {
		return refused(554, "6.0", "message "+err.Error()), nil
	}
	if err != nil {
		return s.failed(fmt.Errorf("read the message: %w", err)), nil
	}
	s.msg.tx.Message = m
	ctx, cancel := context.WithTimeout(ctx, s.srv.cfg.JudgeTimeout)
	defer cancel()
	tx := s.stage(mail.StageMessage)
	v := mail.Verdict{Action: mail.TempFail, Reason: "panic"}
	err = s.patiently(ctx, func(ctx context.Context) { v = s.msg.handler.Message(ctx, tx) })
	return strongest(v, s.msg.sticky), err
}

// size is that of the message: where its body stayed with the MTA, what the
// client said with MAIL (RFC 1870), if it did.
func (s *session) size() int64 {
	seen := s.msg.draft.Size()
	if s.agreed.Protocol&milter.OptNoBody == 0 {
		return seen
	}
	for _, arg := range s.msg.tx.Envelope.Sender.Args {
		if key, value, _ := strings.Cut(arg, "="); strings.EqualFold(key, "SIZE") {
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				return max(n, seen)
			}
		}
	}
	return seen
}

// patiently works and tells the MTA meanwhile that we still think. When the MTA
// is gone, the work is called off; it is waited for in any case.
func (s *session) patiently(ctx context.Context, work func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() { // waited for below
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				s.srv.deps.Log.Error("handler panicked", "id", s.msg.tx.ID, "panic", p, "stack", stack())
			}
		}()
		work(ctx)
	}()
	tick := time.NewTicker(s.srv.cfg.Progress)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-tick.C:
			// SMFIR_PROGRESS: sendmail's timeout for one answer is 10 s.
			s.out = wire.Append(s.out[:0], codeProgress)
			if err := s.flush(); err != nil {
				cancel()
				<-done
				return fmt.Errorf("the MTA is gone: %w", err)
			}
		}
	}
}

func (s *session) failed(err error) mail.Verdict {
	s.srv.deps.Log.Error("milter message not judged", "id", s.msg.tx.ID, "err", err)
	return mail.Verdict{Action: mail.TempFail, Reason: "local error"}
}

// strongest joins the verdict of the content with what an earlier stage said
// that could not be answered then: for each recipient, where they differ.
func strongest(v, earlier mail.Verdict) mail.Verdict {
	if earlier.Action > v.Action {
		earlier.Edits = v.Edits
		return earlier
	}
	v.Recipients = slices.Clone(v.Recipients)
	for i, r := range v.Recipients {
		v.Recipients[i] = strongest(r, earlier)
	}
	return v
}
