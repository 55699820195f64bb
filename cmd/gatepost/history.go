package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// assembleHistory makes the history and the traces, where there are to be any.
// It touches no file.
func (g *gateway) assembleHistory(cfg *config.Config) (err error) {
	g.judges.recorder = g.recorded
	if err := g.assembleTraces(cfg); err != nil {
		return err
	}
	if cfg.History.Path == "" {
		return nil
	}
	g.history, err = history.Open(cfg.History, history.Options{Log: g.log, Stats: g.metrics})
	g.told.history = g.history
	return err
}

// committed notes what the spool has taken.
func (g *gateway) committed(entries []spool.Entry) {
	if !g.told.wanted() {
		return
	}
	for _, e := range entries {
		event := mail.Event{ID: e.ID, Group: e.Group, What: mail.EventQueued, Text: recipientsOf(&e)}
		if e.State == spool.Hold {
			event.What, event.Text = mail.EventHeld, e.Reason+", "+event.Text
		}
		switch e.Origin {
		case spool.FromDSN:
			event.Text = "our notification, " + event.Text
		case spool.FromJournal:
			event.Text = "a copy for a journal, " + event.Text
		}
		g.told.Event(event)
	}
}

// recipientsOf names the first recipients.
func recipientsOf(e *spool.Entry) string {
	text := "for nobody"
	for i, r := range e.Envelope.Recipients {
		switch {
		case i == 0:
			text = "for " + r.String()
		case i < 3:
			text += ", " + r.String()
		default:
			return fmt.Sprintf("%s and %d more", text, len(e.Envelope.Recipients)-i)
		}
	}
	return text
}

// recorded is a handler around all others of a session: it keeps what was
// asked, answered, and found. What goes wrong with that is none of the mail's
// business.
type recorded struct {
	mail.Handler
	told       witnesses
	log        *slog.Logger
	generation string

	tx      *mail.Transaction // whose recipients were refused
	refused []history.Refused
	omitted int
	verdict mail.Verdict // on the message
}

func (g *gateway) recorded(h mail.Handler, generation string) mail.Handler {
	return &recorded{Handler: h, told: g.told, log: g.log, generation: generation}
}

// mostRefused bounds what a client that guesses recipients can have kept.
const mostRefused = 100

// Answered implements mail.AnsweredHandler.
func (r *recorded) Answered(tx *mail.Transaction, a mail.Answer) {
	defer r.guard()
	if a.Stage == mail.StageRcpt {
		r.tx = tx
		if len(r.refused) == mostRefused {
			r.omitted++
			return
		}
		r.refused = append(r.refused, history.Refused{About: a.About, Answer: a})
		return
	}
	r.write(tx, a)
}

// write keeps the end of something.
func (r *recorded) write(tx *mail.Transaction, a mail.Answer) {
	if !r.told.wanted() {
		r.forget()
		return
	}
	v := r.verdict
	if a.Stage != mail.StageMessage {
		v = mail.Verdict{Rules: v.Rules}
	}
	record := history.Make(tx, v, a, r.refused, time.Now())
	record.Generation, record.Omitted = r.generation, record.Omitted+r.omitted
	r.forget()
	r.told.Decision(record)
}

func (r *recorded) forget() {
	r.tx, r.refused, r.omitted, r.verdict = nil, nil, 0, mail.Verdict{}
}

// leftOver keeps a transaction that ended with nothing but refused recipients.
func (r *recorded) leftOver() {
	defer r.guard()
	if tx := r.tx; tx != nil && len(r.refused) > 0 {
		last := r.refused[len(r.refused)-1].Answer
		if len(tx.Envelope.Recipients) > 0 {
			last.Reason = "the client gave up; the last refusal: " + last.Reason
		}
		r.write(tx, last)
	}
	r.forget()
}

func (r *recorded) guard() {
	if p := recover(); p != nil {
		r.log.Error("panic", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

// Unknown passes on what mail.UnknownHandler is about.
func (r *recorded) Unknown(ctx context.Context, tx *mail.Transaction, command string) mail.Verdict {
	return mail.Unknown(ctx, r.Handler, tx, command)
}

func (r *recorded) Mail(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	r.leftOver()
	return r.Handler.Mail(ctx, tx)
}

func (r *recorded) Message(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	v := r.Handler.Message(ctx, tx)
	r.verdict = v
	return v
}

func (r *recorded) Abort(tx *mail.Transaction) {
	r.leftOver()
	r.Handler.Abort(tx)
}

func (r *recorded) Close() {
	r.leftOver()
	r.Handler.Close()
}

// keepLives keeps what a command does to messages of a gateway that does not
// run. end writes the last of it.
func keepLives(cfg *config.Config, log *slog.Logger) (lives recorder, end func(), err error) {
	if cfg.History.Path == "" {
		return nil, func() {}, nil
	}
	h, err := history.Open(cfg.History, history.Options{Log: log})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	writing.Go(func() { _ = h.Run(ctx) }) // it has logged what went wrong
	return h, func() { cancel(); writing.Wait() }, nil
}
