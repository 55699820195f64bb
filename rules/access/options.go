package access

import "fmt"

// Options are sendmail's features of the access map.
type Options struct {
	// DelayChecks moves what is said of clients and senders to RCPT: "off" is
	// the default; "plain" asks for them then; "friend" skips that for
	// recipients with Spam: FRIEND; "hater" does it only for those with
	// Spam: HATER.
	DelayChecks DelayChecks `toml:"delay_checks"`
	// BlocklistRecipients makes To: lines refuse recipients; default true.
	BlocklistRecipients bool `toml:"blocklist_recipients"`
	// LookupDotDomain looks for .b.c behind a.b.c; default false.
	LookupDotDomain bool `toml:"lookupdotdomain"`
	// RelayToFullAddress takes To:user@domain RELAY; default false.
	RelayToFullAddress bool `toml:"relaytofulladdress"`
	// RelayHostsOnly takes names of relay domains and of RELAY lines as they
	// are, without those below them; default false.
	RelayHostsOnly bool `toml:"relay_hosts_only"`
	// RelayEntireDomain relays for all names of our own domain, that of
	// hostname without its first label; default false.
	RelayEntireDomain bool `toml:"relay_entire_domain"`
	// LooseRelayCheck is read and warned of; it does nothing: user%other@ours
	// is never unfolded. Default false.
	LooseRelayCheck bool `toml:"loose_relay_check"`
	// Skip knows the value SKIP; without it it is a refusal. Default true.
	Skip bool `toml:"skip"`
}

// DefaultOptions has skip and blocklist_recipients.
func DefaultOptions() Options {
	return Options{DelayChecks: DelayOff, BlocklistRecipients: true, Skip: true}
}

// DelayChecks says when clients and senders are judged.
type DelayChecks string

// The values of relay.delay_checks.
const (
	DelayOff    DelayChecks = "off"
	DelayPlain  DelayChecks = "plain"
	DelayFriend DelayChecks = "friend"
	DelayHater  DelayChecks = "hater"
)

// Validate refuses unknown words.
func (d DelayChecks) Validate() error {
	switch d {
	case DelayOff, DelayPlain, DelayFriend, DelayHater:
		return nil
	}
	return fmt.Errorf("%q is unknown; write one of \"off\", \"plain\", \"friend\", \"hater\"", string(d))
}

// On reports whether clients and senders are judged at RCPT.
func (d DelayChecks) On() bool { return d != DelayOff && d != "" }
