package rates

import (
	"context"
	"fmt"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"
	"gatepost/internal/state"
)

const name = "rates"

// Store counts. state.Store is one.
type Store interface {
	Count(ctx context.Context, key string, n int, window time.Duration) (int, error)
	Take(ctx context.Context, key string, r state.Rate, n int) (wait time.Duration, err error)
	Enter(ctx context.Context, key, id string, limit int, ttl time.Duration) (n int, entered bool, err error)
	Leave(ctx context.Context, key, id string) error
	Get(ctx context.Context, set state.Set, keys ...string) (state.Entry, bool, error)
}

// Access is what an access map says of a client; ok is false where it says
// nothing, a limit of 0 is none. why names the line. *rules.Set is one.
type Access interface {
	ClientRate(s *mail.Session) (limit int, why string, ok bool)        // connections a minute
	ClientConnections(s *mail.Session) (limit int, why string, ok bool) // connections at a time
}

// Filter counts what clients do.
type Filter struct {
	cfg    Config
	store  Store
	access Access
}

// New checks the configuration. It does no I/O. access may be nil.
func New(cfg Config, store Store, access Access) (*Filter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if access == nil {
		access = noAccess{}
	}
	return &Filter{cfg: cfg, store: store, access: access}, nil
}

type noAccess struct{}

func (noAccess) ClientRate(*mail.Session) (int, string, bool)        { return 0, "", false }
func (noAccess) ClientConnections(*mail.Session) (int, string, bool) { return 0, "", false }

const maxConcurrent = 200

// Step puts the filter into its place, with the limits of its configuration.
func (f *Filter) Step() filters.Step {
	return filters.Step{
		Name: name, Session: f, Stages: f.stages(),
		Timeout: f.cfg.Timeout, OnError: f.cfg.OnError, MaxConcurrent: maxConcurrent,
	}
}

// stages are those at which there may be a limit.
func (f *Filter) stages() []mail.Stage {
	stages := []mail.Stage{mail.StageConnect, mail.StageMail} // at MAIL places are kept, too
	all := []MessageLimits{f.cfg.Client.MessageLimits, f.cfg.Network.MessageLimits, f.cfg.Sender, f.cfg.User}
	recipients, bytes := f.cfg.Recipient.Messages.Limit > 0, false
	for _, l := range all {
		recipients = recipients || l.Recipients.Limit > 0
		bytes = bytes || l.Bytes.Limit > 0
	}
	if recipients {
		stages = append(stages, mail.StageRcpt)
	}
	if bytes {
		stages = append(stages, mail.StageMessage)
	}
	return stages
}

// Ping asks whether the store is there.
func (f *Filter) Ping(ctx context.Context) error {
	_, _, err := f.store.Get(ctx, state.Passed, name)
	return err
}

// Open returns a checker that holds the places of one connection.
func (f *Filter) Open() filters.Checker { return &checker{f: f} }

// checker counts one session.
type checker struct {
	f      *Filter
	places []place
}

// place is one of those that a party may have at a time.
type place struct {
	key, id string
	limit   int
}

// Wants leaves out who is never counted.
func (c *checker) Wants(tx *mail.Transaction) bool {
	s := tx.Session
	return !s.Trusted && !s.IsLocal() && !s.Again && s.Via != mail.ViaScan
}

// Check counts what is asked for at this stage.
func (c *checker) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	var f mail.Finding
	var over bool
	var err error
	switch tx.Stage {
	case mail.StageConnect:
		f, over, err = c.connect(ctx, tx.Session)
	case mail.StageMail:
		c.stay(ctx)
		f, over, err = c.f.take(ctx, c.f.transfer(tx, mail.RateMessages, 1, " messages", func(l MessageLimits) Rate { return l.Messages })...)
	case mail.StageRcpt:
		f, over, err = c.recipient(ctx, tx)
	case mail.StageMessage:
		kib := int((tx.Message.Size() + 1023) >> 10)
		f, over, err = c.f.take(ctx, c.f.transfer(tx, mail.RateBytes, kib, " KiB", func(l MessageLimits) Rate { return l.Bytes.Rate })...)
	}
	switch {
	case err != nil:
		return filters.Report{}, fmt.Errorf("%s: %w", name, err)
	case over:
		return filters.Report{Findings: []mail.Finding{f}}, nil
	}
	return filters.Report{}, nil
}

func (c *checker) recipient(ctx context.Context, tx *mail.Transaction) (mail.Finding, bool, error) {
	rcpt := tx.Envelope.Recipients[len(tx.Envelope.Recipients)-1].Address
	demands := c.f.transfer(tx, mail.RateRecipients, 1, " recipients", func(l MessageLimits) Rate { return l.Recipients })
	demands = append(demands, demand{mailbox("recipient", rcpt), mail.RateRecipients, c.f.cfg.Recipient.Messages, 1, " messages"})
	f, over, err := c.f.take(ctx, demands...)
	f.Rcpt = rcpt
	return f, over, err
}

// Abort does nothing: what was begun counts.
func (c *checker) Abort() {}
