package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/users"
)

// Throttle knows who guesses passwords, in all sessions.
type Throttle interface {
	// Refuses says why a client may not try to log in as a user now, "" when it
	// may.
	Refuses(ctx context.Context, client netip.Addr, user string) (why string)
	// Tried notes how a login went.
	Tried(ctx context.Context, client netip.Addr, user string, ok bool)
}

type noThrottle struct{}

func (noThrottle) Refuses(context.Context, netip.Addr, string) string { return "" }
func (noThrottle) Tried(context.Context, netip.Addr, string, bool)    {}

// Results of a login, as the log and Stats have them.
const (
	loginOK          = "ok"
	loginFailed      = "failed"      // wrong user or password
	loginThrottled   = "throttled"   // not even looked at
	loginUnavailable = "unavailable" // nobody could tell
	loginCancelled   = "cancelled"   // by the client
	loginMalformed   = "malformed"
)

const (
	// maxAuthLine is a line of an exchange (RFC 4954 4).
	maxAuthLine = 12288
	// loginTimeout bounds what all sources take together.
	loginTimeout = time.Minute
)

// Why an exchange ended without a login.
var (
	errLoginSyntax    = errors.New("syntax error in the response")
	errLoginCancelled = errors.New("cancelled by the client")
	errLoginFailed    = errors.New("wrong user or password")
	errLoginThrottled = errors.New("not heard")
)

// auth is the command AUTH (RFC 4954).
func (s *session) auth(ctx context.Context, arg string) {
	name, initial, given := strings.Cut(arg, " ")
	name = strings.ToUpper(name)
	if r := s.refusesAuth(name); !r.IsZero() {
		s.refuseAuth(r)
		return
	}
	m := s.mechanism(name)
	s.asked = time.Now()
	who, err := s.exchange(ctx, m, initial, given)
	if s.closing {
		return // the connection broke
	}
	s.logIn(ctx, name, m.claimed(), who, err)
}

// refusesAuth says why there is nothing to exchange.
func (s *session) refusesAuth(mech string) mail.Reply {
	switch {
	case len(s.set.Sources) == 0:
		return mail.Reply{Code: 502, Detail: "5.1", Text: "not implemented"}
	case s.facts.Helo == "" || !s.facts.ESMTP:
		return badSequence("send EHLO first")
	case s.tx != nil:
		return badSequence("not inside a mail transaction") // RFC 4954 4
	case s.facts.User != "":
		return badSequence("you are logged in already")
	case s.facts.TLS == nil:
		// Whatever the mechanism: the mail itself is worth it, too.
		return mail.Reply{Code: 538, Detail: "7.11", Text: "encryption required, send STARTTLS first"}
	case s.mechanism(mech) == nil:
		return mail.Reply{Code: 504, Detail: "5.4", Text: "unknown mechanism"}
	}
	return mail.Reply{}
}

// refuseAuth answers an AUTH that is not obeyed. If responses are on their way
// already, the connection ends: a password is no command, and for nobody's log.
func (s *session) refuseAuth(r mail.Reply) {
	if len(s.buffered()) > 0 {
		s.log.Info("closed", "client", s.client, "cause", "responses behind a refused AUTH")
		s.hangUp(r)
		return
	}
	s.refuse(r)
}

// offered lists the mechanisms, the best first. SCRAM is there when all users
// can use it: clients that choose it try no other.
func (s *session) offered() []string {
	for _, src := range s.set.Sources {
		if sc, ok := src.(users.ScramSource); !ok || !sc.HasScram() {
			return []string{"PLAIN", "LOGIN"}
		}
	}
	return []string{mechScram, "PLAIN", "LOGIN"}
}

// account is a user who has logged in.
type account struct {
	name   string
	source users.Source
}

// exchange asks and hears until it is clear who the client is.
func (s *session) exchange(ctx context.Context, m mechanism, initial string, given bool) (account, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	var response []byte
	if given {
		b, err := decodeResponse(initial, true)
		if err != nil {
			return account{}, err
		}
		response = b
	}
	for {
		challenge, who, err := m.next(ctx, response)
		if err != nil || who != nil {
			if err == nil {
				return *who, nil
			}
			return account{}, err
		}
		s.reply(mail.Reply{Code: 334, Text: base64.StdEncoding.EncodeToString(challenge)})
		if response, err = s.response(); err != nil {
			return account{}, err
		}
	}
}

