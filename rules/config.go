package rules

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/rules/access"
	"gatepost/rules/policy"
)

// Config is the sections [relay] and [policy].
type Config struct {
	Relay  Relay  `toml:"relay"`
	Policy Policy `toml:"policy"`
	// Subject and Text say what is added to mail on its way.
	Subject Subject `toml:"subject"`
	Text    Texts   `toml:"text"`

	// Attachments are the lists of attachments.
	Attachments AttachmentLists `toml:"-"`
	// Files are the rule files, and what they know of while they are asked.
	Files policy.Config `toml:"-"`

	// Hostname is ours, for X-Virus-Scanned.
	Hostname string `toml:"-"`
	// Authenticates tells that a filter may add Authentication-Results.
	Authenticates bool `toml:"-"`
	// Verifies tells that a filter verifies signatures and chains of ours.
	Verifies bool `toml:"-"`
	// Routed reports whether there is a next hop for a recipient; nil means
	// that there always is. It is asked while a client waits: no I/O.
	Routed func(mail.Address) bool `toml:"-"`
	// Refused returns what a route answers a recipient in the place of a next
	// hop, the zero Reply where it has one; nil: never. No I/O either.
	Refused func(mail.Address) mail.Reply `toml:"-"`
	// Personal knows the senders that recipients allow and block for themselves;
	// nil: there are none. No I/O.
	Personal Personal `toml:"-"`
}

// Relay says for whom mail is passed on. All of it is empty by default: then
// nothing is.
type Relay struct {
	// Domains are the recipients' domains that are ours to pass on:
	// "example.com" is that domain alone, ".example.com" all domains below it,
	// "file:/path" a list of both, one a line, with # comments. Unlike in
	// sendmail's relay-domains a plain name does not include its subdomains,
	// and says nothing of clients.
	Domains []string `toml:"domains"`
	// Networks are the clients that may send to anyone.
	Networks []netip.Prefix `toml:"networks"`
	// Names are clients that may send to anyone, by a name that leads to the
	// address and back: "host.example.com", or ".example.com" for all below it.
	Names []string `toml:"names"`
	// Tenant are customers of providers that send for many.
	Tenant map[string]Tenant `toml:"tenant"`
	// Access is the path of an access map in sendmail's text format.
	Access string `toml:"access"`
	// RelayDomainsFile is sendmail's relay-domains: names with all below them,
	// as recipients and as verified names of clients, and beginnings of
	// clients' addresses.
	RelayDomainsFile string `toml:"relay_domains_file"`
	// LocalHostNamesFile is sendmail's local-host-names: domains that are ours,
	// as they stand. It says nothing of clients.
	LocalHostNamesFile string `toml:"local_host_names_file"`
	// PostfixRelayDomainsFile is Postfix's relay_domains as a text, one name a
	// line, with all below it.
	PostfixRelayDomainsFile string `toml:"postfix_relay_domains_file"`
	// NetworksFile is a list like networks, or a cidr table of Postfix.
	NetworksFile string `toml:"networks_file"`

	access.Options
}

// Policy says what becomes of a message, and for whom something else does.
type Policy struct {
	Limits
	Reputation
	// RulesOnError is what becomes of a message that a policy rule could not be
	// asked about: "quarantine" (default), "tempfail" or "continue". At the
	// envelope it is put off.
	RulesOnError RulesOnError `toml:"rules_on_error"`
	// Recipients says what is done with several recipients that rules or limits
	// treat in different ways: "split" (default) makes several messages of one,
	// "one-class" puts those off, with 452, that are not of the class of the first.
	Recipients RecipientsMode `toml:"recipients"`
	Authentication
	// For overrides single limits for a recipient "user@example.com", a domain
	// "example.com", or all domains below one ".example.com". Each limit is
	// taken from the most specific of them that sets it.
	For map[string]Limits `toml:"for"`
}

// Limits are thresholds of the spam score (reached means "at least") and what
// is done with what the scanners found. A threshold that is not set is off.
type Limits struct {
	Tag        *float64        `toml:"tag"`        // deliver with X-Spam-Flag: YES; default 5
	Quarantine *float64        `toml:"quarantine"` // hold; default 10
	Reject     *float64        `toml:"reject"`     // refuse in the session; default 15
	Virus      VirusAction     `toml:"virus"`      // default "reject"
	Unscanned  UnscannedAction `toml:"unscanned"`  // default "quarantine"
	Ambiguous  AmbiguousAction `toml:"ambiguous"`  // a message that mail programs read in different ways; default "quarantine"
	DMARC      DMARCAction     `toml:"dmarc"`      // a message that is not from its author; default "honour"

	// Attachments replaces the actions of all lists of attachments. Default:
	// each list has its own.
	Attachments AttachmentAction `toml:"attachments"`
}

