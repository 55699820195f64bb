package filters

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatepost/internal/mail"
)

// Config of the Multiplexer.
type Config struct {
	// Collect says whether filters are stopped when the verdict is certain
	// ("needed", the default) or heard to the end ("all"). The verdict is the
	// same.
	Collect Collect `toml:"collect"`
	// Deadline is the longest that one stage may take, waiting for a free
	// filter included. Default 4m: clients wait at least 10m for the answer to
	// their final dot, impatient ones 5m.
	Deadline time.Duration `toml:"deadline"`

	// Hostname is ours: Authentication-Results in its name from outside are
	// forged.
	Hostname string `toml:"-"`
	// OnErrorByListener replaces the OnError of every step for sessions of
	// these listeners.
	OnErrorByListener map[string]OnError `toml:"-"`
	// NoHold names the entries whose mail can't be held here: on_error =
	// "hold" means tempfail there.
	NoHold []string `toml:"-"`

	// Inspect takes a message apart, for filters and rules that want to know
	// what is inside; nil: nobody does. It keeps to limits of its own and never
	// fails: what it could not see is in its result.
	Inspect func(context.Context, *mail.Message) *mail.Inside `toml:"-"`
	// Finishers come after the verdict, in this order.
	Finishers []Finisher `toml:"-"`
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{Collect: CollectNeeded, Deadline: 4 * time.Minute}
}

// Collect says how many filters are heard.
type Collect string

// The words for Collect.
const (
	CollectNeeded Collect = "needed"
	CollectAll    Collect = "all"
)

// Validate refuses unknown words.
func (c Collect) Validate() error {
	switch c {
	case "", CollectNeeded, CollectAll:
		return nil
	}
	return fmt.Errorf("collect: %q is not one of needed, all", string(c))
}

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	errs := []error{c.Collect.Validate()}
	if c.Deadline < 0 {
		errs = append(errs, errors.New("deadline: is negative; write a time such as 4m"))
	}
	for listener, word := range c.OnErrorByListener {
		if err := word.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("listener %s: %w", listener, err))
		}
	}
	return errors.Join(errs...)
}

// WithDefaults fills in what a step leaves out, for those who show it.
func (s Step) WithDefaults() Step {
	full, err := s.withDefaults()
	if err != nil {
		return s
	}
	return full
}

// withDefaults checks one step and fills in what it left out.
func (s Step) withDefaults() (Step, error) {
	if s.Name == "" || (s.Filter == nil) == (s.Session == nil) {
		return s, errors.New("a step without name or filter")
	}
	if s.Shadow && s.Modifies {
		return s, fmt.Errorf("%s: a shadow that modifies", s.Name)
	}
	if err := s.OnError.Validate(); err != nil {
		return s, fmt.Errorf("%s: %w", s.Name, err)
	}
	for stage, word := range s.OnErrorAt {
		if err := word.Validate(); err != nil {
			return s, fmt.Errorf("%s: at %s: %w", s.Name, stage, err)
		}
	}
	if s.Timeout < 0 || s.MaxConcurrent < 0 || s.Breaker.Failures < 0 || s.Breaker.Probe < 0 {
		return s, fmt.Errorf("%s: a negative limit", s.Name)
	}
	if len(s.Stages) == 0 {
		s.Stages = []mail.Stage{mail.StageMessage}
	}
	if s.OnError == "" {
		s.OnError = TempFail
	}
	if s.Timeout == 0 {
		s.Timeout = time.Minute
	}
	if s.MaxConcurrent == 0 {
		s.MaxConcurrent = 20
	}
	if s.Breaker.Failures == 0 {
		s.Breaker.Failures = 3
	}
	if s.Breaker.Probe == 0 {
		s.Breaker.Probe = 2 * time.Second
	}
	return s, nil
}
