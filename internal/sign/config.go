package sign

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"gatepost/internal/dkim"
	"gatepost/internal/mail"
)

// Config is the sections [dkim] and [arc].
type Config struct {
	DKIM DKIM
	ARC  ARC

	// Hostname is ours: results that go into a chain are in its name.
	Hostname string
}

// DKIM is the section [dkim]. Without a key nothing is signed.
type DKIM struct {
	// Expires is how long a signature counts (x=). Default 0: for ever. Mail
	// that was held for longer goes out with one that counts no more.
	Expires time.Duration `toml:"expires"`
	// OverSign are the fields that nobody may change, remove or add. From is
	// always one of them.
	OverSign []string `toml:"over_sign"`
	// Sign are fields that are signed where they are there; more may be added.
	Sign []string `toml:"sign"`
	// Except are clients that relay.networks trusts but whose mail is not
	// signed: they pass on what others wrote, a second MX for example.
	Except []netip.Prefix `toml:"except"`
	// Key are the keys, by name.
	Key map[string]Key `toml:"key"`
}

// Key is a section [dkim.key.NAME].
type Key struct {
	// Domain is d=: mail whose From is in it is signed.
	Domain string `toml:"domain"`
	// Selector is s=: the DNS has the key at SELECTOR._domainkey.DOMAIN.
	Selector string `toml:"selector"`
	// File is the private key, PEM, of mode 0600 or 0640.
	File string `toml:"file"`
	// Subdomains: also where From is in a domain below, that has no key of its
	// own. Default: false.
	Subdomains bool `toml:"subdomains"`
	// Use is "sign" (default), or "publish" for a key whose record is in the
	// DNS before or after its time.
	Use Use `toml:"use"`
	// From and Until bound the days on which it signs, in UTC; Until is the
	// first day on which it doesn't. Of several keys of a kind the one with the
	// latest From signs. Default: always.
	From  Day `toml:"from"`
	Until Day `toml:"until"`
}

// ARC is the section [arc].
type ARC struct {
	// When says which mail from outside is sealed: "never" (default), "changed"
	// for what we changed so that its signatures may not hold any more, or
	// "always".
	When When `toml:"when"`
	// Key is the name of a [dkim.key.NAME] of kind RSA.
	Key string `toml:"key"`
}

// Use says what a key is for.
type Use string

// The words for Use.
const (
	UseSign    Use = "sign"
	UsePublish Use = "publish"
)

// Validate refuses unknown words.
func (u Use) Validate() error {
	switch u {
	case "", UseSign, UsePublish:
		return nil
	}
	return fmt.Errorf("use: %q is not one of sign, publish", string(u))
}

// When says what is sealed.
type When string

// The words for When.
const (
	Never   When = "never"
	Changed When = "changed"
	Always  When = "always"
)

// Validate refuses unknown words.
func (w When) Validate() error {
	switch w {
	case "", Never, Changed, Always:
		return nil
	}
	return fmt.Errorf("when: %q is not one of never, changed, always", string(w))
}

// Day is a date; zero for none.
type Day struct{ time.Time }

func (d Day) String() string {
	if d.IsZero() {
		return ""
	}
	return d.Format(time.DateOnly)
}

// UnmarshalTOML takes a date with or without quotes.
func (d *Day) UnmarshalTOML(v any) error {
	switch v := v.(type) {
	case time.Time:
		if v.Hour()+v.Minute()+v.Second() > 0 {
			return errors.New("is a time; write a date like 2026-07-01")
		}
		d.Time = time.Date(v.Year(), v.Month(), v.Day(), 0, 0, 0, 0, time.UTC)
		return nil
	case string:
		t, err := time.Parse(time.DateOnly, v)
		if err == nil {
			d.Time = t
			return nil
		}
	}
	return errors.New("is no date; write one like 2026-07-01")
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{
		DKIM: DKIM{
			OverSign: []string{"From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"},
			Sign:     []string{"Sender", "In-Reply-To", "References", "Content-Disposition", "Content-ID", "Content-Description", "List-Id", "List-Post", "List-Help", "List-Owner", "List-Archive", "List-Subscribe", "List-Unsubscribe", "List-Unsubscribe-Post", "Resent-From", "Resent-To", "Resent-Cc", "Resent-Date", "Resent-Message-ID"},
		},
		ARC: ARC{When: Never},
	}
}

// changing are fields that are changed on the way as a rule: who signs them
// makes a signature that holds nowhere (RFC 6376 5.4.1, RFC 8617 4.1.2).
var changing = [...]string{"return-path", "received", "dkim-signature", "authentication-results", "arc-seal", "arc-message-signature", "arc-authentication-results", "bcc", "resent-bcc"}

// Validate reports what is wrong with the section itself.
func (d DKIM) Validate() error {
	var errs []error
	if d.Expires < 0 || d.Expires > 0 && d.Expires < time.Hour {
		errs = append(errs, errors.New("expires: too short; mail may wait in queues for days: write a time such as 720h, or 0s for never"))
	}
	for _, list := range []struct {
		key   string
		names []string
	}{{"over_sign", d.OverSign}, {"sign", d.Sign}} {
		for i, name := range list.names {
			if err := checkName(name); err != nil {
				errs = append(errs, fmt.Errorf("%s[%d]: %q %w", list.key, i, name, err))
			}
		}
	}
	return errors.Join(errs...)
}

func checkName(name string) error {
	if f, ok := mail.RawField(name + ": x\r\n"); !ok || f.Name() != name || strings.ContainsAny(name, ";") {
		return errors.New("is no name of a field")
	}
	if slices.Contains(changing[:], strings.ToLower(name)) {
		return errors.New("is changed on the way, or was signed by others; leave it out")
	}
	return nil
}

// Validate reports what is wrong with a key, without reading its file.
func (k Key) Validate() error {
	var errs []error
	domain, err := mail.ParseDomain(k.Domain)
	switch {
	case k.Domain == "":
		errs = append(errs, errors.New(`domain: missing; write domain = "example.com"`))
	case err != nil || strings.HasPrefix(domain, "["):
		errs = append(errs, fmt.Errorf("domain: %q is no domain name", k.Domain))
	}
	if _, err := mail.ParseDomain(dkim.RecordName(k.Selector, "example.com")); err != nil || strings.Contains(k.Selector, "..") {
		errs = append(errs, fmt.Errorf(`selector: %q is no selector; write a label such as "2026a"`, k.Selector))
	}
	if k.File == "" {
		errs = append(errs, errors.New(`file: missing; make one with "gatepost dkim keygen"`))
	}
	if !k.Until.IsZero() && !k.From.Before(k.Until.Time) {
		errs = append(errs, errors.New("until: is not after from"))
	}
	return errors.Join(errs...)
}
