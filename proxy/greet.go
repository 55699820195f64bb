package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"gatepost/internal/mail"
)

// Pregreet is what is done with a client that talks before the banner.
type Pregreet string

// The choices.
const (
	PregreetRefuse Pregreet = "refuse" // 554, and the connection ends
	PregreetScore  Pregreet = "score"  // the filter "client" gives it a score
)

// Validate checks that the choice is known.
func (p Pregreet) Validate() error {
	if p == PregreetRefuse || p == PregreetScore {
		return nil
	}
	return fmt.Errorf("unknown pregreet %q: want refuse or score", string(p))
}

// longestPause is sendmail's.
const longestPause = 5 * time.Minute

// greet asks about the client, waits, and sends the banner.
func (s *session) greet(ctx context.Context) bool {
	began := time.Now()
	s.lookUp(ctx, false)
	if !s.pause(began) {
		return false
	}
	if !s.welcome(ctx) {
		s.deps.Stats.Connection(s.set.Name, connRejected)
		return false
	}
	s.deps.Stats.Connection(s.set.Name, connAccepted)
	return true
}

// welcome asks whether the client may come in, and sends the banner.
func (s *session) welcome(ctx context.Context) bool {
	s.log.Debug("connect", "client", s.client, "session", s.facts.ID)
	s.handler = s.deps.NewHandler()
	v, _ := s.ask(ctx, &s.base, mail.StageConnect, s.handler.Connect)
	s.atHelo = len(s.base.Findings)
	if v.Action >= mail.TempFail {
		// RFC 5321 3.1: 554 instead of the banner; 421 closes for now.
		r := refusalOf(v)
		r.Code = 554
		if v.Action == mail.TempFail || refusalOf(v).Code/100 == 4 {
			r.Code = 421
		}
		s.logReject(mail.StageConnect, "", r, v.Reason)
		s.farewell(r)
		return false
	}
	s.sticky = sticky{}.with(v)
	s.reply(mail.Reply{Code: 220, Text: s.set.Hostname + " ESMTP Gatepost"})
	return true
}

// pause waits before the banner. Who talks now does not listen: it is a worm
// or a web page, not a mail server (RFC 5321 3.1).
func (s *session) pause(began time.Time) bool {
	pause := s.set.GreetPause
	if s.deps.Pauses != nil {
		if own, ok := s.deps.Pauses(s.facts); ok {
			pause = min(own, longestPause)
		}
	}
	if pause <= 0 {
		return true
	}
	// However long the look-up took: what came meanwhile is looked at.
	end := began.Add(pause)
	if soon := time.Now().Add(10 * time.Millisecond); end.Before(soon) {
		end = soon
	}
	err := s.fillIdle(end)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return true
	case err != nil:
		s.lost(err)
		return false
	case s.set.Pregreet == PregreetScore:
		s.facts.Pregreet = true
		return true
	}
	s.deps.Stats.Connection(s.set.Name, connRejected)
	s.log.Info("closed", "client", s.client, "cause", "talked before the banner")
	s.hangUp(mail.Reply{Code: 554, Detail: "5.0", Text: "you talked before the banner"})
	return false
}
