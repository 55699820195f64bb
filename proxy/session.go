package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/users"
)

// session is one connection. All of it belongs to one goroutine, but for
// wire.stop and the closing of the socket when the grace time is over.
type session struct {
	*wire
	set     *settings
	deps    *Deps
	store   store
	repeats *repeats // of the listener
	handler mail.Handler
	log     *slog.Logger

	facts  *mail.Session
	client string // "name[address]", for the log

	places      *occupancy
	place       netip.Addr               // whose place it has there
	noteRefused func(netip.Addr, string) // logs that there was none
	vouches     bool                     // the client may say with XCLIENT that it is another one
	speaker     netip.Addr               // who has done so

	base   mail.Transaction // of the stages before MAIL; its findings go into every transaction
	atHelo int              // findings of the connect stage in base
	sticky sticky           // of the connect stage
	helo   sticky           // of the HELO stage
	tx     *transaction     // nil between transactions
	unread []unread         // 250s that the client may not have read

	source       users.Source // that knows facts.User
	failedLogins int
	asked        time.Time // when the last response of an AUTH came

	faults   int // refused commands since the last message
	idles    int // idle commands since the last message
	messages int
	refused  bool // DATA was refused just now: a message may follow all the same
	closing  bool
	linger   bool // the client may still be sending when we close
}

// sticky is what a verdict of an earlier stage means for the messages to come.
type sticky struct {
	action mail.Action // Continue, Discard or Quarantine
	reason string
}

// with returns the stronger of the two.
func (s sticky) with(v mail.Verdict) sticky {
	if (v.Action == mail.Discard || v.Action == mail.Quarantine) && v.Action > s.action {
		return sticky{v.Action, v.Reason}
	}
	return s
}

// transaction is one mail, from MAIL to its answer.
type transaction struct {
	mail.Transaction
	sticky   sticky
	overflow int     // recipients above the limit
	later    int     // recipients that were put off
	in       *intake // what BDAT brought so far; nil before
	broken   bool    // a chunk was refused: the rest is, too
}

// serve runs the dialogue until the connection ends. Every question to the
// handler derives from ctx.
func (s *session) serve(ctx context.Context) {
	defer s.end()
	if !s.introduce() {
		return
	}
	if s.set.Role == Submissions && !s.secure(ctx) {
		return
	}
	if !s.greet(ctx) {
		return
	}
	for !s.closing {
		knows := len(s.unread) > 0 && s.caughtUp()
		line, err := s.line(s.set.Limits.MaxLine, s.set.Limits.CommandTimeout)
		if err != nil {
			s.lost(err)
			return
		}
		if knows {
			s.hasRead()
		}
		c, err := parseCommand(line, s.normalises())
		s.dispatch(ctx, c, err)
	}
}

// end is the edge of the session: whatever happened, nothing of an unfinished
// transaction is left and the client can't take silence for success.
func (s *session) end() {
	if p := recover(); p != nil {
		s.logPanic(p)
		s.hangUp(closing("3.0", "local problem, please try again later"))
	}
	s.closeHandler()
	for _, u := range s.unread {
		s.repeats.lost(u.key, u.id)
	}
	s.close(s.linger)
	s.log.Debug("disconnect", "client", s.client, "took", time.Since(s.facts.Start))
}

func (s *session) closeHandler() {
	if s.handler == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			s.logPanic(p)
		}
	}()
	defer s.handler.Close()
	s.abort()
}

// abort ends the transaction, if there is one, without a message.
func (s *session) abort() {
	tx := s.tx
	if tx == nil {
		return
	}
	s.tx = nil
	if tx.in != nil {
		tx.in.drop()
	}
	s.handler.Abort(&tx.Transaction)
}

// normalises reports whether this client may send bare line feeds.
func (s *session) normalises() bool {
	return s.set.LineEndings == Normalise && s.facts.Trusted
}

// forgetHelo drops what the HELO stage established.
func (s *session) forgetHelo() {
	s.facts.Helo, s.facts.ESMTP = "", false
	s.base.Findings = slices.Clip(s.base.Findings[:s.atHelo])
	s.helo = s.sticky
}

// lost ends a session whose next command can't be read.
func (s *session) lost(err error) {
	switch {
	case errors.Is(err, errStopping):
		s.farewell(stops())
	case errors.Is(err, errLineLength):
		s.log.Info("closed", "client", s.client, "cause", "line too long")
		s.hangUp(mail.Reply{Code: 500, Detail: "5.2", Text: "line too long"})
	case errors.Is(err, errNotSMTP):
		s.foreign()
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.log.Info("closed", "client", s.client, "cause", "timeout")
		s.farewell(closing("4.2", "timeout"))
	case s.tx != nil && !errors.Is(err, io.EOF):
		s.log.Info("closed", "client", s.client, "cause", "connection lost", "error", err)
	}
}

func (s *session) foreign() {
	s.log.Info("closed", "client", s.client, "cause", "not SMTP")
	s.hangUp(mail.Reply{Code: 554, Detail: "5.1", Text: "this is a mail server"})
}

// reply queues a reply; one with code 421 ends the session.
func (s *session) reply(r mail.Reply) {
	if r.Code == 421 {
		s.hangUp(r)
		return
	}
	if err := s.send(r.Wire()); err != nil {
		s.closing = true
	}
}

// hangUp replies and ends the session, though the client may be sending.
func (s *session) hangUp(r mail.Reply) {
	s.farewell(r)
	s.linger = true
}

// farewell replies to a client that waits, and ends the session.
func (s *session) farewell(r mail.Reply) {
	s.closing = true
	_ = s.send(r.Wire()) // closing in any case
}

// refuse replies to a command that went wrong, and counts it.
func (s *session) refuse(r mail.Reply) {
	s.faults++
	if s.faults > s.set.Limits.MaxErrors {
		s.log.Info("closed", "client", s.client, "cause", "too many errors")
		r = closing("7.0", "too many errors")
	}
	s.reply(r)
}

// idle replies to a command that leads nowhere, and counts it.
func (s *session) idle(r mail.Reply) {
	s.idles++
	if s.idles > s.set.Limits.MaxJunk {
		s.log.Info("closed", "client", s.client, "cause", "too many idle commands")
		r = closing("7.0", "too many commands without a message")
	}
	s.reply(r)
}

func clientName(name string, ip netip.Addr) string {
	if name == "" {
		name = "unknown"
	}
	return name + "[" + ip.String() + "]"
}

// clientAddr is the address of the other end, an IPv4 one in its own form.
func clientAddr(c net.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
