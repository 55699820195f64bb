package main

import (
	"context"
	"slices"

	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/milter"
)

// handlers returns what makes the handlers of a listener: those of the filters,
// or the milter that the listener names behind rules without filters.
func (g *gateway) handlers(l config.Listener) (func() mail.Handler, error) {
	if l.Handler == "" {
		return g.judges.handler, nil
	}
	cfg := milter.RemoteConfig{ClientConfig: milter.DefaultClientConfig(), Hostname: l.Hostname, OnError: l.HandlerOnError}
	cfg.Socket = l.Handler
	remote, err := milter.NewRemote(cfg, g.log.With("listener", l.Name))
	if err != nil {
		return nil, err
	}
	return func() mail.Handler {
		return g.recorded(g.frame.Load().around(&behind{Handler: g.bare.handler(), remote: remote.Handler()}), g.judges.name())
	}, nil
}

// behind asks our own rules first, and the milter about what they let pass:
// whom we relay for is never a milter's decision. An answer of the milter can
// only be stricter.
type behind struct {
	mail.Handler // the rules
	remote       mail.Handler
}

func (b *behind) Connect(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	return b.both(ctx, tx, b.Handler.Connect, b.remote.Connect)
}

func (b *behind) Helo(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	return b.both(ctx, tx, b.Handler.Helo, b.remote.Helo)
}

func (b *behind) Mail(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	return b.both(ctx, tx, b.Handler.Mail, b.remote.Mail)
}

func (b *behind) Rcpt(ctx context.Context, tx *mail.Transaction, rcpt mail.Path) mail.Verdict {
	return b.both(ctx, tx,
		func(ctx context.Context, tx *mail.Transaction) mail.Verdict { return b.Handler.Rcpt(ctx, tx, rcpt) },
		func(ctx context.Context, tx *mail.Transaction) mail.Verdict { return b.remote.Rcpt(ctx, tx, rcpt) })
}

func (b *behind) Data(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	return b.both(ctx, tx, b.Handler.Data, b.remote.Data)
}

type question func(context.Context, *mail.Transaction) mail.Verdict

func (b *behind) both(ctx context.Context, tx *mail.Transaction, ours, theirs question) mail.Verdict {
	v := ours(ctx, tx)
	if v.Action >= mail.TempFail {
		return v
	}
	return merged(v, theirs(ctx, tx))
}

// Message lets the rules have their say, strips what is forged in our name, and
// shows the milter the rest.
func (b *behind) Message(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	v := b.Handler.Message(ctx, tx)
	if v.Action >= mail.TempFail || v.Action == mail.Discard && len(v.Recipients) == 0 {
		b.remote.Abort(tx) // it waits for the end of this message
		return v
	}
	view := *tx
	header, places := without(tx.Message.Header, v.Edits)
	view.Message = mail.NewMessage(header, tx.Message.Body(), tx.Message.BodySize())
	w := b.remote.Message(ctx, &view)
	tx.Findings = view.Findings
	for i, e := range w.Edits {
		w.Edits[i] = moved(e, places)
	}
	return merged(v, w)
}

func (b *behind) Abort(tx *mail.Transaction) {
	b.Handler.Abort(tx)
	b.remote.Abort(tx)
}

func (b *behind) Close() {
	defer b.Handler.Close()
	b.remote.Close()
}

// merged is the stronger of two verdicts for each recipient, with the edits of
// both.
func merged(v, w mail.Verdict) mail.Verdict {
	out := v
	if w.Action > v.Action {
		out = w
	}
	out.Edits = slices.Concat(v.Edits, w.Edits)
	out.Rules, out.Generation, out.Listings, out.Notices = v.Rules, v.Generation, v.Listings, v.Notices
	out.Recipients = nil
	if w.Action >= mail.TempFail {
		return out // the answer is for all
	}
	for _, r := range v.Recipients {
		out.Recipients = append(out.Recipients, merged(r, w))
	}
	return out
}

// without returns the header without the fields that edits delete, and the
// place in h of each that is left; behind them stands the end of h.
func without(h mail.Header, edits []mail.Edit) (left mail.Header, places []int) {
	gone := make(map[int]bool)
	for _, e := range edits {
		if d, ok := e.(mail.DeleteHeader); ok {
			gone[d.At] = true
		}
	}
	for i, f := range h {
		if !gone[i] {
			left, places = append(left, f), append(places, i)
		}
	}
	return left, append(places, len(h))
}

// moved is an edit of a header without some fields as one of all of it.
func moved(e mail.Edit, places []int) mail.Edit {
	switch e := e.(type) {
	case mail.InsertHeader:
		e.At = places[min(max(e.At, 0), len(places)-1)]
		return e
	case mail.ChangeHeader:
		e.At = places[e.At]
		return e
	case mail.DeleteHeader:
		e.At = places[e.At]
		return e
	}
	return e
}
