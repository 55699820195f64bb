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

	// Quarantine is who keeps a message that is to be held: "mta" (default)
	// tells the MTA to (Postfix: hold queue, sendmail: quarantined queue
	// file), the whole message for all recipients; "hold" keeps it in our
	// spool, before the MTA is told to drop it, and only for the recipients
	// that it is to be held for.
	Quarantine Quarantine `toml:"quarantine"`
	// Reinject is where a message goes that is released from our hold, like
	// "smtp://127.0.0.1:10025". It must be a port of the MTA that asks no milter
	// (in Postfix an smtpd of its own in master.cf, with -o smtpd_milters=) and
	// that is open to this host alone: else what was released would be judged,
	// and held, again.
	Reinject string `toml:"reinject"`

	MaxConnections int           `toml:"max_connections"` // default 1000
	MaxSize        int64         `toml:"max_size,size"`   // of a message; larger ones are refused, where no filter wants the body by what the client said. Default 100MB
	MaxRecipients  int           `toml:"max_recipients"`  // default 10000: the MTA has its own limit
	IdleTimeout    time.Duration `toml:"idle_timeout"`    // between two packets; default 7210s, as libmilter
	WriteTimeout   time.Duration `toml:"write_timeout"`   // of one answer; default 30s
	JudgeTimeout   time.Duration `toml:"judge_timeout"`   // at the end of a message; default 4m, below sendmail's E:5m
	Progress       time.Duration `toml:"progress"`        // how often the MTA is told that we still think; default 5s
}

// Quarantine is who keeps a message that is to be held.
type Quarantine string

// Those who may.
const (
	QuarantineMTA  Quarantine = "mta"
	QuarantineHold Quarantine = "hold"
)

// Validate reports a word that means nobody.
func (q Quarantine) Validate() error {
	if q != QuarantineMTA && q != QuarantineHold {
		return fmt.Errorf("%q: want mta or hold", string(q))
	}
	return nil
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Quarantine:     QuarantineMTA,
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
	if err := c.Quarantine.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("quarantine: %w", err))
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