// VirusAction is what is done with a message that holds a virus.
type VirusAction string

// The values of policy.virus.
const (
	VirusReject     VirusAction = "reject"     // refuse in the session
	VirusQuarantine VirusAction = "quarantine" // accept and hold
	VirusDiscard    VirusAction = "discard"    // accept and drop; nobody is told
)

// Validate refuses unknown words.
func (a VirusAction) Validate() error {
	return oneOf(a, VirusReject, VirusQuarantine, VirusDiscard)
}

// UnscannedAction is what is done with a message that a scanner could not look
// into, an encrypted archive for one.
type UnscannedAction string

// The values of policy.unscanned.
const (
	UnscannedQuarantine UnscannedAction = "quarantine" // accept and hold
	UnscannedContinue   UnscannedAction = "continue"   // let it pass
	UnscannedTag        UnscannedAction = "tag"        // let it pass with X-Virus-Status: Not scanned
	UnscannedTempFail   UnscannedAction = "tempfail"   // answer 451
	UnscannedReject     UnscannedAction = "reject"     // refuse in the session
)

// Validate refuses unknown words.
func (a UnscannedAction) Validate() error {
	return oneOf(a, UnscannedQuarantine, UnscannedContinue, UnscannedTag, UnscannedTempFail, UnscannedReject)
}

// RulesOnError is what is done where a policy rule can't be asked.
type RulesOnError string

// The values of policy.rules_on_error.
const (
	RulesQuarantine RulesOnError = "quarantine" // accept and hold
	RulesTempFail   RulesOnError = "tempfail"   // answer 451
	RulesContinue   RulesOnError = "continue"   // as if the rule were not there
)

// Validate refuses unknown words.
func (a RulesOnError) Validate() error {
	return oneOf(a, RulesQuarantine, RulesTempFail, RulesContinue)
}

// RecipientsMode is what is done with recipients of different classes.
type RecipientsMode string

// The values of policy.recipients.
const (
	RecipientsSplit    RecipientsMode = "split"     // a message for each outcome
	RecipientsOneClass RecipientsMode = "one-class" // the others come again
)

// Validate refuses unknown words.
func (m RecipientsMode) Validate() error { return oneOf(m, RecipientsSplit, RecipientsOneClass) }

func oneOf[T ~string](got T, allowed ...T) error {
	if slices.Contains(allowed, got) {
		return nil
	}
	words := make([]string, len(allowed))
	for i, w := range allowed {
		words[i] = fmt.Sprintf("%q", string(w))
	}
	return fmt.Errorf("%q is unknown; write one of %s", string(got), strings.Join(words, ", "))
}

// DefaultConfig relays nothing and has the thresholds 5, 10 and 15.
func DefaultConfig() Config {
	tag, quarantine, reject := 5.0, 10.0, 15.0
	return Config{Relay: Relay{Options: access.DefaultOptions()}, Policy: Policy{Limits: Limits{
		Tag: &tag, Quarantine: &quarantine, Reject: &reject,
		Virus: VirusReject, Unscanned: UnscannedQuarantine, Ambiguous: AmbiguousQuarantine, DMARC: DMARCHonour,
	}, Reputation: defaultReputation(), Authentication: defaultAuthentication(), RulesOnError: RulesQuarantine, Recipients: RecipientsSplit}}
}

// Validate checks what can be checked without reading a file. Rule files are
// read by Load alone.
func (c Config) Validate() error {
	_, errDomains := c.Relay.local(false)
	_, errLimits := newLimits(c.Policy)
	_, errNames := newNames(c.Relay.Names)
	_, errTenants := newTenants(c)
	_, errTexts := newTexts(c.Text, false)
	return errors.Join(errDomains, errNames, errTenants, errLimits, c.Subject.check(), errTexts)
}

// check names each mistake in limits of which some may be unset.
func (l Limits) check(where string) error {
	var errs []error
	for _, t := range []struct {
		key   string
		value *float64
	}{{"tag", l.Tag}, {"quarantine", l.Quarantine}, {"reject", l.Reject}} {
		if t.value != nil && math.IsNaN(*t.value) {
			errs = append(errs, fmt.Errorf("%s.%s: is not a number", where, t.key))
		}
	}
	if l.Virus != "" {
		if err := l.Virus.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s.virus: %w", where, err))
		}
	}
	if l.Unscanned != "" {
		if err := l.Unscanned.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s.unscanned: %w", where, err))
		}
	}
	if l.Ambiguous != "" {
		if err := l.Ambiguous.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s.ambiguous: %w", where, err))
		}
	}
	if l.DMARC != "" {
		if err := l.DMARC.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s.dmarc: %w", where, err))
		}
	}
	if l.Attachments != "" {
		if err := l.Attachments.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s.attachments: %w", where, err))
		}
	}
	return errors.Join(errs...)
}
