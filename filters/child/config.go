package child

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
	"gatepost/milter"

	gomilter "github.com/emersion/go-milter"
)

// Config of one child milter.
type Config struct {
	// Address is the milter's socket: unix:/path, local:/path,
	// inet:port@host, inet6:port@host.
	Address string `toml:"address"`
	// Timeout is how long the milter may take for one message, all stages
	// together; progress doesn't prolong it. Default 60s.
	Timeout time.Duration `toml:"timeout"`
	// ConnectTimeout is for the connection and its negotiation. Default 10s.
	ConnectTimeout time.Duration `toml:"connect_timeout"`
	// OnError is what becomes of mail for which the milter failed: it is down,
	// too slow, breaks the protocol, its rights or its budget. Default
	// tempfail.
	OnError filters.OnError `toml:"on_error"`
	// OnErrorAt replaces OnError at single stages. Default none.
	OnErrorAt OnErrorAt `toml:"on_error_at"`
	// Vote says what the milter's refusals do. Default enforce.
	Vote Vote `toml:"vote"`

	// Changes lists what the milter may change. It is not offered the rest.
	// Default all. Without headers, body, sender and recipients it runs beside
	// its neighbours.
	Changes []Change `toml:"changes"`
	// Headers names the fields that it may add, change and delete. Default
	// any.
	Headers []string `toml:"headers"`
	// MaxEdits is how many changes it may make to one message. Default 1000.
	MaxEdits int `toml:"max_edits"`
	// MaxEditSize is how large they may be together. Default 64MiB.
	MaxEditSize int64 `toml:"max_edit_size,size"`

	// MaxConcurrent is how many checks run at a time. Default 100.
	MaxConcurrent int `toml:"max_concurrent"`
	// Reuse keeps connections for other sessions (QUIT_NC), where the milter
	// goes along. No MTA does that, so few milters were ever tried with it.
	// Default false.
	Reuse bool `toml:"reuse"`

	// Pipeline sends DATA and the header of a message without waiting for the answer to
	// each field: one round trip instead of a dozen. No MTA does that with a
	// milter that answers; one that reads its commands one by one can't tell.
	// Default false.
	Pipeline bool `toml:"pipeline"`

	// The milter is asked only where all of these hold; an empty one always
	// does.
	Listeners     []string       `toml:"listeners"`
	Networks      []netip.Prefix `toml:"networks"`          // of clients that it is asked about
	NotNetworks   []netip.Prefix `toml:"not_networks"`      // and of those that it isn't
	Authenticated Authenticated  `toml:"authenticated"`     // default any
	Domains       []string       `toml:"recipient_domains"` // "example.com"; ".example.com" is all below it. It hears of these recipients only
	MinSize       int64          `toml:"min_size,size"`     // of the message
	MaxSize       int64          `toml:"max_size,size"`     // default 0: no limit

	Name     string `toml:"-"` // of the section, for Stats
	Stats    Stats  `toml:"-"` // nil: nobody counts
	Hostname string `toml:"-"` // ours, for the macro j
	Version  string `toml:"-"` // ours, for the macro v
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{
		Timeout:        time.Minute,
		ConnectTimeout: 10 * time.Second,
		OnError:        filters.TempFail,
		Vote:           Vote{Mode: Enforce},
		Changes:        []Change{Headers, Body, Sender, Recipients, Quarantine},
		MaxEdits:       1000,
		MaxEditSize:    64 << 20,
		MaxConcurrent:  100,
		Headers:        []string{},
		Listeners:      []string{},
		Networks:       []netip.Prefix{},
		NotNetworks:    []netip.Prefix{},
		Authenticated:  Any,
		Domains:        []string{},
	}
}

// Stats counts what milters say.
type Stats interface {
	// MilterReply counts what a milter said at the end of a stage.
	MilterReply(milter, stage, reply string)
}

// OnErrorAt is on_error for single stages: what is said there while the milter
// can't be asked, also where it failed at an earlier one.
type OnErrorAt struct {
	Connect filters.OnError `toml:"connect"`
	Helo    filters.OnError `toml:"helo"`
	Mail    filters.OnError `toml:"mail"`
	Rcpt    filters.OnError `toml:"rcpt"`
	Data    filters.OnError `toml:"data"`
	Message filters.OnError `toml:"message"`
}

// words are those that were set.
func (o OnErrorAt) words() map[mail.Stage]filters.OnError {
	words := map[mail.Stage]filters.OnError{
		mail.StageConnect: o.Connect, mail.StageHelo: o.Helo, mail.StageMail: o.Mail,
		mail.StageRcpt: o.Rcpt, mail.StageData: o.Data, mail.StageMessage: o.Message,
	}
	maps.DeleteFunc(words, func(_ mail.Stage, word filters.OnError) bool { return word == "" })
	return words
}

