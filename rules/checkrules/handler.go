package checkrules

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"gatepost/internal/mail"
)

// Checker puts rules around handlers.
type Checker struct {
	cfg   Config
	rules *Rules
	ask   Lookup
	log   *slog.Logger
}

// New makes a Checker of what Load returned.
func New(cfg Config, rules *Rules, ask Lookup, log *slog.Logger) *Checker {
	return &Checker{cfg, rules, ask, log}
}

// Handler returns next with the rules behind its word on recipients: they can
// refuse what it takes, and take nothing that it refuses.
func (c *Checker) Handler(next mail.Handler) mail.Handler {
	if c == nil || c.rules == nil {
		return next
	}
	return &handler{next, c}
}

type handler struct {
	mail.Handler
	*Checker
}

// Unknown passes on what mail.UnknownHandler is about.
func (h *handler) Unknown(ctx context.Context, tx *mail.Transaction, command string) mail.Verdict {
	return mail.Unknown(ctx, h.Handler, tx, command)
}

// lookupTime is what all questions to the DNS for one recipient may take.
const lookupTime = 20 * time.Second

func (h *handler) Rcpt(ctx context.Context, tx *mail.Transaction, rcpt mail.Path) mail.Verdict {
	v := h.Handler.Rcpt(ctx, tx, rcpt)
	if v.Action >= mail.TempFail || len(h.cfg.Listeners) > 0 && !slices.Contains(h.cfg.Listeners, tx.Session.Listener) {
		return v
	}
	within, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	a := h.rules.Check(within, h.ask, Query{
		Name: tx.Session.Name, Addr: tx.Session.Client.Addr(), From: tx.Envelope.Sender.Address, To: rcpt.Address,
	})
	for _, line := range a.Debug {
		h.log.InfoContext(ctx, "check rule", "id", tx.ID, "rule", fmt.Sprintf("%s:%d", h.rules.file, line), "to", rcpt.String())
	}
	switch {
	case a.Kind == Allow, a.Kind == NoMatch && h.cfg.Default != DefaultDeny:
		return v
	case a.Kind == NoMatch:
		a.Reply = mail.Reply{Code: 550, Detail: "7.1", Text: "Recipient not allowed"}
	}
	if a.Delay {
		wait(ctx, h.cfg.Delay)
	}
	action := mail.Reject
	if a.Reply.Code < 500 {
		action = mail.TempFail
	}
	return mail.Verdict{Action: action, Reply: a.Reply, Close: a.Kind == Deny, Reason: h.reason(a)}
}

func (h *handler) reason(a Answer) string {
	if a.Line == 0 {
		return "no line of " + h.rules.file + " fits"
	}
	return fmt.Sprintf("%s:%d: %s", h.rules.file, a.Line, a.Text)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
