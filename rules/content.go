package rules

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/rules/access"
)

// evidence is what the findings amount to.
type evidence struct {
	infected  bool
	virus     string // the first one's name
	unscanned bool
	why       string // not scanned
	ambiguous string // why mail programs would see different things; "" where they don't
	scanned   bool   // some virus scanner saw all of it
	scored    bool
	score     float64
	broken    string // why the score means nothing
	author    authorship
}

func weigh(findings []mail.Finding) evidence {
	var e evidence
	for _, f := range findings {
		switch f.Name {
		case mail.FindingVirus:
			if !e.infected {
				e.infected, e.virus = true, plain(f.Value, "unknown")
			}
		case mail.FindingNotScanned:
			if !e.unscanned {
				e.unscanned, e.why = true, plain(f.Filter+": "+f.Value, "unknown")
			}
		case mail.FindingAmbiguous:
			e.ambiguous = joinReasons(e.ambiguous, plain(f.Value, "unknown"))
		case mail.FindingClean:
			e.scanned = true
		}
		if f.Name == mail.FindingSpamScore || f.Score != 0 {
			e.scored = true
		}
		e.score += f.Score
		e.author.weigh(f)
	}
	// Sums of decimals miss their threshold by the last bit; no scanner gives
	// more than three places. The header shows the number that was compared.
	e.score = math.Round(e.score*1000) / 1000
	if math.IsNaN(e.score) || math.IsInf(e.score, 0) { // so is every sum with such a part
		e.broken = "the spam score is no number"
	}
	return e
}

// outcome is what becomes of the message for one recipient. Two that are equal
// need one copy.
type outcome struct {
	action  mail.Action
	reply   mail.Reply
	reason  string
	kind    mail.HeldKind // of reason
	marks   marks
	changes string // what policy rules change, as policy.Result has it
}

// marks is what our header fields say that may differ between recipients.
type marks struct {
	tagged    bool
	scored    bool
	score     float64
	required  float64
	unscanned bool
	ambiguous bool
	forged    string // of whom, in X-Gatepost-Forged
	alters    alters
}

// message judges the content for each recipient.
func (s *Set) message(tx *mail.Transaction) mail.Verdict {
	if v, ok := s.unproven(tx); ok {
		return v
	}
	e := weigh(s.judged(tx))
	p := s.newPolicies(tx, e)
	outcomes := settle(s.outcomes(tx, e, p), keepsRefusals(tx))
	verdict := p.verdicts(e)
	strongest := 0
	for i, o := range outcomes {
		if o.action > outcomes[strongest].action {
			strongest = i
		}
	}
	v := verdict(strongest, outcomes[strongest])
	if !allEqual(outcomes) {
		for i, o := range outcomes {
			v.Recipients = append(v.Recipients, verdict(i, o))
		}
	}
	return p.record(v)
}

// allEqual reports whether one copy does for all. Why it is delivered makes no
// difference to it; why it is held does, to whoever decides on it.
func allEqual(outcomes []outcome) bool {
	first := outcomes[0]
	return !slices.ContainsFunc(outcomes, func(o outcome) bool {
		if o.action.Delivers() {
			o.reason, o.kind = first.reason, first.kind
		}
		return o != first
	})
}

// outcomes judges for each recipient by itself; a message without any has one
// outcome.
func (s *Set) outcomes(tx *mail.Transaction, e evidence, p *policies) []outcome {
	m := s.spokenOf(tx)
	if len(tx.Envelope.Recipients) == 0 {
		return []outcome{p.judge(s, tx, s.limits.base, e, mail.Path{}).with(s.hits(tx, m, mail.Address{})...)}
	}
	list := make([]outcome, len(tx.Envelope.Recipients))
	for i, r := range tx.Envelope.Recipients {
		list[i] = p.judge(s, tx, s.limits.find(r.Address), e, r).with(s.hits(tx, m, r.Address)...)
	}
	return list
}

// with adds what the access map says. It comes before content: what is to be
// dropped is dropped, whatever is in it. To hold yields to a refusal, and is
// stronger than a virus policy that drops.
func (o outcome) with(hits ...access.Hit) outcome {
	for _, h := range hits {
		if h.Says == access.DISCARD {
			return outcome{action: mail.Discard, reason: h.String()}
		}
	}
	for _, h := range hits {
		if h.Says == access.QUARANTINE && o.action < mail.Quarantine {
			o.action, o.reason, o.kind = mail.Quarantine, h.String(), mail.HeldRule
		}
	}
	return o
}

// judge applies one recipient's limits. A virus decides alone, so that the
// verdict does not hang on what other filters had the time to say.
func (l limits) judge(e evidence) outcome {
	m := marks{}
	if e.scored && e.broken == "" {
		m = marks{tagged: e.score >= l.tag, scored: true, score: e.score, required: l.tag}
	}
	switch {
	case e.infected:
		return l.judgeVirus(e, m)
	case e.broken != "":
		return outcome{
			action: mail.TempFail,
			reply:  mail.Reply{Code: 451, Detail: "3.0", Text: "The message could not be judged; please try again later"},
			reason: e.broken,
		}
	}
	return l.judgeUnscanned(e, m).and(l.judgeAmbiguous(e, m)).and(l.judgeScore(e, m)).and(l.judgeAuthor(e, m)).and(l.judgeFrom(e, m))
}

