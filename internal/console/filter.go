package console

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// The lanes of the queue.
const (
	Fresh   = "fresh" // not tried yet
	Waiting = "retry" // put off at least once
	Slow    = "slow"  // put off for long
	Held    = "hold"  // not tried until somebody decides
)

// Lanes lists all of them.
func Lanes() []string { return []string{Fresh, Waiting, Slow, Held} }

// Filter chooses messages; what is set must hold, and its zero value chooses
// all. Recipients count that a message still waits for, not those that have it.
type Filter struct {
	IDs        []string        `json:"ids,omitempty"`   // of these, in this order
	Lanes      []string        `json:"lanes,omitempty"` // one of them
	Sender     string          `json:"sender,omitempty"`
	NullSender bool            `json:"null_sender,omitempty"`
	Recipient  string          `json:"recipient,omitempty"`
	Domain     string          `json:"domain,omitempty"` // of a recipient; ".domain" is below it
	Route      string          `json:"route,omitempty"`  // destination of a recipient
	Listener   string          `json:"listener,omitempty"`
	User       string          `json:"user,omitempty"`       // who authenticated
	Older      time.Duration   `json:"older,omitempty"`      // at least so old
	Younger    time.Duration   `json:"younger,omitempty"`    // less than so old
	SizeAbove  int64           `json:"size_above,omitempty"` // in bytes
	SizeBelow  int64           `json:"size_below,omitempty"`
	ScoreAbove *float64        `json:"score_above,omitempty"`
	ScoreBelow *float64        `json:"score_below,omitempty"`
	Reason     string          `json:"reason,omitempty"`  // regular expression
	Subject    string          `json:"subject,omitempty"` // is in the subject, in any case
	Kinds      []mail.HeldKind `json:"kinds,omitempty"`   // held for one of these reasons
}

// IsZero reports whether f chooses all messages.
func (f *Filter) IsZero() bool {
	return len(f.IDs) == 0 && len(f.Lanes) == 0 && f.Sender == "" && !f.NullSender && f.Recipient == "" && f.Domain == "" &&
		f.Route == "" && f.Listener == "" && f.User == "" && f.Older == 0 && f.Younger == 0 && f.SizeAbove == 0 &&
		f.SizeBelow == 0 && f.ScoreAbove == nil && f.ScoreBelow == nil && f.Reason == "" && f.Subject == "" && len(f.Kinds) == 0
}

// Validate refuses what could choose other messages than those that are meant.
func (f *Filter) Validate() error {
	var errs []error
	for _, lane := range f.Lanes {
		if !slices.Contains(Lanes(), lane) {
			errs = append(errs, fmt.Errorf("lane %q: want fresh, retry, slow or hold", lane))
		}
	}
	for _, k := range f.Kinds {
		if !slices.Contains(mail.HeldKinds(), k) {
			errs = append(errs, fmt.Errorf("kind %q: want virus, attachment, unscanned, ambiguous, dmarc, spam, rule or hand", k))
		}
	}
	if f.NullSender && f.Sender != "" {
		errs = append(errs, errors.New("a sender and the null sender: no message has both"))
	}
	errs = append(errs, checkAddress("sender", f.Sender), checkAddress("recipient", f.Recipient))
	if f.Domain != "" {
		if _, err := mail.ParseDomain(strings.TrimPrefix(f.Domain, ".")); err != nil {
			errs = append(errs, fmt.Errorf("domain %q: %w", f.Domain, err))
		}
	}
	if f.Older < 0 || f.Younger < 0 || f.SizeAbove < 0 || f.SizeBelow < 0 {
		errs = append(errs, errors.New("ages and sizes are not negative"))
	}
	if _, err := regexp.Compile(f.Reason); err != nil {
		errs = append(errs, fmt.Errorf("reason: %w", err))
	}
	return errors.Join(errs...)
}

// checkAddress refuses what is neither an address nor "@domain".
func checkAddress(what, s string) error {
	var err error
	if domain, ok := strings.CutPrefix(s, "@"); ok {
		_, err = mail.ParseDomain(strings.TrimPrefix(domain, "."))
	} else {
		_, err = mail.ParseAddress(s, true)
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w; want user@domain or @domain", what, s, err)
	}
	return nil
}
