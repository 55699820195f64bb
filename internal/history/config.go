package history

import (
	"errors"
	"log/slog"
	"time"
)

// Config of the history.
type Config struct {
	// Path of the file; "": nothing is kept. It is set by the key history.
	Path string `toml:"-"`
	// MaxAge is how long it is kept. Default 30d.
	MaxAge time.Duration `toml:"history_max_age"`
	// MaxSize is how large the file may become; the oldest goes first. Default
	// 2GB.
	MaxSize int64 `toml:"history_max_size,size"`
	// Text keeps the beginning of what there is to read in a message, too.
	// Default false: it is private, and no search needs it.
	Text bool `toml:"history_text"`
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config { return Config{MaxAge: 30 * 24 * time.Hour, MaxSize: 2e9} }

const (
	leastAge  = time.Hour
	leastSize = 10e6
)

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.MaxAge < leastAge {
		errs = append(errs, errors.New("history_max_age: is less than an hour; write a time such as 30d"))
	}
	if c.MaxSize < leastSize {
		errs = append(errs, errors.New("history_max_size: is less than 10MB; write a size such as 2GB"))
	}
	return errors.Join(errs...)
}

// Stats counts what is written.
type Stats interface {
	// Recorded counts what is written: result is "written", "full" (the line
	// was), "failed" or "panic".
	Recorded(result string, n int)
}

// Options of a Store.
type Options struct {
	Log   *slog.Logger
	Stats Stats            // nil: nobody counts
	Now   func() time.Time // nil: time.Now
	// Line is how much may wait to be written, in bytes; 0: 32 MB.
	Line int
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Stats == nil {
		o.Stats = noStats{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Line == 0 {
		o.Line = 32 << 20
	}
	return o
}

type noStats struct{}

func (noStats) Recorded(string, int) {}
