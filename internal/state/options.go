package state

import (
	"log/slog"
	"time"
)

// Stats counts what goes wrong. Metrics has it.
type Stats interface {
	// StoreError counts a call that the store did not answer.
	StoreError(store, op string)
}

// Options is what a store works with. The zero value will do.
type Options struct {
	// Timeout is how long a call may take at most; 500ms.
	Timeout time.Duration
	// Now is the clock; the system's. Redis has its own.
	Now   func() time.Time
	Log   *slog.Logger
	Stats Stats
}

const defaultTimeout = 500 * time.Millisecond

func (o Options) withDefaults() Options {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Stats == nil {
		o.Stats = noStats{}
	}
	return o
}

type noStats struct{}

func (noStats) StoreError(string, string) {}
