package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"gatepost/internal/mail"
)

// dispatch obeys one command.
func (s *session) dispatch(ctx context.Context, c command, bad error) {
	switch {
	case c.verb == verbForeign:
		s.foreign()
		return
	case s.refused && c.verb == verbUnknown:
		// The client sends its message though DATA was refused. Nothing of it
		// is a command.
		s.log.Info("closed", "client", s.client, "cause", "message behind a refused DATA")
		s.hangUp(mail.Reply{Code: 554, Detail: "5.0", Text: "DATA was refused"})
		return
	}
	s.refused = false
	if bad != nil {
		s.refuseLine(c, bad)
		return
	}
	switch c.verb {
	case verbHelo, verbEhlo:
		s.hello(ctx, c)
	case verbMail:
		s.mail(ctx, c.arg)
	case verbRcpt:
		s.rcpt(ctx, c.arg)
	case verbData:
		s.data(ctx, c.arg)
	case verbBdat:
		s.bdat(ctx, c.arg)
	case verbStarttls:
		s.startTLS(ctx, c.arg)
	case verbAuth:
		s.auth(ctx, c.arg)
	case verbXclient:
		s.xclient(ctx, c.arg)
	case verbRset:
		s.rset(c.arg)
	case verbNoop:
		s.idle(okReply())
	case verbVrfy:
		// RFC 5321 3.5.3: we neither confirm nor deny.
		s.idle(mail.Reply{Code: 252, Detail: "0.0", Text: "send some mail, we will try"})
	case verbHelp:
		s.idle(mail.Reply{Code: 214, Detail: "0.0", Text: "see RFC 5321"})
	case verbExpn:
		s.refuse(mail.Reply{Code: 502, Detail: "5.1", Text: "not implemented"})
	case verbQuit:
		s.farewell(mail.Reply{Code: 221, Detail: "0.0", Text: "goodbye"})
	default:
		s.unknown(ctx, c.line)
	}
}

// unknown refuses a command, in the words of the handler where it has some.
func (s *session) unknown(ctx context.Context, line string) {
	r := mail.Reply{Code: 500, Detail: "5.1", Text: "unknown command"}
	if line == "" {
		s.refuse(r)
		return
	}
	tx, stage := &s.base, mail.StageHelo
	if s.tx != nil {
		tx, stage = &s.tx.Transaction, mail.StageMail
	}
	v, cause := s.ask(ctx, tx, stage, func(ctx context.Context, tx *mail.Transaction) mail.Verdict {
		return mail.Unknown(ctx, s.handler, tx, line)
	})
	if cause == causePolicy && (v.Action == mail.TempFail || v.Action == mail.Reject && !v.Reply.IsZero()) {
		r = refusalOf(v)
	}
	s.refuse(r)
}

// refuseLine answers a line that is no command. When it may have been DATA or
// BDAT, what follows it can't be told from commands.
func (s *session) refuseLine(c command, bad error) {
	r := badSyntax("control character in the command")
	if errors.Is(bad, errNoCRLF) {
		r = mail.Reply{Code: 500, Detail: "5.2", Text: "lines must end in CRLF"}
	}
	switch c.verb {
	case verbBdat:
		s.hangUp(r)
	case verbData:
		s.refuseData(r)
	default:
		s.refuse(r)
	}
}

// hello answers HELO and EHLO. Either one ends a transaction (RFC 5321 4.1.4).
func (s *session) hello(ctx context.Context, c command) {
	if !isHeloName(c.arg) {
		s.refuse(badSyntax("want a domain name or an address literal"))
		return
	}
	s.abort()
	if r := s.takeHelo(ctx, c.arg, c.verb == verbEhlo); !r.IsZero() {
		s.refuse(r)
		return
	}
	r := mail.Reply{Code: 250, Text: s.set.Hostname}
	if s.facts.ESMTP {
		r.Text += "\n" + strings.Join(s.extensions(), "\n")
	}
	s.idle(r)
}

// takeHelo makes a name that of the session. It reports the handler's reply,
// zero where that takes it.
func (s *session) takeHelo(ctx context.Context, name string, esmtp bool) mail.Reply {
	s.forgetHelo()
	s.facts.Helo, s.facts.ESMTP = name, esmtp
	v, _ := s.ask(ctx, &s.base, mail.StageHelo, s.handler.Helo)
	return s.heard(&v)
}

// heard takes over what the handler says of a HELO name.
func (s *session) heard(v *mail.Verdict) mail.Reply {
	if v.Action < mail.TempFail {
		s.helo = s.sticky.with(*v)
		return mail.Reply{}
	}
	r := refusalOf(*v)
	s.logReject(mail.StageHelo, "", r, v.Reason)
	s.facts.Helo = ""
	return r
}

func (s *session) extensions() []string {
	l := s.set.Limits
	ext := []string{
		"PIPELINING",
		fmt.Sprintf("SIZE %d", l.MaxSize),
		"8BITMIME",
		"SMTPUTF8",
		"ENHANCEDSTATUSCODES",
		"DSN",
		"CHUNKING", // without BINARYMIME: lines stay lines
		fmt.Sprintf("LIMITS MAILMAX=%d RCPTMAX=%d", l.MaxMessages, l.MaxRecipients),
	}
	if s.offersPRDR() {
		ext = append(ext, prdr)
	}
	if s.set.tls != nil && s.facts.TLS == nil && !s.speaker.IsValid() {
		ext = append(ext, "STARTTLS")
	}
	if s.facts.TLS != nil && s.facts.User == "" && len(s.set.Sources) > 0 {
		ext = append(ext, "AUTH "+strings.Join(s.offered(), " ")) // never in clear
	}
	if s.vouches {
		ext = append(ext, "XCLIENT "+xclientNames)
	}
	if s.facts.TLS != nil {
		ext = append(ext, "REQUIRETLS") // RFC 8689 2: never in clear
	}
	return ext
}

// isHeloName checks the argument of HELO: a domain, an address literal, or an
// address without brackets, which many devices send.
func isHeloName(s string) bool {
	if _, err := mail.ParseDomain(s); err == nil {
		return isPrintable(s)
	}
	_, err := netip.ParseAddr(s)
	return err == nil && !strings.Contains(s, "%")
}

func (s *session) rset(arg string) {
	if arg != "" {
		s.refuse(badSyntax("RSET takes no argument"))
		return
	}
	s.abort()
	s.idle(okReply())
}
