// Package notify tells those who look after the gateway, and recipients, of what
// they should know at once: by mail and by webhook, and never too often.
package notify

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"gatepost/internal/mail"
)

// Kind is what happened.
type Kind string

// The kinds.
const (
	Virus       Kind = "virus"
	BannedFile  Kind = "banned-file"
	FilterDown  Kind = "filter-down"
	FilterUp    Kind = "filter-up"
	QueueAge    Kind = "queue-age"   // the oldest message that is not held
	Certificate Kind = "certificate" // one ends soon
	DiskLow     Kind = "disk-low"
	Signatures  Kind = "signatures" // of a scanner are late
)

// Kinds lists all of them.
func Kinds() []Kind {
	return []Kind{Virus, BannedFile, FilterDown, FilterUp, QueueAge, Certificate, DiskLow, Signatures}
}

// Config is the section [notify].
type Config struct {
	// Admin are the addresses of those who look after the gateway. Default:
	// nobody.
	Admin []string `toml:"admin"`
	// Webhook is a URL that gets each notification as JSON. Default: none.
	Webhook string `toml:"webhook"`
	// WebhookSecret is the file with the secret that signs them.
	WebhookSecret string `toml:"webhook_secret_file"`
	// Events are those that admin and webhook hear of. Default: all.
	Events []Kind `toml:"events"`
	// Recipients are the events that the recipients of ours of a message hear of:
	// "virus", "banned-file". Default: none. The sender is never told.
	Recipients []Kind `toml:"recipients"`
	// PerHour is how many are told of one kind in an hour, to one address; what
	// comes beyond is counted, and the number told with the next. Default 5.
	PerHour int `toml:"per_hour"`
	// QueueAge, Certificate, SpoolFree are the limits of their events. Defaults
	// 2h, 14d, 1GB.
	QueueAge    time.Duration `toml:"queue_age"`
	Certificate time.Duration `toml:"certificate"`
	SpoolFree   int64         `toml:"spool_free,size"`

	Hostname string `toml:"-"` // ours
	Secret   []byte `toml:"-"` // of WebhookSecret
}

// DefaultConfig tells nobody.
func DefaultConfig() Config {
	return Config{Admin: []string{}, Recipients: []Kind{}, Events: Kinds(), PerHour: 5, QueueAge: 2 * time.Hour, Certificate: 14 * 24 * time.Hour, SpoolFree: 1_000_000_000}
}

// minSecret is how long a secret is at least.
const minSecret = 16

// Validate names each mistake.
func (c Config) Validate() error {
	var errs []error
	note := func(format string, args ...any) { errs = append(errs, fmt.Errorf("notify: "+format, args...)) }
	for i, a := range c.Admin {
		if _, err := mail.ParseAddress(a, false); err != nil {
			note("admin[%d]: %w", i, err)
		}
	}
	for i, k := range c.Events {
		if !slices.Contains(Kinds(), k) {
			note("events[%d]: %q is unknown; write one of %v", i, string(k), Kinds())
		}
	}
	for i, k := range c.Recipients {
		if k != Virus && k != BannedFile {
			note("recipients[%d]: %q is nothing that a recipient is told; write virus or banned-file", i, string(k))
		}
	}
	if c.Webhook != "" {
		u, err := url.Parse(c.Webhook)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
			note("webhook: %q is no URL; write one like https://hooks.example.com/gatepost", c.Webhook)
		}
	}
	if c.Webhook == "" && c.WebhookSecret != "" {
		note("webhook_secret_file: there is no webhook; write webhook, or leave this out")
	}
	if c.PerHour < 1 || c.PerHour > 1000 {
		note("per_hour: is not between 1 and 1000")
	}
	if c.QueueAge < time.Minute || c.Certificate < time.Hour || c.SpoolFree < 0 {
		note("queue_age is at least 1m, certificate at least 1h, spool_free not negative")
	}
	return errors.Join(errs...)
}

// On reports whether anybody is told of anything.
func (c *Config) On() bool { return c.forAdmin() || len(c.Recipients) > 0 }

func (c *Config) forAdmin() bool { return len(c.Admin) > 0 || c.Webhook != "" }
