package child

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"
	"gatepost/milter"
	"gatepost/milter/wire"

	gomilter "github.com/emersion/go-milter"
)

// checker is the milter in one session. Whatever the stage, it first tells the
// milter all that came before and that it doesn't know yet.
type checker struct {
	f    *Filter
	conn *milter.Client // nil: none
	used bool           // conn had another session before
	// keepable: libmilter would take QUIT_NC now. It does so after a message
	// that it let pass or that was aborted; anywhere else it ignores it, and
	// then the next CONNECT, too (engine.c, next_states; seen with opendkim).
	keepable bool

	helo    greeting
	retired bool  // it accepted the client
	session *said // what it said of the client, but "continue"
	msg     message
}

// greeting is a HELO as the milter was told.
type greeting struct {
	told, tls bool
	name      string
}

// message is the milter's part in one message.
type message struct {
	began   bool // MAIL was sent
	ended   bool // the milter has nothing more to do with it
	retired bool // it accepted it
	data    bool // DATA was sent
	last    *said
	noted   *said // in a finding of this message
	offered map[mail.Address]bool
	taken   int   // recipients that it did not refuse
	refusal *said // of the first that it did, when nobody waited at RCPT
	spent   time.Duration
}

// said is an answer that is more than "continue".
type said struct {
	stage  mail.Stage
	rcpt   *mail.Path // it is about this recipient only
	answer milter.Answer
	noted  bool // in a finding of the session
}

var errBudget = errors.New("no time left for this message")

// Wants reports whether the milter has to hear of this stage.
func (c *checker) Wants(tx *mail.Transaction) bool {
	if c.retired || c.msg.retired && tx.Stage >= mail.StageMail {
		return false
	}
	return c.f.cfg.asks(tx)
}

// ChangesNothing reports whether the milter agreed on no changes but a
// quarantine. What it hasn't agreed on it can't ask for.
func (c *checker) ChangesNothing() bool {
	return c.conn != nil && c.conn.Agreed().Actions&^(gomilter.OptQuarantine|gomilter.OptSetSymList) == 0
}

// Check tells the milter what is new.
func (c *checker) Check(ctx context.Context, tx *mail.Transaction) (r filters.Report, err error) {
	err = c.spend(ctx, func(ctx context.Context) error {
		changes, s, err := c.tell(ctx, tx)
		if err == nil {
			c.count(tx.Stage, changes, s)
			r = c.report(tx.Stage, changes, s)
		}
		return err
	})
	return r, err
}

// count notes what the milter said; a refusal that lasts counts each time.
func (c *checker) count(stage mail.Stage, changes milter.Changes, s *said) {
	if c.f.cfg.Stats == nil {
		return
	}
	reply := mail.Continue
	switch {
	case s != nil:
		reply = action(s.answer)
	case changes.Quarantine:
		reply = mail.Quarantine
	}
	c.f.cfg.Stats.MilterReply(c.f.cfg.Name, stage.String(), reply.String())
}

