package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/users"
)

// Role is what a listener is for.
type Role string

// The roles.
const (
	MX          Role = "mx"          // takes mail from the Internet
	Submission  Role = "submission"  // takes mail from users who log in behind STARTTLS, and nobody else (587)
	Submissions Role = "submissions" // the same as mx, with TLS from the first byte on (465)
	Relay       Role = "relay"       // takes mail from our own hosts
)

// Validate checks that the role is known.
func (r Role) Validate() error {
	switch r {
	case MX, Submission, Submissions, Relay:
		return nil
	}
	return fmt.Errorf("unknown role %q: want mx, submission, submissions or relay", string(r))
}

// LineEndings is what becomes of a bare CR or LF in a message.
type LineEndings string

// The choices.
const (
	Strict    LineEndings = "strict"    // the message is refused
	Normalise LineEndings = "normalise" // made a CRLF for trusted clients, refused for others
)

// Validate checks that the choice is known.
func (l LineEndings) Validate() error {
	if l == Strict || l == Normalise {
		return nil
	}
	return fmt.Errorf("unknown line endings %q: want strict or normalise", string(l))
}

// Delivery is when a message goes to its next hop.
type Delivery string

// The choices.
const (
	Queued      Delivery = "queue"       // after it is durable and answered
	Interactive Delivery = "interactive" // while the client waits
)

// Validate checks that the choice is known.
func (d Delivery) Validate() error {
	if d == Queued || d == Interactive {
		return nil
	}
	return fmt.Errorf("unknown delivery %q: want queue or interactive", string(d))
}

// Config of one listener.
type Config struct {
	Name        string      `toml:"-"`            // as in [listener.NAME]
	Address     string      `toml:"address"`      // host:port to listen on
	Role        Role        `toml:"role"`         // default "mx"
	Hostname    string      `toml:"hostname"`     // in the banner and Received; default: the gateway's
	Certificate string      `toml:"tls_cert"`     // PEM file with the chain; STARTTLS is offered when set
	Key         string      `toml:"tls_key"`      // PEM file
	LineEndings LineEndings `toml:"line_endings"` // default "strict"

	// GreetPause is how long the banner waits; a client that talks before it
	// gets 554. Default 0: no wait.
	GreetPause time.Duration `toml:"greet_pause"`
	// Pregreet is what is done with it: "refuse" (the default), or "score".
	Pregreet Pregreet `toml:"pregreet"`
	// Grace is how long messages on their way in may take when the gateway
	// stops. Default 30s.
	Grace  time.Duration `toml:"grace"`
	Limits Limits        `toml:"limits"`

	// Delivery says when a message is delivered: from the queue, after it was
	// answered ("queue", the default), or while the client waits, who gets the
	// next hop's answer ("interactive"); the queue takes over what fails.
	Delivery Delivery `toml:"delivery"`
	// InteractiveTimeout is how long the client waits for that. Default 30s.
	InteractiveTimeout time.Duration `toml:"interactive_timeout"`

	// Auth names the sections [auth.NAME] that know who may log in, asked in
	// this order. Default: none, AUTH is not offered.
	Auth []string `toml:"auth"`
	// SenderLogin is what becomes of mail whose sender is not one of the user
	// who is logged in: "off" (default), "warn", "reject".
	SenderLogin SenderLogin `toml:"sender_login"`
	// ClientCA holds the issuers of certificates that clients may show, in PEM.
	// Default: none is asked for.
	ClientCA string `toml:"client_ca"`
	// ClientCertRelay names clients that may relay: "CN=relay.example.com" or a
	// whole subject, of a certificate of one of these issuers, or
	// "sha256:…", the fingerprint of any.
	ClientCertRelay []string `toml:"client_cert_relay"`

	// ProxyProtocol names the balancers that send the PROXY protocol, version
	// 1 or 2, before anything else. They must; nobody else is believed.
	// Default: none.
	ProxyProtocol []netip.Prefix `toml:"proxy_protocol"`
	// XClient names the peers that may say by XCLIENT for whom they speak.
	// Behind a balancer these are the clients that it names. Default: none.
	XClient []netip.Prefix `toml:"xclient"`

	Sources    []users.Source `toml:"-"` // those of Auth
	Trusted    []netip.Prefix `toml:"-"` // relay.networks
	Postmaster mail.Address   `toml:"-"` // who <postmaster> is; default postmaster at Hostname
}

