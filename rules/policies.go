package rules

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"math"
	"slices"

	"gatepost/internal/mail"
	"gatepost/rules/policy"
)

// Policies are the rule files of this generation.
func (s *Set) Policies() *policy.Set { return s.policy }

// Generation names the rule files, lists and access map that this Set judges by:
// another text of any of them has another name. "" where there are none.
func (s *Set) Generation() string { return s.generation }

// generationOf joins the name of rule files and the sum of the access map.
func generationOf(files, access string) string {
	if access == "" {
		return files
	}
	sum := sha256.Sum256([]byte(files + "\x00" + access))
	return hex.EncodeToString(sum[:])[:16]
}

// AccessEntries is how many entries the access map has.
func (s *Set) AccessEntries() int { return s.engine.Table.Len() }

// signed notes in a verdict, and in those of its recipients, which generation
// judged.
func (s *Set) signed(v mail.Verdict) mail.Verdict {
	v.Generation = s.Generation()
	for i := range v.Recipients {
		v.Recipients[i].Generation = v.Generation
	}
	return v
}

// keepsRefusals reports whether the client hears what becomes of the message for
// each recipient (PRDR).
func keepsRefusals(tx *mail.Transaction) bool {
	_, prdr := tx.Envelope.Sender.Arg("PRDR")
	return prdr && tx.Session.Via == mail.ViaSMTP && !tx.Session.Again && len(tx.Envelope.Recipients) > 1
}

// ruled is v, or what a policy rule of the envelope says where v lets pass.
// Rules open nothing: who may relay was decided before.
func (s *Set) ruled(tx *mail.Transaction, rcpt *mail.Path, v mail.Verdict) mail.Verdict {
	if tx.Stage == mail.StageMessage || v.Action >= mail.TempFail {
		return v
	}
	if tx.Stage == mail.StageRcpt && s.oneClass {
		if w := s.otherClass(tx, rcpt.Address); w.Action != mail.Continue {
			return w
		}
	}
	if s.policy.Empty(tx.Stage) {
		return v
	}
	var to mail.Address
	if rcpt != nil {
		to = rcpt.Address
	}
	run := s.policy.Begin(tx, tx.Score())
	res := run.For(to)
	w := mail.Verdict{Action: res.Action, Reply: res.Reply, Reason: res.Reason}
	switch {
	case res.Action == mail.Accept || res.Action == mail.Continue:
		w = v
	case w.Reply.IsZero():
		w.Reply = refusals[w.Action]
	}
	if res.Failed != "" && s.onError != RulesContinue && w.Action < mail.TempFail {
		w.Action, w.Reply, w.Reason = mail.TempFail, notAsked, res.Failed
	}
	w.Rules = res.Hits
	w.Listings, w.Notices = run.Asides(res, to)
	return w
}

// otherClass puts a recipient off that is not treated as the first one is.
func (s *Set) otherClass(tx *mail.Transaction, to mail.Address) mail.Verdict {
	if len(tx.Envelope.Recipients) == 0 {
		return mail.Verdict{}
	}
	first := tx.Envelope.Recipients[0]
	if s.class(first.Address) != s.class(to) {
		return mail.Verdict{
			Action: mail.TempFail,
			Reply:  mail.Reply{Code: 452, Detail: "5.3", Text: "This recipient has other rules than the first, please send it a message of its own"},
			Reason: "policy.recipients: other rules than those of " + first.Address.String(),
		}
	}
	return mail.Verdict{}
}

func (s *Set) class(to mail.Address) string {
	return s.limits.find(to).of + "\x00" + s.policy.Class(to)
}

// refusals are the replies of rules that have none of their own.
var refusals = map[mail.Action]mail.Reply{
	mail.Reject:   {Code: 550, Detail: "7.1", Text: "Message refused by local policy"},
	mail.TempFail: {Code: 451, Detail: "7.1", Text: "Message put off by local policy, please try again later"},
}

var notAsked = mail.Reply{Code: 451, Detail: "3.0", Text: "The message could not be judged; please try again later"}

// policies are the rules that a message is judged by. A nil one has none.
type policies struct {
	set     *Set
	tx      *mail.Transaction
	run     *policy.Run
	results []policy.Result // of each recipient, in the order of judge
	rcpts   []mail.Path
	failed  string // why a change could not be made
}

func (s *Set) newPolicies(tx *mail.Transaction, e evidence) *policies {
	p := &policies{set: s, tx: tx}
	if !s.policy.Empty(mail.StageMessage) {
		p.run = s.policy.Begin(tx, e.score)
	}
	return p
}