// response reads one line of the client. An error of the connection ends the
// session.
func (s *session) response() ([]byte, error) {
	line, err := s.line(maxAuthLine, s.set.Limits.CommandTimeout)
	if err != nil {
		s.lost(err)
		s.closing = true
		return nil, err
	}
	text, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok {
		// Where the response ends is not clear, nor what follows.
		s.hangUp(mail.Reply{Code: 500, Detail: "5.2", Text: "lines must end in CRLF"})
		return nil, errLoginSyntax
	}
	s.asked = time.Now()
	if text == "*" {
		return nil, errLoginCancelled
	}
	return decodeResponse(text, false)
}

// decodeResponse never returns nil without an error: that is "none yet". An
// initial response that is empty is written "=".
func decodeResponse(text string, initial bool) ([]byte, error) {
	if initial && text == "=" {
		return []byte{}, nil
	}
	if initial && text == "" {
		return nil, errLoginSyntax
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errLoginSyntax
	}
	return append([]byte{}, b...), nil
}

// logIn ends an AUTH: it answers, notes, and makes the client wait where it
// was wrong. How long does not depend on what was wrong.
func (s *session) logIn(ctx context.Context, mech, claimed string, who account, err error) {
	result, r := loginResult(err)
	s.deps.Stats.Login(s.set.Name, mech, result)
	attrs := []any{"client", s.client, "user", clip(claimed, logText), "mech", mech, "result", result}
	switch result {
	case loginUnavailable:
		s.log.Warn("login", append(attrs, "error", err)...)
	case loginThrottled:
		s.log.Info("login", append(attrs, "reason", err.Error())...)
	default:
		s.log.Info("login", attrs...)
	}
	client := s.facts.Client.Addr()
	switch result {
	case loginOK:
		s.facts.User, s.facts.AuthMech, s.source = who.name, mech, who.source
		s.deps.Throttle.Tried(ctx, client, who.name, true)
		s.reply(r)
		return
	case loginFailed:
		s.deps.Throttle.Tried(ctx, client, claimed, false)
	case loginCancelled, loginMalformed:
		s.refuseAuth(r)
		return
	}
	s.failedLogins++
	s.waitUntil(ctx, s.asked.Add(s.set.Limits.LoginDelay))
	if result != loginUnavailable && s.failedLogins >= s.set.Limits.MaxLoginFailures {
		s.log.Info("closed", "client", s.client, "cause", "too many failed logins")
		r = closing("7.0", "too many failed logins")
	}
	s.refuse(r)
}

func loginResult(err error) (string, mail.Reply) {
	switch {
	case err == nil:
		return loginOK, mail.Reply{Code: 235, Detail: "7.0", Text: "logged in"}
	case errors.Is(err, errLoginFailed):
		return loginFailed, mail.Reply{Code: 535, Detail: "7.8", Text: "wrong user or password"}
	case errors.Is(err, errLoginThrottled):
		return loginThrottled, mail.Reply{Code: 454, Detail: "7.0", Text: "too many failed logins, please try again later"}
	case errors.Is(err, errLoginCancelled):
		return loginCancelled, mail.Reply{Code: 501, Detail: "7.0", Text: "cancelled"}
	case errors.Is(err, errLoginSyntax):
		return loginMalformed, badSyntax("syntax error in the response")
	}
	return loginUnavailable, mail.Reply{Code: 454, Detail: "7.0", Text: "logins can't be checked now, please try again later"}
}

// waitUntil waits, unless the server does not.
func (s *session) waitUntil(ctx context.Context, end time.Time) {
	t := time.NewTimer(time.Until(end))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// admitted asks the throttle before a password is looked at.
func (s *session) admitted(ctx context.Context, user string) error {
	if why := s.deps.Throttle.Refuses(ctx, s.facts.Client.Addr(), user); why != "" {
		return fmt.Errorf("%w: %s", errLoginThrottled, why)
	}
	return nil
}

// verify asks the sources in order. One that can't tell does not stop another
// from knowing the user; where none does, nobody can tell.
func (s *session) verify(ctx context.Context, user, password string) (*account, error) {
	if err := s.admitted(ctx, user); err != nil {
		return nil, err
	}
	var errs []error
	for _, src := range s.set.Sources {
		name, ok, err := src.Verify(ctx, users.Login{User: user, Password: password, Client: s.facts.Client.Addr().String()})
		if err == nil && ok && name != "" {
			return &account{name, src}, nil
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return nil, errLoginFailed
}
