// Package journal keeps copies of mail with its envelope, for those who must be
// able to show later what passed: all of it, or what a condition names, in a
// Maildir or as mail to an address.
//
// A copy is durable before the message is answered. Where it can't be made, the
// message is put off, unless the configuration says otherwise: mail that passes
// without its copy is what a journal must not have.
package journal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Config of one journal.
type Config struct {
	Name     string `toml:"-"`
	Hostname string `toml:"-"`

	// To is the address that copies are sent to.
	To string `toml:"to"`
	// Maildir is the directory that they are written to, in its place.
	Maildir string `toml:"maildir"`
	// When is "before" filtering (the default): every message that was sent to
	// its end, as it came, refused ones included; or "after": what was taken,
	// as it goes on.
	When When `toml:"when"`
	// Listeners, Senders and Recipients say which mail: that of these listeners
	// (or [milter.NAME] entries), from one of these senders, to one of these
	// recipients. Senders and recipients are addresses, domains, or ".domain"
	// for what lies below it. What is not given asks for nothing.
	Listeners  []string `toml:"listeners"`
	Senders    []string `toml:"senders"`
	Recipients []string `toml:"recipients"`
	// OnError is what a copy that can't be made means: tempfail (default) or
	// continue.
	OnError OnError `toml:"on_error"`
}

// When a copy is made.
type When string

// The words for When.
const (
	Before When = "before"
	After  When = "after"
)

// Validate refuses unknown words.
func (w When) Validate() error {
	switch w {
	case "", Before, After:
		return nil
	}
	return fmt.Errorf("when: %q is not one of before, after", string(w))
}

// OnError is what becomes of a message without its copy.
type OnError string

// The words for OnError.
const (
	TempFail OnError = "tempfail"
	Continue OnError = "continue"
)

// Validate refuses unknown words.
func (o OnError) Validate() error {
	switch o {
	case "", TempFail, Continue:
		return nil
	}
	return fmt.Errorf("on_error: %q is not one of tempfail, continue", string(o))
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config { return Config{When: Before, OnError: TempFail} }

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	errs := []error{c.When.Validate(), c.OnError.Validate()}
	switch {
	case (c.To == "") == (c.Maildir == ""):
		errs = append(errs, errors.New(`needs to = "archive@example.com" or maildir = "/var/mail/journal", one of the two`))
	case c.Maildir != "" && !filepath.IsAbs(c.Maildir):
		errs = append(errs, fmt.Errorf("maildir: %q is no absolute path", c.Maildir))
	case c.To != "":
		if a, err := mail.ParseAddress(c.To, true); err != nil || a.IsNull() {
			errs = append(errs, fmt.Errorf("to: %q is no address", c.To))
		}
	}
	_, err := newPatterns("senders", c.Senders)
	errs = append(errs, err)
	_, err = newPatterns("recipients", c.Recipients)
	return errors.Join(append(errs, err)...)
}

// patterns are addresses, domains and ".domains" in the form in which match
// looks for them.
type patterns []string

func newPatterns(key string, list []string) (p patterns, err error) {
	var errs []error
	for i, s := range list {
		canonical, err := canonical(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s[%d]: %q: %w", key, i, s, err))
		}
		p = append(p, canonical)
	}
	return p, errors.Join(errs...)
}

func canonical(s string) (string, error) {
	if strings.Contains(s, "@") {
		a, err := mail.ParseAddress(s, true)
		return addressKey(a), err
	}
	name, below := strings.CutPrefix(s, ".")
	domain, err := mail.ParseDomain(name)
	if below {
		return "." + mail.ASCIIDomain(domain), err
	}
	return mail.ASCIIDomain(domain), err
}

func addressKey(a mail.Address) string { return strings.ToLower(a.Local) + "@" + a.ASCIIDomain() }

func (p patterns) match(a mail.Address) bool {
	if len(p) == 0 {
		return true
	}
	domain := a.ASCIIDomain()
	return slices.ContainsFunc(p, func(s string) bool {
		return s == domain || s == addressKey(a) || strings.HasPrefix(s, ".") && strings.HasSuffix(domain, s)
	})
}
