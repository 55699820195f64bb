package sign

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/arc"
	"gatepost/internal/dkim"
	"gatepost/internal/mail"
)

// seal makes the set of a message from outside that is passed on. A chain that
// is broken, or of which nobody can tell now, is left as it is: who believes us
// would believe it.
func (m *message) seal(ctx context.Context, tx *mail.Transaction, v mail.Verdict) ([]mail.Field, error) {
	s := m.signer
	if s.sealer == nil || s.cfg.ARC.When == Changed && !m.changed(v.Edits) {
		return nil, nil
	}
	results := s.results(tx.Findings)
	if results == "" { // nobody looked: there is nothing to hand on
		return nil, nil
	}
	chain := m.verified(ctx)
	if chain.Value != arc.None && chain.Value != arc.Pass {
		return nil, nil
	}
	h := tx.Message.Header
	if err := sendable(dkim.Select(h, s.fields().Names(h))); err != nil {
		return nil, err
	}
	hash, err := m.bodyHash(tx.Message)()
	if err != nil {
		return nil, err
	}
	present := slices.Concat(s.cfg.DKIM.Sign, []string{"DKIM-Signature"})
	fields, err := arc.Sealing{
		Key: s.sealer.Signing, Fields: dkim.Fields{Over: s.cfg.DKIM.OverSign, Present: present}, BodyHash: hash,
		At: s.deps.Now(), Incoming: chain.Value, Results: results,
	}.Seal(h)
	if errors.Is(err, arc.ErrFull) || errors.Is(err, arc.ErrChain) { // a filter may have touched the chain
		return nil, fmt.Errorf("%w: %w", errUnsigned, err)
	}
	return fields, err
}

// verified is what the chain says of the message as it came.
func (m *message) verified(ctx context.Context) arc.Result {
	if m.chain == nil {
		r := arc.Verify(ctx, m.given, m.signer.deps.Resolver, arc.Limits{})
		m.chain = &r
	}
	return *m.chain
}

// results prints what was found about the sender, as Authentication-Results
// (RFC 8601 2.2) in our name.
func (s *Signer) results(findings []mail.Finding) string {
	list := []string{s.cfg.Hostname}
	for _, f := range findings {
		switch f.Name {
		case mail.FindingIPRev, mail.FindingSPF, mail.FindingDKIM, mail.FindingDMARC, mail.FindingARC:
			list = append(list, strings.TrimSpace(f.Name+"="+f.Value+" "+f.Text))
		}
	}
	if len(list) == 1 {
		return ""
	}
	return strings.Join(list, "; ")
}

// changed reports whether signatures of others may not hold any more: for the
// body is another, or a field that is signed as a rule. What we add of our own
// changes nothing.
func (m *message) changed(edits []mail.Edit) bool {
	names := m.signer.fields()
	signed := func(name string) bool {
		is := func(n string) bool { return strings.EqualFold(n, name) }
		return strings.EqualFold(name, "From") || slices.ContainsFunc(names.Over, is) || slices.ContainsFunc(names.Present, is)
	}
	at := func(i int) bool { return i >= 0 && i < len(m.given.Header) && signed(m.given.Header[i].Name()) }
	return slices.ContainsFunc(edits, func(e mail.Edit) bool {
		switch e := e.(type) {
		case mail.ReplaceBody:
			return true
		case mail.InsertHeader:
			return signed(e.Field.Name())
		case mail.ChangeHeader:
			return at(e.At)
		case mail.DeleteHeader:
			return at(e.At)
		}
		return false
	})
}
