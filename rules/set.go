package rules

import (
	"errors"
	"net/netip"
	"slices"

	"gatepost/internal/mail"
	"gatepost/rules/access"
	"gatepost/rules/policy"
)

// Set is one generation of the rules.
type Set struct {
	hostname string
	routed   func(mail.Address) bool
	refused  func(mail.Address) mail.Reply
	engine   access.Engine
	networks []netip.Prefix
	names    access.Class
	tenants  []tenant
	limits   limitSet
	warnings []string

	reputation Reputation
	lists      AttachmentLists
	subject    Subject
	texts      texts

	policy     *policy.Set
	generation string
	onError    RulesOnError
	oneClass   bool
	personal   Personal
}

// Load reads the lists that cfg names. One bad line anywhere refuses all: the
// error names each, as "path:line: what is wrong; what to do".
func Load(cfg Config) (*Set, error) {
	engine, warnings, sum, errTables := cfg.tables()
	names, errNames := newNames(cfg.Relay.Names)
	tenants, errTenants := newTenants(cfg)
	limits, errLimits := newLimits(cfg.Policy)
	texts, errTexts := newTexts(cfg.Text, true)
	files, errFiles := policy.Load(cfg.Files)
	if err := errors.Join(errTables, errNames, errTenants, errLimits, cfg.Subject.check(), errTexts, errFiles); err != nil {
		return nil, err
	}
	routed := cfg.Routed
	if routed == nil {
		routed = func(mail.Address) bool { return true }
	}
	refused := cfg.Refused
	if refused == nil {
		refused = func(mail.Address) mail.Reply { return mail.Reply{} }
	}
	return &Set{
		hostname: cfg.Hostname,
		routed:   routed,
		refused:  refused,
		engine:   engine,
		networks: slices.Clone(cfg.Relay.Networks),
		names:    names,
		tenants:  tenants,
		limits:   limits,
		warnings: warnings,

		reputation: cfg.Policy.Reputation,
		lists:      cfg.Attachments,
		subject:    cfg.Subject,
		texts:      texts,

		policy:     files,
		generation: generationOf(files.Generation(), sum),
		onError:    cfg.Policy.RulesOnError,
		oneClass:   cfg.Policy.Recipients == RecipientsOneClass,
		personal:   cfg.Personal,
	}, nil
}

// Warnings are about what was loaded but is probably not meant, as
// "path:line: what; what to do".
func (s *Set) Warnings() []string { return slices.Clone(s.warnings) }

// Decide judges the transaction at its stage; rcpt is set at StageRcpt only.
//
// Where the access map says DISCARD or QUARANTINE of a client or sender, the
// verdict says so at once, and says it again at StageMessage: who can't act on
// it early may go on. Of a recipient it is said at StageMessage only.
func (s *Set) Decide(tx *mail.Transaction, rcpt *mail.Path) mail.Verdict {
	v := s.reputed(tx, rcpt, s.ruled(tx, rcpt, s.decide(tx, rcpt, nil)))
	return s.signed(v)
}

func (s *Set) decide(tx *mail.Transaction, rcpt *mail.Path, tr *access.Trace) mail.Verdict {
	switch tx.Stage {
	case mail.StageConnect:
		return s.connect(tx.Session, tr)
	case mail.StageMail:
		return s.mailFrom(tx.Session, tx.Envelope.Sender.Address, tr)
	case mail.StageRcpt:
		return s.recipient(tx, rcpt.Address, tr)
	case mail.StageMessage:
		return s.message(tx)
	}
	return mail.Verdict{}
}

// Settled reports whether the verdict on the message is certain with these
// findings, whatever else may come. That is so only when a virus was found and
// every recipient's policy is to reject or to discard it: nothing outranks a
// virus, no policy rule either. (Only the name in the reply is that of whichever
// scanner was heard first in configured order.) While one recipient's copy is
// held, it is not: what else is found goes into its header.
func (s *Set) Settled(tx *mail.Transaction, findings []mail.Finding) bool {
	e := weigh(findings)
	if !e.infected {
		return false
	}
	for _, o := range s.outcomes(tx, e, nil) {
		if o.action != mail.Reject && o.action != mail.Discard {
			return false
		}
	}
	return true
}
