package filters

import (
	"context"
	"slices"

	"gatepost/internal/mail"
)

// handler judges the mail of one connection.
type handler struct {
	m     *Multiplexer
	seats seats

	// What was found about the session belongs to each of its transactions.
	connect, helo []mail.Finding
}

func (h *handler) Connect(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	if v, ok := h.refusal(tx); ok {
		return v
	}
	before := len(tx.Findings)
	v := h.judge(ctx, mail.StageConnect, tx, nil)
	h.connect = slices.Clone(tx.Findings[before:])
	return v
}

func (h *handler) Helo(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	before := len(tx.Findings)
	v := h.judge(ctx, mail.StageHelo, tx, nil)
	h.helo = slices.Clone(tx.Findings[before:])
	return v
}

// Mail begins a transaction, clean of what was found in the one before.
func (h *handler) Mail(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	h.seats.over()
	tx.Findings, tx.Inside, tx.Asked = slices.Concat(h.connect, h.helo), nil, nil
	return h.judge(ctx, mail.StageMail, tx, nil)
}

func (h *handler) Rcpt(ctx context.Context, tx *mail.Transaction, rcpt mail.Path) mail.Verdict {
	return h.judge(ctx, mail.StageRcpt, tx, &rcpt)
}

func (h *handler) Data(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	return h.judge(ctx, mail.StageData, tx, nil)
}

func (h *handler) Message(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	defer h.seats.over()
	return h.judge(ctx, mail.StageMessage, tx, nil)
}

func (h *handler) Abort(*mail.Transaction) { h.seats.over() }
func (h *handler) Close()                  { h.seats.close() }