// spend talks to the milter on the time of the message.
func (c *checker) spend(ctx context.Context, talk func(context.Context) error) error {
	left := c.f.cfg.Timeout - c.msg.spent
	if left <= 0 {
		return errBudget
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	start := time.Now()
	err := talk(ctx)
	c.msg.spent += time.Since(start)
	if err != nil {
		c.hangUp()
		return fmt.Errorf("milter: %w", err)
	}
	return nil
}

// tell returns what the milter made of the message, and what it said.
func (c *checker) tell(ctx context.Context, tx *mail.Transaction) (milter.Changes, *said, error) {
	var none milter.Changes
	if s := c.standing(tx); s != nil {
		return none, s, nil
	}
	s, err := c.greet(ctx, tx)
	if err != nil || s != nil || tx.Stage < mail.StageMail {
		return none, s, err
	}
	s, err = c.envelope(ctx, tx)
	if err != nil || s != nil || tx.Stage < mail.StageMessage {
		return none, s, err
	}
	if c.msg.taken == 0 { // it refused every one that it was offered; Abort follows
		return none, c.msg.refusal, nil
	}
	return c.content(ctx, tx)
}

// standing is a refusal that was given before and lasts; that of a HELO until
// the next one.
func (c *checker) standing(tx *mail.Transaction) *said {
	if tx.Stage == mail.StageHelo && c.session != nil && c.session.stage == mail.StageHelo {
		c.session = nil
	}
	if c.session != nil || tx.Stage < mail.StageMail {
		return c.session
	}
	return c.msg.last
}

// verdictOf keeps an answer to a question that is not about one recipient, and
// returns it when it is more than "continue".
func (c *checker) verdictOf(stage mail.Stage, a milter.Answer, err error) (*said, error) {
	if err != nil {
		return nil, err
	}
	switch a.Code {
	case gomilter.ActContinue, gomilter.ActSkip:
		return nil, nil
	case answerConnFail:
		return nil, errors.New("the milter says that its connection failed")
	}
	s := &said{stage: stage, answer: a}
	accepted := a.Code == gomilter.ActAccept
	if stage < mail.StageMail {
		c.retired, c.session = accepted, s
		if accepted {
			c.session = nil
		}
		return s, nil
	}
	c.msg.retired, c.msg.last = accepted, s
	return s, nil
}

// greet connects, and tells of client and HELO what the milter doesn't know.
func (c *checker) greet(ctx context.Context, tx *mail.Transaction) (*said, error) {
	if c.conn == nil {
		if s, err := c.connect(ctx, tx); err != nil || s != nil {
			return s, err
		}
	}
	now := greeting{told: true, tls: tx.Session.TLS != nil, name: tx.Session.Helo}
	if tx.Stage < mail.StageHelo || now.name == "" || c.helo == now && tx.Stage != mail.StageHelo {
		return nil, nil
	}
	c.helo, c.keepable = now, false
	c.conn.Macros(c.macros(gomilter.StageHelo, gomilter.CodeHelo, tx, nil, true))
	a, err := c.conn.Helo(ctx, now.name)
	return c.verdictOf(mail.StageHelo, a, err)
}

// connect opens a connection and tells of the client. That one which was kept
// is of no use shows at the first question; then a new one is tried.
func (c *checker) connect(ctx context.Context, tx *mail.Transaction) (s *said, err error) {
	for {
		if c.conn, c.used, err = c.f.connect(ctx); err != nil {
			return nil, err
		}
		c.conn.Macros(c.macros(gomilter.StageConnect, gomilter.CodeConn, tx, nil, true))
		patience := c.f.cfg.Timeout
		if c.used {
			patience = min(patience, usedPatience)
		}
		first, cancel := context.WithTimeout(ctx, patience)
		a, err := c.conn.Connect(first, connection(tx.Session))
		cancel()
		c.keepable = false
		if err == nil || !c.used || ctx.Err() != nil {
			return c.verdictOf(mail.StageConnect, a, err)
		}
		c.f.usedUp()
		_ = c.conn.Close()
	}
}

// envelope tells of sender, recipients and DATA.
func (c *checker) envelope(ctx context.Context, tx *mail.Transaction) (*said, error) {
	if !c.msg.began {
		c.msg.began, c.msg.offered, c.keepable = true, make(map[mail.Address]bool), false
		c.conn.Macros(c.macros(gomilter.StageMailFrom, gomilter.CodeMail, tx, nil, true))
		sender := tx.Envelope.Sender
		a, err := c.conn.Mail(ctx, wire.Envelope{Address: sender.Path(), Args: sender.Args})
		if s, err := c.verdictOf(mail.StageMail, a, err); err != nil || s != nil {
			return s, err
		}
	}
	if tx.Stage >= mail.StageRcpt {
		if s, err := c.recipients(ctx, tx); err != nil || s != nil {
			return s, err
		}
	}
	if tx.Stage < mail.StageData || c.msg.data || c.msg.taken == 0 {
		return nil, nil
	}
	c.msg.data = true
	c.conn.Macros(c.macros(gomilter.StageData, gomilter.CodeData, tx, nil, true))
	tell := c.conn.Data
	if tx.Stage > mail.StageData {
		tell = c.conn.DataAhead
	}
	a, err := tell(ctx)
	return c.verdictOf(mail.StageData, a, err)
}

// recipients tells of those that the milter is to hear of and doesn't know.
// The one in question at RCPT is told again when the client repeats it.
func (c *checker) recipients(ctx context.Context, tx *mail.Transaction) (*said, error) {
	for i, r := range tx.Envelope.Recipients {
		live := tx.Stage == mail.StageRcpt && i == len(tx.Envelope.Recipients)-1
		if !c.f.cfg.asksRecipient(r) || c.msg.offered[r.Address] && !live {
			continue
		}
		c.msg.offered[r.Address] = true
		s, err := c.recipient(ctx, tx, r, live)
		if err != nil {
			return nil, err
		}
		switch {
		case s == nil:
			c.msg.taken++
		case s.rcpt == nil || live:
			return s, nil
		case c.msg.refusal == nil:
			c.msg.refusal = s
		}
	}
	return nil, nil
}

// recipient tells of one. What refuses it says nothing of the others.
func (c *checker) recipient(ctx context.Context, tx *mail.Transaction, r mail.Path, live bool) (*said, error) {
	c.conn.Macros(c.macros(gomilter.StageRcptTo, gomilter.CodeRcpt, tx, &r, live))
	a, err := c.conn.Rcpt(ctx, wire.Envelope{Address: r.Path(), Args: r.Args})
	if err == nil && refuses(a) && a.Code != gomilter.ActDiscard {
		return &said{stage: mail.StageRcpt, rcpt: &r, answer: a}, nil
	}
	return c.verdictOf(mail.StageRcpt, a, err)
}

// content sends the message and takes the milter's changes.
func (c *checker) content(ctx context.Context, tx *mail.Transaction) (milter.Changes, *said, error) {
	defer func() {
		if c.conn != nil && c.conn.OutOfStep() {
			c.hangUp()
		}
	}()
	seen := shown(tx)
	s, err := c.sendContent(ctx, tx, seen)
	if err != nil || s != nil {
		return milter.Changes{}, s, err
	}
	c.conn.Macros(c.macros(gomilter.StageEOM, gomilter.CodeEOB, tx, nil, true))
	edits, a, err := c.conn.End(ctx)
	c.msg.ended, c.keepable = true, a.Code == gomilter.ActContinue
	s, err = c.verdictOf(mail.StageMessage, a, err)
	if err != nil || s != nil && refuses(a) {
		return milter.Changes{}, s, err
	}
	changes, err := c.changes(tx, seen, edits)
	return changes, s, err
}

func (c *checker) sendContent(ctx context.Context, tx *mail.Transaction, seen view) (*said, error) {
	for i, f := range tx.Message.Header {
		if i == seen.own {
			continue
		}
		a, err := c.conn.Field(ctx, f)
		if s, err := c.verdictOf(mail.StageMessage, a, err); err != nil || s != nil {
			return s, err
		}
		if a.Code == gomilter.ActSkip {
			break
		}
	}
	c.conn.Macros(c.macros(gomilter.StageEOH, gomilter.CodeEOH, tx, nil, true))
	a, err := c.conn.EndOfHeader(ctx)
	if s, err := c.verdictOf(mail.StageMessage, a, err); err != nil || s != nil {
		return s, err
	}
	a, err = c.conn.Body(ctx, tx.Message.Body())
	return c.verdictOf(mail.StageMessage, a, err)
}

// Abort ends the message for the milter.
func (c *checker) Abort() {
	open := c.conn != nil && c.msg.began && !c.msg.ended
	spoke := c.msg.last != nil
	c.msg = message{}
	if !open {
		return
	}
	c.keepable = !spoke
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	if c.conn.Abort(ctx) != nil {
		c.hangUp()
	}
}

// hangUp drops the connection; whoever comes next begins anew.
func (c *checker) hangUp() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.conn, c.helo = nil, greeting{}
}

// Close ends the session.
func (c *checker) Close() {
	c.Abort()
	if c.conn != nil {
		c.f.release(c.conn, c.keepable)
		c.conn = nil
	}
}
