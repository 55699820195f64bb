package auth

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"
)

// Config of the filter.
type Config struct {
	// Timeout of everything that is asked about one mail at one stage. Default
	// 20s.
	Timeout time.Duration `toml:"timeout"`
	// OnError is what becomes of mail when the filter itself fails. What a
	// domain's servers don't answer is no failure of it: that is the result
	// temperror, see policy.dmarc_temperror. Default tempfail.
	OnError filters.OnError `toml:"on_error"`
	// MaxConcurrent is how many mails are looked at at a time. Default 100.
	MaxConcurrent int `toml:"max_concurrent"`
	// MaxSignatures is how many DKIM signatures of a message are verified.
	// Default 10.
	MaxSignatures int `toml:"max_signatures"`
	// CheckOurs looks at the mail of users, of relay.networks and of this host,
	// too. Default false.
	CheckOurs bool `toml:"check_ours"`
	// TrustedSealers are domains whose word is taken for what they saw before
	// they passed a message on: an ARC chain that holds, whose newest sets are
	// all theirs, and in which one says dmarc=pass, sets a DMARC failure aside.
	// ".example.com" is all domains below. Default none.
	TrustedSealers []string `toml:"trusted_sealers"`
	// Forwarders are clients that pass mail on for us, such as our own second MX
	// or a mailing list: from them a DMARC failure is expected, and set aside.
	// Default none.
	Forwarders []netip.Prefix `toml:"forwarders"`
	// Score has what results add to the score of a message.
	Score Scores `toml:"score"`
}

// Scores are what results add. All are 0 by default.
type Scores struct {
	SPFPass       float64 `toml:"spf_pass"`
	SPFFail       float64 `toml:"spf_fail"`
	SPFSoftFail   float64 `toml:"spf_softfail"`
	SPFNone       float64 `toml:"spf_none"`
	SPFPermError  float64 `toml:"spf_permerror"`
	DKIMPass      float64 `toml:"dkim_pass"` // once, however many there are
	DKIMFail      float64 `toml:"dkim_fail"` // none passes and one fails
	DKIMNone      float64 `toml:"dkim_none"`
	DMARCPass     float64 `toml:"dmarc_pass"`
	DMARCFail     float64 `toml:"dmarc_fail"`
	DMARCNone     float64 `toml:"dmarc_none"`
	ARCFail       float64 `toml:"arc_fail"`
	FromMalformed float64 `toml:"from_malformed"` // no author, several, or not clear who
	FromDisplay   float64 `toml:"from_display"`   // the name shown has another domain
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{Timeout: 20 * time.Second, OnError: filters.TempFail, MaxConcurrent: 100, MaxSignatures: 10}
}

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := c.OnError.Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.Timeout <= 0 || c.Timeout > time.Minute {
		bad("timeout: %v; want more than 0, and up to 1m", c.Timeout)
	}
	if c.MaxConcurrent < 1 {
		bad("max_concurrent: %d; want 1 or more", c.MaxConcurrent)
	}
	if c.MaxSignatures < 1 || c.MaxSignatures > 50 {
		bad("max_signatures: %d; want 1 to 50", c.MaxSignatures)
	}
	for i, s := range c.TrustedSealers {
		if d, err := mail.ParseDomain(strings.TrimPrefix(s, ".")); err != nil || !strings.Contains(d, ".") || strings.HasPrefix(d, "[") {
			bad("trusted_sealers[%d]: %q is no domain; write example.com, or .example.com for all below it", i, mail.CleanText(s))
		}
	}
	for i, n := range c.Forwarders {
		if n.Bits() == 0 {
			bad("forwarders[%d]: %v is everybody; write the addresses of hosts that you trust", i, n)
		}
	}
	return errors.Join(append(errs, c.Score.check()...)...)
}

func (s Scores) check() (errs []error) {
	for _, v := range []struct {
		key   string
		value float64
	}{
		{"spf_pass", s.SPFPass}, {"spf_fail", s.SPFFail}, {"spf_softfail", s.SPFSoftFail}, {"spf_none", s.SPFNone}, {"spf_permerror", s.SPFPermError},
		{"dkim_pass", s.DKIMPass}, {"dkim_fail", s.DKIMFail}, {"dkim_none", s.DKIMNone},
		{"dmarc_pass", s.DMARCPass}, {"dmarc_fail", s.DMARCFail}, {"dmarc_none", s.DMARCNone},
		{"arc_fail", s.ARCFail}, {"from_malformed", s.FromMalformed}, {"from_display", s.FromDisplay},
	} {
		if math.IsNaN(v.value) || math.Abs(v.value) > 1000 {
			errs = append(errs, fmt.Errorf("score.%s: %v; want -1000 to 1000", v.key, v.value))
		}
	}
	return errs
}