// Limits of one listener. All are above zero.
type Limits struct {
	MaxSize       int64 `toml:"max_size,size"`  // of a message as received; default 50MB
	MaxRecipients int   `toml:"max_recipients"` // of a message; default 1000
	MaxLine       int   `toml:"max_line"`       // octets of a command with its CRLF; default 2048
	MaxMessages   int   `toml:"max_messages"`   // transactions on one connection; default 1000
	MaxErrors     int   `toml:"max_errors"`     // refused commands between two messages; default 20
	MaxJunk       int   `toml:"max_junk"`       // commands that lead nowhere between two messages; default 100
	// MaxLoginFailures is how often a client may fail to log in on one
	// connection. Default 3.
	MaxLoginFailures int `toml:"max_login_failures"`
	// LoginDelay is how long it waits for the answer then. Default 2s.
	LoginDelay time.Duration `toml:"login_delay"`

	MaxReceived int `toml:"received_limit"` // Received fields: more are a loop; default 50

	// MaxConnections counts all clients; the last TrustedReserve places are for
	// trusted ones. Default 1000 and 100.
	MaxConnections int `toml:"max_connections"`
	TrustedReserve int `toml:"trusted_reserve"`
	// MaxConnectionsPerClient counts an IPv4 address or an IPv6 /64. Trusted
	// clients are not counted. Default 50.
	MaxConnectionsPerClient int `toml:"max_connections_per_client"`

	CommandTimeout time.Duration `toml:"command_timeout"` // for a whole command line; default 5m
	DataTimeout    time.Duration `toml:"data_timeout"`    // for any next byte of a message; default 3m
	ReplyTimeout   time.Duration `toml:"reply_timeout"`   // until the client has read a reply; default 1m
	TLSTimeout     time.Duration `toml:"tls_timeout"`     // for the handshake; default 30s
	JudgeTimeout   time.Duration `toml:"judge_timeout"`   // for the handler, then 451; default 4m

	// MinRate is how many bytes a second a client must send inside a message,
	// on the average, once it has used up RateGrace. Default 500 and 1m.
	MinRate   int64         `toml:"min_rate,size"`
	RateGrace time.Duration `toml:"rate_grace"`

	// RepeatMemory is how many bytes may be spent to know again a message that
	// its client sends once more because our answer was lost. 0 switches that
	// off. Default 4MiB, which is some 13,000 messages.
	RepeatMemory int64 `toml:"repeat_memory,size"`
	// RepeatWindow is for how long it is known. Default 1h.
	RepeatWindow time.Duration `toml:"repeat_window"`
}

// DefaultConfig returns the configuration of a listener that sets nothing.
func DefaultConfig() Config {
	return Config{
		Role:        MX,
		LineEndings: Strict,
		Pregreet:    PregreetRefuse,
		Grace:       30 * time.Second,
		Delivery:    Queued,
		SenderLogin: SenderLoginOff,

		InteractiveTimeout: 30 * time.Second,
		Limits: Limits{
			MaxSize:                 50 << 20,
			MaxRecipients:           1000,
			MaxLine:                 2048,
			MaxMessages:             1000,
			MaxErrors:               20,
			MaxJunk:                 100,
			MaxLoginFailures:        3,
			LoginDelay:              2 * time.Second,
			MaxReceived:             50,
			MaxConnections:          1000,
			TrustedReserve:          100,
			MaxConnectionsPerClient: 50,
			CommandTimeout:          5 * time.Minute,
			DataTimeout:             3 * time.Minute,
			ReplyTimeout:            time.Minute,
			TLSTimeout:              30 * time.Second,
			JudgeTimeout:            4 * time.Minute,
			MinRate:                 500,
			RateGrace:               time.Minute,
			RepeatMemory:            4 << 20,
			RepeatWindow:            time.Hour,
		},
	}
}

