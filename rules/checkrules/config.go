package checkrules

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Config is [check_rules].
type Config struct {
	// File is the rules; "" is none.
	File string `toml:"file"`
	// Default is what becomes of a recipient that no rule fits: allow, as in
	// the original, or deny.
	Default Default `toml:"default"`
	// Delay is how late the answers of noto_delay and deny_delay come. Default
	// 50s, as in the original.
	Delay time.Duration `toml:"delay"`
	// Listeners are where the rules count; none given: everywhere.
	Listeners []string `toml:"listeners"`
}

// Default is a word of Config.
type Default string

// The words for Default.
const (
	DefaultAllow Default = "allow"
	DefaultDeny  Default = "deny"
)

// Validate refuses unknown words.
func (d Default) Validate() error {
	switch d {
	case "", DefaultAllow, DefaultDeny:
		return nil
	}
	return fmt.Errorf("default: %q is not one of allow, deny", string(d))
}

// DefaultConfig has no rules.
func DefaultConfig() Config { return Config{Default: DefaultAllow, Delay: 50 * time.Second} }

const (
	longestDelay = 5 * time.Minute // RFC 5321 4.5.3.2.3: how long a client waits
	maxFile      = 16 << 20
)

// Load reads the rules of c; nil where there are none.
func Load(c Config) (r *Rules, warnings []string, err error) {
	errs := []error{c.Default.Validate()}
	if c.Delay < 0 || c.Delay > longestDelay {
		errs = append(errs, fmt.Errorf("delay: %v is not between 0s and %v", c.Delay, longestDelay))
	}
	if c.File == "" {
		return nil, nil, errors.Join(errs...)
	}
	f, err := os.Open(c.File)
	if err != nil {
		return nil, nil, errors.Join(append(errs, fmt.Errorf("file: %w", err))...)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("file: %s is larger than %d bytes", c.File, maxFile)
	}
	if err == nil {
		r, warnings, err = Parse(c.File, string(b))
	}
	return r, warnings, errors.Join(append(errs, err)...)
}