// validate refuses words that mean nothing at their stage, and stages at which
// the milter is never asked.
func (o OnErrorAt) validate(asked []mail.Stage) error {
	var errs []error
	words := o.words()
	for stage := mail.StageConnect; stage <= mail.StageMessage; stage++ {
		word := words[stage]
		switch {
		case word == "":
		case word.Validate() != nil:
			errs = append(errs, fmt.Errorf("on_error_at.%s: %s", stage, strings.TrimPrefix(word.Validate().Error(), "on_error: ")))
		case !slices.Contains(asked, stage):
			errs = append(errs, fmt.Errorf("on_error_at.%s: with this vote the milter is asked at the message only; write it as message", stage))
		case word == filters.Refuse && stage != mail.StageConnect:
			errs = append(errs, fmt.Errorf("on_error_at.%s: refuse is an answer to connections only; write tempfail", stage))
		case word == filters.Hold && stage != mail.StageMessage:
			errs = append(errs, fmt.Errorf("on_error_at.%s: there is no message yet to hold; write continue or tempfail", stage))
		}
	}
	return errors.Join(errs...)
}

// Mode is what a refusal of the milter does.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce" // it acts, at its stage and in the milter's words
	Shadow  Mode = "shadow"  // it is recorded; nobody waits for it
	Score   Mode = "score"   // it adds to the score of the message
)

// Vote is "enforce", "shadow" or { score = 4.0 }.
type Vote struct {
	Mode  Mode
	Score float64
}

// UnmarshalTOML reads a word, or a table with a score.
func (v *Vote) UnmarshalTOML(value any) error {
	const do = `; write "enforce", "shadow" or { score = 4.0 }`
	switch value := value.(type) {
	case string:
		if m := Mode(value); m == Enforce || m == Shadow {
			*v = Vote{Mode: m}
			return nil
		}
		return fmt.Errorf("%q is no vote%s", value, do)
	case map[string]any:
		score, ok := value["score"].(float64)
		if n, whole := value["score"].(int64); whole {
			score, ok = float64(n), true
		}
		if !ok || len(value) != 1 || math.IsNaN(score) || math.IsInf(score, 0) {
			return errors.New("is no table with a score alone" + do)
		}
		*v = Vote{Mode: Score, Score: score}
		return nil
	}
	return errors.New("is neither text nor a table" + do)
}

// Authenticated says of which sessions a milter hears.
type Authenticated string

// The words for Authenticated.
const (
	Any Authenticated = "any"
	Yes Authenticated = "yes"
	No  Authenticated = "no"
)

// Validate refuses unknown words.
func (a Authenticated) Validate() error {
	switch a {
	case Any, Yes, No:
		return nil
	}
	return fmt.Errorf("authenticated: %q is not one of any, yes, no", string(a))
}

// Change is something that a milter may change.
type Change string

// The changes.
const (
	Headers    Change = "headers"
	Body       Change = "body"
	Sender     Change = "sender"
	Recipients Change = "recipients"
	Quarantine Change = "quarantine"
)

// Validate refuses unknown words.
func (c Change) Validate() error {
	if c.actions() == 0 {
		return fmt.Errorf("changes: %q is not one of headers, body, sender, recipients, quarantine", string(c))
	}
	return nil
}

// actions are the bits that the milter is offered for it.
func (c Change) actions() gomilter.OptAction {
	switch c {
	case Headers:
		return gomilter.OptAddHeader | gomilter.OptChangeHeader
	case Body:
		return gomilter.OptChangeBody
	case Sender:
		return gomilter.OptChangeFrom
	case Recipients:
		return gomilter.OptAddRcpt | gomilter.OptRemoveRcpt | gomilter.OptAddRcptWithArgs
	case Quarantine:
		return gomilter.OptQuarantine
	}
	return 0
}

// Validate reports all that is wrong with c, each with its key.
func (c Config) Validate() error {
	var errs []error
	problem := func(wrong bool, text string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(text, args...))
		}
	}
	if _, _, err := milter.ParseSocket(c.Address); err != nil {
		errs = append(errs, fmt.Errorf("address: %s", strings.TrimPrefix(err.Error(), "socket: ")))
	}
	errs = append(errs, c.OnError.Validate(), c.OnErrorAt.validate(c.stages()), c.Authenticated.Validate())
	problem(c.Timeout <= 0, "timeout: must be above 0")
	problem(c.ConnectTimeout <= 0, "connect_timeout: must be above 0")
	problem(c.MaxEdits <= 0, "max_edits: must be above 0")
	problem(c.MaxEditSize <= 0, "max_edit_size: must be above 0")
	problem(c.MaxConcurrent <= 0, "max_concurrent: must be above 0")
	problem(c.MinSize < 0, "min_size: is negative")
	problem(c.MaxSize < 0, "max_size: is negative")
	problem(c.MaxSize > 0 && c.MaxSize < c.MinSize, "max_size: is below min_size; nothing would be asked")
	for _, change := range c.Changes {
		if change != "" { // it was refused where it was read
			errs = append(errs, change.Validate())
		}
	}
	problem(len(c.Headers) > 0 && !slices.Contains(c.Changes, Headers), `headers: changes has no "headers"; write it there, too`)
	for i, name := range c.Headers {
		h, _, err := mail.SplitHeader([]byte(name + ": x\r\n\r\n"))
		problem(err != nil || len(h) != 1 || h[0].Name() != name, "headers[%d]: %q is no name of a header field", i, name)
	}
	for i, d := range c.Domains {
		clean, err := mail.ParseDomain(strings.TrimPrefix(d, "."))
		problem(err != nil || clean == "", `recipient_domains[%d]: %q is no domain; write "example.com", or ".example.com" for all below it`, i, d)
	}
	return errors.Join(errs...)
}
