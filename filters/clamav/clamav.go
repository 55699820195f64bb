package clamav

import (
	"context"

	"gatepost/filters"
	"gatepost/internal/mail"
)

// Filter asks clamd.
type Filter struct{}

// New checks the configuration. It does no I/O.
func New(cfg Config) (*Filter, error) { panic("clamav") }

// Step puts the filter into its place, with the limits of its configuration.
func (f *Filter) Step() filters.Step { panic("clamav") }

// Check scans the message.
func (f *Filter) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	panic("clamav")
}

// Ping asks whether a clamd is there.
func (f *Filter) Ping(ctx context.Context) error { panic("clamav") }
