package filters

import (
	"context"
	"log/slog"

	"gatepost/internal/mail"
)

// Multiplexer is one generation of filters with the policy over them.
type Multiplexer struct{}

// New checks the configuration. It does no I/O and starts nothing. observer may
// be nil.
func New(cfg Config, steps []Step, policy Policy, observer Observer, log *slog.Logger) (*Multiplexer, error) {
	panic("filters")
}

// Handler returns a handler for one connection.
func (m *Multiplexer) Handler() mail.Handler { panic("filters") }

// Run probes filters that are down, until ctx ends.
func (m *Multiplexer) Run(ctx context.Context) error { panic("filters") }

// Close waits until all checks have ended, or ctx has.
func (m *Multiplexer) Close(ctx context.Context) error { panic("filters") }
