package main

import (
	"context"
	"strings"
	"time"

	"gatepost/internal/console"
	"gatepost/internal/mail"
	"gatepost/internal/state"
	"gatepost/rules/policy"
)

// ruleWork is what policy rules want to be done beside, across generations:
// counts, entries of lists, notices.
type ruleWork struct {
	hits    *policy.Hits
	lists   *policy.Live
	notices *noticeWriter
	heard   func(*mail.Transaction, mail.Verdict) // of a message; nil: nobody
}

// counted are the hits for the control API.
func (w *ruleWork) counted() []console.RuleHit {
	all := []console.RuleHit{}
	for _, h := range w.hits.List() {
		all = append(all, console.RuleHit(h))
	}
	return all
}

// handler is around all others of a session: it has the last verdict.
func (w *ruleWork) handler(next mail.Handler) mail.Handler {
	if w == nil {
		return next
	}
	return &ruleWatch{next, w}
}

type ruleWatch struct {
	mail.Handler
	work *ruleWork
}

// Unknown passes on what mail.UnknownHandler is about.
func (w *ruleWatch) Unknown(ctx context.Context, tx *mail.Transaction, command string) mail.Verdict {
	return mail.Unknown(ctx, w.Handler, tx, command)
}

func (w *ruleWatch) Connect(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	return w.note(ctx, tx, w.Handler.Connect(ctx, tx))
}

func (w *ruleWatch) Mail(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	return w.note(ctx, tx, w.Handler.Mail(ctx, tx))
}

func (w *ruleWatch) Rcpt(ctx context.Context, tx *mail.Transaction, rcpt mail.Path) mail.Verdict {
	return w.note(ctx, tx, w.Handler.Rcpt(ctx, tx, rcpt))
}

func (w *ruleWatch) Message(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	return w.note(ctx, tx, w.Handler.Message(ctx, tx))
}

// note does what rules want beside. Mail that waits for a filter is judged again:
// then it is done.
func (w *ruleWatch) note(ctx context.Context, tx *mail.Transaction, v mail.Verdict) mail.Verdict {
	if v.Unscanned != "" {
		return v
	}
	w.work.hits.Note(v.Rules, time.Now())
	w.work.lists.Add(v.Listings...)
	w.work.notices.write(ctx, tx, v)
	if w.work.heard != nil && tx.Stage == mail.StageMessage {
		w.work.heard(tx, v)
	}
	return v
}

// listStore keeps dynamic lists in the store of the site. Keys begin with the
// name of the list.
type listStore struct{ state.Store }

func (s listStore) Put(ctx context.Context, list, key, why string, ttl time.Duration) error {
	return s.Store.Put(ctx, state.Senders, list+":"+key, why, ttl)
}

func (s listStore) List(ctx context.Context, list string, limit int) ([]policy.Listed, error) {
	entries, err := s.Store.List(ctx, state.Senders, list+":", limit)
	all := make([]policy.Listed, 0, len(entries))
	for _, e := range entries {
		all = append(all, policy.Listed{Key: strings.TrimPrefix(e.Key, list+":"), Until: e.Expires})
	}
	return all, err
}
