package clamav

import (
	"time"

	"gatepost/filters"
)

// Config of the filter.
type Config struct {
	// Address lists clamds, tried in this order: "unix:/path", "tcp:host:port".
	// Default: unix:/run/clamav/clamd.ctl, where Debian puts it.
	Address []string `toml:"address"`
	// Timeout of one scan, all addresses included. Default 60s.
	Timeout time.Duration `toml:"timeout"`
	// OnError is what becomes of mail that could not be scanned. Default
	// tempfail.
	OnError filters.OnError `toml:"on_error"`
	// MaxSize is the size of the largest message that clamd looks into; give
	// it the smallest of clamd's StreamMaxLength, MaxFileSize and MaxScanSize.
	// Larger mail is reported as not scanned. Default 100MB, as theirs.
	MaxSize int64 `toml:"max_size,size"`
	// MaxConcurrent is how many scans run at a time. Default 10, clamd's
	// MaxThreads.
	MaxConcurrent int `toml:"max_concurrent"`
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{
		Address:       []string{"unix:/run/clamav/clamd.ctl"},
		Timeout:       time.Minute,
		OnError:       filters.TempFail,
		MaxSize:       100 << 20,
		MaxConcurrent: 10,
	}
}
