package spamassassin

import (
	"context"

	"gatepost/filters"
	"gatepost/internal/mail"
)

// Filter asks spamd.
type Filter struct{}

// New checks the configuration. It does no I/O.
func New(cfg Config) (*Filter, error) { panic("spamassassin") }

// Step puts the filter into its place, with the limits of its configuration.
func (f *Filter) Step() filters.Step { panic("spamassassin") }

// Check judges the message.
func (f *Filter) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	panic("spamassassin")
}

// Ping asks whether a spamd is there.
func (f *Filter) Ping(ctx context.Context) error { panic("spamassassin") }
