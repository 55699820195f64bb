package auth

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"gatepost/internal/arc"
	"gatepost/internal/dkim"
	"gatepost/internal/dmarc"
	"gatepost/internal/mail"
)

// message authenticates the author. Signatures, the chain and the policy are
// asked about side by side, so that a signature whose key is slow to come does
// not hide a policy.
func (f *Filter) message(ctx context.Context, tx *mail.Transaction, envelope []mail.Finding) (found []mail.Finding, err error) {
	m := tx.Original
	if m == nil {
		m = tx.Message
	}
	from := dmarc.Authors(m.Header)
	var policies *dmarc.Policies
	var chain arc.Result
	var wg sync.WaitGroup
	// The rest of the time is for what follows from it.
	asking, cancel := context.WithTimeout(ctx, f.cfg.Timeout*3/4)
	defer cancel()
	wg.Go(func() { policies = dmarc.Discover(asking, f.deps.Resolver, from) })
	wg.Go(func() { chain = arc.Verify(asking, m, f.deps.Resolver, arc.Limits{}) })
	signatures, skipped, err := dkim.Verify(asking, m, f.deps.Resolver, dkim.Limits{MaxSignatures: f.cfg.MaxSignatures}, f.deps.Now())
	wg.Wait()
	if err != nil {
		return nil, err
	}
	found = f.signed(signatures, skipped)
	if chain.Value != arc.None {
		found = append(found, f.chained(chain))
	}
	res := policies.Judge(ctx, identities(envelope, signatures))
	return append(append(found, f.judged(tx, res, chain)), f.authors(from)...), nil
}

// identities are the domains in whose name the mail was authenticated, or may
// have been.
func identities(envelope []mail.Finding, signatures []dkim.Verification) (ids []dmarc.Identity) {
	add := func(domain, value string, spf bool) {
		if value == mail.AuthPass || value == mail.AuthTempError {
			ids = append(ids, dmarc.Identity{Domain: domain, SPF: spf, Temporary: value != mail.AuthPass})
		}
	}
	for _, f := range envelope {
		if f.Name == mail.FindingSPF {
			// That of HELO only for the null sender, never beside another (CVE-2019-20790).
			add(f.Property("smtp.mailfrom")+f.Property("smtp.helo"), f.Value, true)
		}
	}
	for _, s := range signatures {
		add(s.Domain, s.Value, false)
	}
	return ids
}

// signed has a finding for each signature, and one for all that were not looked
// at.
func (f *Filter) signed(list []dkim.Verification, skipped int) (found []mail.Finding) {
	best := mail.AuthNone
	for _, s := range list {
		found = append(found, mail.Finding{Name: mail.FindingDKIM, Value: s.Value, Text: properties(
			"header.d", s.Domain, "header.s", s.Selector, "header.a", s.Algorithm, "header.b", s.Start, "policy.unsigned", strings.Join(s.Unsigned, "+"))})
		switch {
		case s.Value == mail.AuthPass:
			best = s.Value
		case s.Value == mail.AuthFail && best != mail.AuthPass:
			best = s.Value
		case best == mail.AuthNone:
			best = mail.AuthNeutral
		}
	}
	if skipped > 0 {
		found = append(found, mail.Finding{Name: mail.FindingDKIM, Value: mail.AuthPolicy, Text: properties("policy.skipped", strconv.Itoa(skipped))})
	}
	if len(list) == 0 {
		found = []mail.Finding{{Name: mail.FindingDKIM, Value: mail.AuthNone}}
	}
	switch best {
	case mail.AuthPass:
		found[0].Score = f.cfg.Score.DKIMPass
	case mail.AuthFail:
		found[0].Score = f.cfg.Score.DKIMFail
	case mail.AuthNone:
		found[0].Score = f.cfg.Score.DKIMNone
	}
	return found
}

// chained is the finding about the chain.
func (f *Filter) chained(c arc.Result) mail.Finding {
	found := mail.Finding{Name: mail.FindingARC, Value: string(c.Value)}
	if c.Value == arc.Pass {
		found.Text = properties("policy.sealer", c.Sealer(), "header.oldest-pass", strconv.Itoa(c.OldestPass))
	}
	if c.Value == arc.Fail {
		found.Score = f.cfg.Score.ARCFail
	}
	return found
}

// judged is the finding about the author.
func (f *Filter) judged(tx *mail.Transaction, r dmarc.Result, chain arc.Result) mail.Finding {
	found := mail.Finding{Name: mail.FindingDMARC, Value: r.Value}
	applied, override, by := string(r.Applied), "", ""
	if r.Value != mail.AuthPass && r.Value != mail.AuthNone {
		override, by = f.override(tx, r, chain)
	}
	switch {
	case override != "":
		applied = string(dmarc.None)
	case r.Value == mail.AuthTempError && (r.Unknown || r.Published == dmarc.Quarantine || r.Published == dmarc.Reject):
		applied = "unknown"
	}
	found.Text = properties("header.from", r.Domain, "policy.published", string(r.Published), "policy.applied", applied,
		"policy.override", override, "policy.sealer", by)
	switch {
	case r.Value == mail.AuthPass:
		found.Score = f.cfg.Score.DMARCPass
	case r.Value == mail.AuthNone:
		found.Score = f.cfg.Score.DMARCNone
	case r.Value == mail.AuthFail && override == "":
		found.Score = f.cfg.Score.DMARCFail
	}
	return found
}

// override says who vouches for mail that DMARC does not pass.
func (f *Filter) override(tx *mail.Transaction, r dmarc.Result, chain arc.Result) (kind, by string) {
	switch {
	case !r.Clear:
		return "", ""
	case f.isForwarder(tx.Session.Addr()):
		return "forwarder", ""
	case chain.Value != arc.Pass:
		return "", ""
	}
	// Who sealed later may have changed what an earlier one saw: from the
	// newest set back, as far as all are trusted.
	for i := len(chain.Sets) - 1; i >= 0 && f.trusts(chain.Sets[i].Domain); i-- {
		if saysPass(chain.Sets[i].Results, r.Domain) {
			return "arc", chain.Sets[i].Domain
		}
	}
	return "", ""
}

// authors tells what is wrong with From fields.
func (f *Filter) authors(from dmarc.From) []mail.Finding {
	switch {
	case from.Odd != "":
		return []mail.Finding{{Name: mail.FindingFrom, Value: from.Odd, Score: f.cfg.Score.FromMalformed, Text: fmt.Sprintf("there is no one clear author: From is %s", from.Odd)}}
	case from.Display != "":
		return []mail.Finding{{Name: mail.FindingFrom, Value: "display", Score: f.cfg.Score.FromDisplay, Text: "the name shown has the domain " + from.Display}}
	}
	return nil
}