// judge applies one recipient's limits, and before them the rules. A virus is
// judged by the limits; a rule can only be stronger where it is held.
func (p *policies) judge(s *Set, tx *mail.Transaction, l limits, e evidence, rcpt mail.Path) outcome {
	if p == nil || p.run == nil {
		return s.judge(tx, l, e, rcpt.Address)
	}
	res := p.run.For(rcpt.Address)
	p.results, p.rcpts = append(p.results, res), append(p.rcpts, rcpt)
	if res.Score != 0 {
		e = e.plus(res.Score)
	}
	if res.Waived {
		l = l.waived()
	}
	o := s.judge(tx, l, e, rcpt.Address)
	if res.Flag {
		o.marks.tagged = true
	}
	if e.infected && o.action != mail.Quarantine {
		return o
	}
	o.changes = res.Changes
	if res.Action > o.action || res.Action == o.action && res.Action > mail.Accept {
		if res.Action == o.action {
			res.Reason = joinReasons(res.Reason, o.reason)
		}
		if o.action.Delivers() {
			o.kind = "" // nothing held it before
		}
		o.action, o.reply, o.reason, o.kind = res.Action, res.Reply, res.Reason, o.kind.Graver(mail.HeldRule)
		if o.reply.IsZero() {
			o.reply = refusals[o.action]
		}
	}
	if res.Failed != "" {
		o = o.unless(p.set.onError, res.Failed)
	}
	return o
}

// unless is o, or what is done where a rule could not be asked.
func (o outcome) unless(word RulesOnError, why string) outcome {
	action := mail.Quarantine
	switch word {
	case RulesContinue:
		return o
	case RulesTempFail:
		action = mail.TempFail
	}
	if action > o.action {
		o.action, o.reply, o.reason, o.kind = action, mail.Reply{}, why, o.kind.Graver(mail.HeldUnscanned)
		if action == mail.TempFail {
			o.reply = notAsked
		}
	}
	return o
}

// verdicts returns what makes a verdict of an outcome. Equal outcomes share
// their edits.
func (p *policies) verdicts(e evidence) func(int, outcome) mail.Verdict {
	type made struct {
		edits []mail.Edit
		alter []mail.Alteration
	}
	type key struct {
		marks   marks
		changes string
	}
	done := make(map[key]made)
	copied := make(map[mail.Address]bool)
	return func(i int, o outcome) mail.Verdict {
		v := mail.Verdict{Action: o.action, Reply: o.reply, Reason: o.reason, Kind: o.kind}
		if !o.action.Delivers() && o.action != mail.Quarantine {
			return v
		}
		k := key{o.marks, o.changes}
		m, ok := done[k]
		if !ok {
			m.edits, m.alter = p.set.fields(p.tx, e, o.marks), p.set.alterations(o.marks)
			if p.run != nil && o.changes != "" {
				m.edits = append(m.edits, p.run.Edits(p.results[i], p.rcpts[i], copied)...)
				alter, err := p.run.Alter(p.results[i])
				if err != nil {
					p.failed = err.Error()
				}
				m.alter = slices.Concat(alter, m.alter)
			}
			done[k] = m
		}
		v.Edits, v.Alter = m.edits, m.alter
		return v
	}
}

// record adds what the rules did, or wanted, to the verdict.
func (p *policies) record(v mail.Verdict) mail.Verdict {
	if p.run == nil {
		return v
	}
	if p.failed != "" { // it can't go out as the rules want it
		o := outcome{action: v.Action}.unless(RulesQuarantine, "a rule's change could not be made: "+p.failed)
		v = mail.Verdict{Action: o.action, Reply: o.reply, Reason: o.reason, Edits: v.Edits}
	}
	v.Rules = joinHits(p.results)
	v.Listings, v.Notices = p.asides()
	return v
}

// joinHits names a rule once that matched for all recipients.
func joinHits(results []policy.Result) []mail.RuleHit {
	count := make(map[mail.RuleHit]int)
	for _, res := range results {
		for _, h := range res.Hits {
			h.Rcpt = mail.Address{}
			count[h]++
		}
	}
	var all []mail.RuleHit
	for _, res := range results {
		for _, h := range res.Hits {
			once := h
			once.Rcpt = mail.Address{}
			switch n := count[once]; {
			case n == 0: // has its line
				continue
			case n >= len(results):
				h = once
				count[once] = 0
			}
			if len(all) < maxHits {
				all = append(all, h)
			}
		}
	}
	return all
}

// maxHits are recorded of one message.
const maxHits = 500

func (p *policies) asides() ([]mail.Listing, []mail.Notice) {
	listings := make(map[mail.Listing]bool)
	var notices []mail.Notice
	for i, res := range p.results {
		ls, ns := p.run.Asides(res, p.rcpts[i].Address)
		for _, l := range ls {
			listings[l] = true
		}
		for _, n := range ns {
			at := slices.IndexFunc(notices, func(o mail.Notice) bool { return o.To == n.To && o.Rule == n.Rule })
			if at >= 0 {
				notices[at].Rcpts = append(notices[at].Rcpts, n.Rcpts...)
			} else {
				notices = append(notices, n)
			}
		}
	}
	sorted := slices.SortedFunc(maps.Keys(listings), compareListings)
	return sorted, notices
}

func compareListings(a, b mail.Listing) int {
	return cmp.Or(cmp.Compare(a.List, b.List), cmp.Compare(a.Key, b.Key), cmp.Compare(a.For, b.For), cmp.Compare(a.Rule, b.Rule))
}

// plus is the evidence with the score that rules add.
func (e evidence) plus(score float64) evidence {
	e.scored = true
	e.score = math.Round((e.score+score)*1000) / 1000
	return e
}

// waived are limits that no score reaches, and no author's policy.
func (l limits) waived() limits {
	l.tag, l.quarantine, l.reject, l.dmarc = math.Inf(1), math.Inf(1), math.Inf(1), DMARCIgnore
	return l
}
