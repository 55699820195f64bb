package mime

import (
	"context"

	"gatepost/internal/mail"
)

// walker takes one message apart.
type walker struct {
	ctx    context.Context
	cancel context.CancelFunc
	m      *mail.Message
	cfg    Config
	visit  Visit
	inside *mail.Inside
	nodes  []Node
}

func newWalker(ctx context.Context, m *mail.Message, c Config, visit Visit) *walker {
	ctx, cancel := context.WithTimeout(ctx, c.Time)
	return &walker{ctx: ctx, cancel: cancel, m: m, cfg: c, visit: visit, inside: new(mail.Inside)}
}

func (w *walker) walk() *mail.Inside {
	w.inside.Unseen = []string{"not-taken-apart"}
	return w.inside
}
