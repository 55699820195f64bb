package milter

import (
	"fmt"
	"net/netip"
	"time"

	"gatepost/internal/mail"
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

	// Decides lists the stages at which the handler may have an opinion; at
	// the others the MTA is told not to wait for one.
	Decides []mail.Stage `toml:"-"`
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

// Validate checks what can be checked without opening anything.
func (c Config) Validate() error {
	if _, _, err := ParseSocket(c.Socket); err != nil {
		return err
	}
	if _, err := c.mode(); err != nil {
		return err
	}
	for name, d := range map[string]time.Duration{"idle_timeout": c.IdleTimeout, "write_timeout": c.WriteTimeout, "judge_timeout": c.JudgeTimeout, "progress": c.Progress} {
		if d <= 0 {
			return fmt.Errorf("%s: must be above 0", name)
		}
	}
	if c.MaxConnections < 1 || c.MaxSize < 1 || c.MaxRecipients < 1 {
		return fmt.Errorf("max_connections, max_size, max_recipients: must be above 0")
	}
	return nil
}
