package main

import (
	"context"

	"gatepost/internal/mail"
)

// hearsUnknown reports whether the newest generation may want to hear of them.
func (g *generations) hearsUnknown() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current.HearsUnknown()
}

// Handlers that stand before another pass on the commands that nobody knows.

func (s *session) Unknown(ctx context.Context, tx *mail.Transaction, command string) mail.Verdict {
	return mail.Unknown(ctx, s.Handler, tx, command)
}

func (b *behind) Unknown(ctx context.Context, tx *mail.Transaction, command string) mail.Verdict {
	return mail.Unknown(ctx, b.remote, tx, command)
}