// Validate returns all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("listener %s: "+format, append([]any{c.Name}, args...)...))
	}
	if _, port, err := net.SplitHostPort(c.Address); err != nil || port == "" {
		bad("address %q: want host:port", c.Address)
	}
	if err := c.Role.Validate(); err != nil {
		bad("%w", err)
	}
	if _, err := mail.ParseDomain(c.Hostname); err != nil || strings.HasPrefix(c.Hostname, "[") {
		bad("hostname %q is not a domain name", c.Hostname)
	}
	if (c.Certificate == "") != (c.Key == "") {
		bad("tls_cert and tls_key belong together")
	}
	if err := c.LineEndings.Validate(); err != nil {
		bad("%w", err)
	}
	if c.GreetPause < 0 || c.GreetPause > time.Minute {
		bad("greet_pause %s: want 0 to 1m", c.GreetPause)
	}
	if err := c.Pregreet.Validate(); err != nil {
		bad("%w", err)
	}
	if c.Grace < 0 {
		bad("grace %s is negative", c.Grace)
	}
	if err := c.Delivery.Validate(); err != nil {
		bad("%w", err)
	}
	if c.InteractiveTimeout < time.Second || c.InteractiveTimeout > longestPatience {
		bad("interactive_timeout %s: want 1s to %s", c.InteractiveTimeout, longestPatience)
	}
	c.checkAccess(bad)
	c.checkPeers(bad)
	c.Limits.check(bad)
	return errors.Join(errs...)
}

// longestPatience is what a client has for the next hop, of the ten minutes that
// it waits for our answer (RFC 5321 4.5.3.2.6).
const longestPatience = 4 * time.Minute

const minLine = 512 // RFC 5321 4.5.3.1.4

func (l Limits) check(bad func(format string, args ...any)) {
	for _, v := range []struct {
		key   string
		value int64
	}{
		{"max_size", l.MaxSize},
		{"max_recipients", int64(l.MaxRecipients)},
		{"max_messages", int64(l.MaxMessages)},
		{"max_errors", int64(l.MaxErrors)},
		{"max_junk", int64(l.MaxJunk)},
		{"max_login_failures", int64(l.MaxLoginFailures)},
		{"login_delay", int64(l.LoginDelay)},
		{"received_limit", int64(l.MaxReceived)},
		{"max_connections", int64(l.MaxConnections)},
		{"max_connections_per_client", int64(l.MaxConnectionsPerClient)},
		{"command_timeout", int64(l.CommandTimeout)},
		{"data_timeout", int64(l.DataTimeout)},
		{"reply_timeout", int64(l.ReplyTimeout)},
		{"tls_timeout", int64(l.TLSTimeout)},
		{"judge_timeout", int64(l.JudgeTimeout)},
		{"min_rate", l.MinRate},
		{"rate_grace", int64(l.RateGrace)},
		{"repeat_window", int64(l.RepeatWindow)},
	} {
		if v.value <= 0 {
			bad("limits.%s must be above zero", v.key)
		}
	}
	if l.MaxLine < minLine || l.MaxLine > 64<<10 {
		bad("limits.max_line %d: want %d to 65536", l.MaxLine, minLine)
	}
	if l.RepeatMemory < 0 {
		bad("limits.repeat_memory must not be negative")
	}
	if l.TrustedReserve < 0 || l.TrustedReserve >= l.MaxConnections {
		bad("limits.trusted_reserve %d: want 0 to below max_connections", l.TrustedReserve)
	}
}
