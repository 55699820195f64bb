package dnsbl

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"
)

// Config of the filter.
type Config struct {
	// Timeout of all questions about one mail together; what has not answered
	// then is taken for no answer. Default 5s.
	Timeout time.Duration `toml:"timeout"`
	// OnError is what becomes of mail that lists could not tell about. Default
	// continue.
	OnError filters.OnError `toml:"on_error"`
	// MaxHosts is how many hosts of links in one message are asked about.
	// Default 20.
	MaxHosts int `toml:"max_hosts"`
	// MaxConcurrent is how many mails are asked about at a time. Default 100.
	MaxConcurrent int `toml:"max_concurrent"`
	// TestEvery is how often the lists' test points are looked at. Default 1h.
	TestEvery time.Duration `toml:"test_every"`
	// List has the lists by name.
	List map[string]List `toml:"list"`
}

// List is one DNS list.
type List struct {
	// Zone is what is put behind the question. Default: the name of the list.
	Zone string `toml:"zone"`
	// Asks is what the list is asked about. Default: client.
	Asks []Subject `toml:"asks"`
	// Answers are those that count, "127.0.0.2" or "127.0.0.4/30".
	Answers []netip.Prefix `toml:"answers"`
	// Score is added to that of the message, or subtracted for an allow list.
	Score float64 `toml:"score"`
	// Allow makes it an allow list: who is on it is never refused for a block
	// list, nor greylisted, nor blocked.
	Allow bool `toml:"allow"`
	// Reject lets the policy refuse who is listed (see policy.dnsbl).
	Reject bool `toml:"reject"`
	// Text is told who is refused; default: the list's own TXT record.
	Text string `toml:"text"`
	// NoIPv6 leaves clients with IPv6 addresses out.
	NoIPv6 bool `toml:"no_ipv6"`
	// Test is an address or a name that is always listed. Default: 127.0.0.2,
	// or "test" for a list of names. "none": there is none.
	Test string `toml:"test"`
}

// Subject is what a list is asked about.
type Subject string

// The subjects.
const (
	Client Subject = "client" // the client's address
	Helo   Subject = "helo"   // the name that it gives for itself
	Sender Subject = "sender" // the domain of the envelope sender
	Body   Subject = "body"   // the hosts of links in the text
)

// Validate refuses unknown words.
func (s Subject) Validate() error {
	switch s {
	case Client, Helo, Sender, Body:
		return nil
	}
	return fmt.Errorf("asks: %q is not one of client, helo, sender, body", string(s))
}

// DefaultConfig is used for keys that are not in the configuration. It has no
// list.
func DefaultConfig() Config {
	return Config{Timeout: 5 * time.Second, OnError: filters.Continue, MaxHosts: 20, MaxConcurrent: 100, TestEvery: time.Hour}
}

const (
	maxLists    = 50
	shortestGap = time.Minute // between two tests of a list: they are somebody else's servers
)

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.OnError != filters.Continue && c.OnError != filters.TempFail {
		bad("on_error: %q; want continue or tempfail", string(c.OnError))
	}
	if c.Timeout <= 0 || c.Timeout > time.Minute {
		bad("timeout: %v; want more than 0, and up to 1m", c.Timeout)
	}
	if c.MaxHosts < 1 || c.MaxHosts > 100 {
		bad("max_hosts: %d; want 1 to 100", c.MaxHosts)
	}
	if c.MaxConcurrent < 1 {
		bad("max_concurrent: %d; want 1 or more", c.MaxConcurrent)
	}
	if c.TestEvery < shortestGap {
		bad("test_every: %v; want %v or more", c.TestEvery, shortestGap)
	}
	if len(c.List) == 0 || len(c.List) > maxLists {
		bad("list: %d lists; write 1 to %d sections list.NAME", len(c.List), maxLists)
	}
	for _, name := range slices.Sorted(maps.Keys(c.List)) {
		where := "list." + quoted(name)
		for _, err := range c.List[name].check(name) {
			bad("%s.%w", where, err)
		}
	}
	return errors.Join(errs...)
}

// quoted writes a name as TOML wants it in a key.
func quoted(name string) string {
	bare := func(r rune) bool {
		return r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	if strings.TrimLeftFunc(name, bare) == "" {
		return name
	}
	return fmt.Sprintf("%q", name)
}

func (l List) check(name string) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	zone, key := l.Zone, "zone"
	if zone == "" {
		zone = name
	}
	if z, err := mail.ParseDomain(zone); err != nil || strings.HasPrefix(z, "[") || !strings.Contains(z, ".") {
		bad("%s: %q is no zone; write one like \"zen.spamhaus.org\"", key, zone)
	}
	for _, s := range l.Asks {
		if err := s.Validate(); err != nil && s != "" { // the reader of the file has named it
			errs = append(errs, err)
		}
	}
	if len(l.Answers) == 0 {
		bad(`answers: is missing; write those of the list's page that are to count, like ["127.0.0.2", "127.0.0.4/30"]`)
	}
	for i, a := range l.Answers {
		if !loopback.Overlaps(a) || a.Bits() < loopback.Bits() {
			bad("answers[%d]: %v is not in 127.0.0.0/8; lists answer with nothing else", i, a)
		}
	}
	if math.IsNaN(l.Score) || l.Score < 0 || l.Score > 1000 {
		bad("score: %v; want 0 to 1000, for an allow list, too", l.Score)
	}
	if l.Allow && l.Reject {
		bad("reject: an allow list can't refuse; remove one of allow and reject")
	}
	if l.Test != "" && l.Test != noTest {
		if _, err := netip.ParseAddr(l.Test); err != nil {
			if _, err := mail.ParseDomain(l.Test); err != nil {
				bad("test: %q is neither an address nor a name; write \"none\" where the list has none", l.Test)
			}
		}
	}
	return errs
}

const noTest = "none"
