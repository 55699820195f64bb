package milter

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Config is one entry for an MTA.
type Config struct {
	Name     string         `toml:"-"`
	Hostname string         `toml:"-"`
	Trusted  []netip.Prefix `toml:"-"` // clients of the MTA that are ours

	Socket string `toml:"socket"` // unix:/path, local:/path, inet:port@host, inet6:port@host
	Owner  string `toml:"owner"`  // of a unix socket; default: who we run as
	Group  string `toml:"group"`
	Mode   string `toml:"mode"` // default "0660"

	MaxConnections int           `toml:"max_connections"` // default 1000
	MaxSize        int64         `toml:"max_size,size"`   // of a message; larger ones are refused. Default 100MB
	MaxRecipients  int           `toml:"max_recipients"`  // default 10000: the MTA has its own limit
	IdleTimeout    time.Duration `toml:"idle_timeout"`    // between two packets; default 7210s, as libmilter
	WriteTimeout   time.Duration `toml:"write_timeout"`   // of one answer; default 30s
	JudgeTimeout   time.Duration `toml:"judge_timeout"`   // at the end of a message; default 4m, below sendmail's E:5m
	Progress       time.Duration `toml:"progress"`        // how often the MTA is told that we still think; default 5s
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		MaxConnections: 1000,
		MaxSize:        100 << 20,
		MaxRecipients:  10000,
		IdleTimeout:    7210 * time.Second,
		WriteTimeout:   30 * time.Second,
		JudgeTimeout:   4 * time.Minute,
		Progress:       5 * time.Second,
	}
}

// Validate checks what can be checked without opening anything. Each problem
// begins with its key.
func (c Config) Validate() error {
	var errs []error
	if _, _, err := ParseSocket(c.Socket); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.mode(); err != nil {
		errs = append(errs, err)
	}
	above := func(key string, ok bool) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: must be above 0", key))
		}
	}
	above("max_connections", c.MaxConnections > 0)
	above("max_size", c.MaxSize > 0)
	above("max_recipients", c.MaxRecipients > 0)
	above("idle_timeout", c.IdleTimeout > 0)
	above("write_timeout", c.WriteTimeout > 0)
	above("judge_timeout", c.JudgeTimeout > 0)
	above("progress", c.Progress > 0)
	return errors.Join(errs...)
}
