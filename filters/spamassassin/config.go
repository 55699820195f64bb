package spamassassin

import (
	"time"

	"gatepost/filters"
)

// Config of the filter.
type Config struct {
	// Address lists spamds, tried in this order: "unix:/path",
	// "tcp:host:port", "tls:host:port". Default tcp:127.0.0.1:783.
	Address []string `toml:"address"`
	// Timeout of one judgement, all addresses included. Default 60s.
	Timeout time.Duration `toml:"timeout"`
	// OnError is what becomes of mail that could not be judged. Default
	// tempfail.
	OnError filters.OnError `toml:"on_error"`
	// MaxSize is how much of a message is judged; of larger mail only the
	// beginning is. Default 500kB, as spamc's.
	MaxSize int64 `toml:"max_size,size"`
	// MaxConcurrent is how many judgements run at a time. Default 5, spamd's
	// --max-children: what waits inside spamd only takes longer.
	MaxConcurrent int `toml:"max_concurrent"`
	// User is whose preferences spamd uses. Default "": those of spamd's own
	// user.
	User string `toml:"user"`

	// Hostname is ours, for the Received field that spamd wants to see.
	Hostname string `toml:"-"`
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{
		Address:       []string{"tcp:127.0.0.1:783"},
		Timeout:       time.Minute,
		OnError:       filters.TempFail,
		MaxSize:       500 << 10,
		MaxConcurrent: 5,
	}
}