// and is the stronger of two outcomes, with the marks of both.
func (o outcome) and(other outcome) outcome {
	both := o.marks
	both.unscanned = both.unscanned || other.marks.unscanned
	both.ambiguous = both.ambiguous || other.marks.ambiguous
	if both.forged == "" {
		both.forged = other.marks.forged
	}
	if other.action > o.action {
		o, other = other, o
	}
	if other.action == o.action {
		o.reason, o.kind = joinReasons(o.reason, other.reason), o.kind.Graver(other.kind)
	}
	o.marks = both
	return o
}

func joinReasons(a, b string) string {
	if a != "" && b != "" {
		a += "; "
	}
	return a + b
}

func (l limits) judgeVirus(e evidence, m marks) outcome {
	o := outcome{reason: "virus " + e.virus + l.of, kind: mail.HeldVirus}
	switch l.virus {
	case VirusQuarantine:
		o.action, o.marks = mail.Quarantine, m
	case VirusDiscard:
		o.action = mail.Discard
	default:
		o.action = mail.Reject
		o.reply = mail.Reply{Code: 554, Detail: "7.1", Text: "Message refused: virus found: " + e.virus}
	}
	return o
}

func (l limits) judgeUnscanned(e evidence, m marks) outcome {
	if !e.unscanned {
		return outcome{action: mail.Accept, marks: m}
	}
	o := outcome{action: mail.Accept, reason: "not scanned: " + e.why + l.of, kind: mail.HeldUnscanned, marks: m}
	switch l.unscanned {
	case UnscannedContinue:
	case UnscannedTag:
		o.marks.unscanned = true
	case UnscannedTempFail:
		o.action = mail.TempFail
		o.reply = mail.Reply{Code: 451, Detail: "7.1", Text: "The message could not be scanned; please try again later"}
	case UnscannedReject:
		o.action = mail.Reject
		o.reply = mail.Reply{Code: 550, Detail: "7.1", Text: "Message refused: a part of it could not be scanned for viruses"}
	default:
		o.action = mail.Quarantine
	}
	return o
}

func (l limits) judgeScore(e evidence, m marks) outcome {
	if !e.scored {
		return outcome{action: mail.Accept, marks: m}
	}
	reached := func(name string, threshold float64) string {
		return fmt.Sprintf("spam score %s reaches %s %s%s", score(e.score), name, score(threshold), l.of)
	}
	switch {
	case e.score >= l.reject:
		return outcome{
			action: mail.Reject,
			reply:  mail.Reply{Code: 550, Detail: "7.1", Text: "Message refused: it looks like spam. If it is not, please reach the recipient in another way"},
			reason: reached("reject", l.reject),
			kind:   mail.HeldSpam,
			marks:  m,
		}
	case e.score >= l.quarantine:
		return outcome{action: mail.Quarantine, reason: reached("quarantine", l.quarantine), kind: mail.HeldSpam, marks: m}
	case m.tagged:
		return outcome{action: mail.Accept, reason: reached("tag", l.tag), marks: m}
	}
	return outcome{action: mail.Accept, marks: m}
}

// settle makes outcomes of several recipients into what one SMTP answer can
// say. Where nobody is to get the message it is refused, for now if that is
// enough for anybody: then nothing is lost. Where somebody is, those who
// refuse have their copy held: it can't be refused any more, and a bounce
// would go to whoever is forged as the sender. Where each recipient has an answer
// of its own, all stands as it is.
func settle(outcomes []outcome, each bool) []outcome {
	if each {
		return outcomes
	}
	worst := func(a mail.Action) int {
		return slices.IndexFunc(outcomes, func(o outcome) bool { return o.action == a })
	}
	if slices.ContainsFunc(outcomes, func(o outcome) bool { return o.action.Delivers() || o.action == mail.Quarantine }) {
		for i, o := range outcomes {
			if o.action >= mail.TempFail {
				outcomes[i] = outcome{action: mail.Quarantine, reason: o.reason + "; held, as others do get the message", kind: o.kind, marks: o.marks, changes: o.changes}
			}
		}
		return outcomes
	}
	i := worst(mail.TempFail)
	if i < 0 {
		i = worst(mail.Reject)
	}
	if i >= 0 {
		return []outcome{outcomes[i]}
	}
	return outcomes
}

// score prints a score or threshold with one to three places.
func score(x float64) string {
	s := strconv.FormatFloat(x, 'f', 3, 64)
	return strings.TrimSuffix(strings.TrimSuffix(s, "0"), "0")
}

const maxPlain = 120 // runes that a reply or reason quotes

// plain makes text from a filter or a list fit for replies and reasons.
func plain(s, empty string) string {
	s = strings.Join(strings.Fields(mail.CleanText(s)), " ")
	if r := []rune(s); len(r) > maxPlain {
		s = string(r[:maxPlain]) + "..."
	}
	if s == "" {
		return empty
	}
	return s
}
