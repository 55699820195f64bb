package blocklist

import (
	"context"
	"fmt"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// act is something that a client is blocked for, if it does it often.
type act struct {
	client string
	what   string
	limit  int
	id     string // of the message
}

// What clients are blocked for.
const (
	virus       = "virus"
	spam        = "spam"
	unknownUser = "unknown-user"
	knownUser   = "known-user" // for this never: it is set off against the unknown ones
)

// Handler returns next, observed: what it decides about a client counts.
func (f *Filter) Handler(next mail.Handler) mail.Handler { return &observed{next, f} }

type observed struct {
	mail.Handler
	f *Filter
}

// Unknown passes on what mail.UnknownHandler is about.
func (o *observed) Unknown(ctx context.Context, tx *mail.Transaction, command string) mail.Verdict {
	return mail.Unknown(ctx, o.Handler, tx, command)
}

// Rcpt counts users that don't exist, and those that do: an honest sender of much
// mail has old addresses, too.
func (o *observed) Rcpt(ctx context.Context, tx *mail.Transaction, rcpt mail.Path) mail.Verdict {
	v := o.Handler.Rcpt(ctx, tx, rcpt)
	switch {
	case v.Action == mail.Reject && v.Reply.Detail == "1.1": // RFC 3463: bad destination mailbox address
		o.f.note(tx, unknownUser, o.f.cfg.UnknownUsers)
	case v.Action < mail.TempFail:
		o.f.note(tx, knownUser, o.f.cfg.UnknownUsers)
	}
	return v
}

// Message counts viruses and spam.
func (o *observed) Message(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	v := o.Handler.Message(ctx, tx)
	switch {
	case len(tx.Find(mail.FindingVirus)) > 0:
		o.f.note(tx, virus, o.f.cfg.Viruses)
	case (v.Action == mail.Reject || v.Action == mail.Quarantine && v.Unscanned == "") && isSpam(tx):
		o.f.note(tx, spam, o.f.cfg.Spam)
	}
	return v
}

// isSpam reports whether it can have been the score. What a list alone said of
// the client is no act of it.
func isSpam(tx *mail.Transaction) bool {
	content := 0.0
	for _, f := range tx.Findings {
		switch f.Name {
		case mail.FindingListed, mail.FindingDenied, mail.FindingAllowed, mail.FindingClient:
		default:
			content += f.Score
		}
	}
	return content > 0
}

// note lets an act be counted. It does not wait.
func (f *Filter) note(tx *mail.Transaction, what string, limit int) {
	s := tx.Session
	if limit == 0 || f.never(s) || len(tx.Find(mail.FindingAllowed)) > 0 {
		return
	}
	select {
	case f.acts <- act{key(s.Addr()), what, limit, tx.ID}:
	default:
	}
}

// Run counts, until ctx ends.
func (f *Filter) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-f.acts:
			if err := f.count(ctx, a); err != nil && ctx.Err() == nil {
				f.deps.Log.Warn("a client's acts could not be counted", "client", a.client, "what", a.what, "error", err)
			}
		}
	}
}

// count blocks a client that did it once too often.
func (f *Filter) count(ctx context.Context, a act) error {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	n, err := f.deps.Store.Count(ctx, "block "+a.what+" "+a.client, 1, f.cfg.Window)
	if err != nil || n < a.limit || a.what == knownUser {
		return err
	}
	if a.what == unknownUser {
		known, err := f.deps.Store.Count(ctx, "block "+knownUser+" "+a.client, 0, f.cfg.Window)
		if err != nil || n-known < a.limit {
			return err
		}
	}
	_, was, err := f.deps.Store.Get(ctx, state.Blocked, a.client)
	if err != nil {
		return err
	}
	why := fmt.Sprintf("%s: %d in %v, the last %s", a.what, n, f.cfg.Window, a.id)
	if err := f.deps.Store.Put(ctx, state.Blocked, a.client, why, f.cfg.BlockFor); err != nil {
		return err
	}
	if !was { // else it goes on in its session
		f.deps.Stats.Blocked(a.what)
		f.deps.Log.Warn("client blocked", "client", a.client, "why", why, "until", time.Now().Add(f.cfg.BlockFor).Format(time.RFC3339))
	}
	return nil
}
