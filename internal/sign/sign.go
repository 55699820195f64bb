// Package sign signs what leaves in our name: DKIM for the mail of our own
// people (RFC 6376), and seals of chains for what we pass on (RFC 8617).
package sign

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"time"

	"gatepost/filters"
	"gatepost/internal/arc"
	"gatepost/internal/dkim"
	"gatepost/internal/mail"
)

// Deps are what a Signer works with.
type Deps struct {
	Resolver arc.Resolver // finds the keys of sealers before us
	Log      *slog.Logger
	Now      func() time.Time // nil: time.Now
}

// Signer is the last filters.Finisher: nothing may change behind it.
type Signer struct {
	cfg    Config
	keys   *Keys
	sealer *LoadedKey // nil: nothing is sealed
	deps   Deps
}

// Load reads the key files and returns a Signer, nil where there is nothing to
// do.
func Load(cfg Config, deps Deps) (*Signer, error) {
	if len(cfg.DKIM.Key) == 0 && !cfg.ARC.seals() {
		return nil, nil
	}
	keys, err := LoadKeys(cfg.DKIM.Key)
	if err != nil {
		return nil, err
	}
	s := &Signer{cfg: cfg, keys: keys, deps: deps}
	if s.deps.Now == nil {
		s.deps.Now = time.Now
	}
	if cfg.ARC.seals() {
		if s.sealer, err = keys.sealer(cfg.ARC); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (a ARC) seals() bool { return a.When == Changed || a.When == Always }

// sealer returns the key of [arc].
func (k *Keys) sealer(a ARC) (*LoadedKey, error) {
	key, ok := k.byName[a.Key]
	switch {
	case a.Key == "":
		return nil, errors.New(`key: missing; write the NAME of a [dkim.key.NAME]`)
	case !ok:
		return nil, fmt.Errorf("key: there is no [dkim.key.%s]", a.Key)
	case key.Signing.Type() != dkim.RSA:
		return nil, fmt.Errorf("key: %s is an Ed25519 key, which few read in chains; name one of kind RSA", a.Key)
	}
	return &key, nil
}

// CheckARC says what is wrong with the section [arc].
func (k *Keys) CheckARC(a ARC) error {
	if !a.seals() {
		return nil
	}
	_, err := k.sealer(a)
	return err
}

// Finish signs one copy on its own. See For.
func (s *Signer) Finish(ctx context.Context, tx *mail.Transaction, v mail.Verdict) ([]mail.Edit, error) {
	return s.For(tx.Message).Finish(ctx, tx, v)
}

// For returns the Finisher of one message, which reads a body once for all
// copies that have the same. given is the message as it came.
func (s *Signer) For(given *mail.Message) filters.Finisher { return &message{signer: s, given: given} }

// message is what is remembered of one message.
type message struct {
	signer *Signer
	given  *mail.Message
	bodies []hashed
	chain  *arc.Result // of given; nil: not verified yet
}

type hashed struct {
	body io.ReaderAt
	size int64
	hash []byte
}

// Finish returns the signatures, for the top of the header.
func (m *message) Finish(ctx context.Context, tx *mail.Transaction, v mail.Verdict) ([]mail.Edit, error) {
	var fields []mail.Field
	var err error
	if m.signer.isOurs(tx.Session) {
		fields, err = m.signer.dkim(tx.Message.Header, m.bodyHash(tx.Message))
	} else {
		fields, err = m.seal(ctx, tx, v)
	}
	if errors.Is(err, errUnsigned) {
		m.signer.deps.Log.WarnContext(ctx, "message not signed", "id", tx.ID, "reason", err.Error())
		return nil, nil
	}
	var edits []mail.Edit
	for _, f := range fields {
		edits = append(edits, mail.InsertHeader{Field: f})
	}
	return edits, err
}

// bodyHash returns a function that reads the body when it is first wanted.
func (m *message) bodyHash(msg *mail.Message) func() ([]byte, error) {
	return func() ([]byte, error) {
		body, _, size := msg.Body().Outer()
		comparable := reflect.TypeOf(body).Comparable()
		for _, b := range m.bodies {
			if comparable && b.body == body && b.size == size {
				return b.hash, nil
			}
		}
		hash, err := dkim.BodyHash(msg.Body(), dkim.Relaxed)
		if err != nil {
			return nil, fmt.Errorf("sign: body: %w", err)
		}
		if comparable {
			m.bodies = append(m.bodies, hashed{body, size, hash})
		}
		return hash, nil
	}
}

// dkim makes the signatures of a message of ours, none where its author's domain
// has no key.
func (s *Signer) dkim(h mail.Header, bodyHash func() ([]byte, error)) ([]mail.Field, error) {
	domain, err := author(h)
	if err != nil {
		return nil, err
	}
	now := s.deps.Now()
	keys := s.keys.For(domain, now)
	if len(keys) == 0 {
		if s.keys.Has(domain) {
			return nil, fmt.Errorf("%w: no key of %s is in its time", errUnsigned, domain)
		}
		return nil, nil
	}
	names := s.fields().Names(h)
	if err := sendable(dkim.Select(h, names)); err != nil {
		return nil, err
	}
	hash, err := bodyHash()
	if err != nil {
		return nil, err
	}
	var fields []mail.Field
	for _, k := range keys {
		one := dkim.Signing{Key: k.Signing, Names: names, BodyHash: hash, At: now}
		if s.cfg.DKIM.Expires > 0 {
			one.Expires = now.Add(s.cfg.DKIM.Expires)
		}
		f, err := one.Sign(h)
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	return fields, nil
}

func (s *Signer) fields() dkim.Fields {
	return dkim.Fields{Over: s.cfg.DKIM.OverSign, Present: s.cfg.DKIM.Sign}
}

// Notification signs a message that we made ourselves, a report about mail that
// could not be delivered. It returns its header, signed where our domain has a
// key.
func (s *Signer) Notification(h mail.Header, body io.ReaderAt, size int64) (mail.Header, error) {
	m := &message{signer: s}
	fields, err := s.dkim(h, m.bodyHash(mail.NewMessage(h, body, size)))
	if err != nil {
		return h, err
	}
	return append(fields, h...), nil
}
