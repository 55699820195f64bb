package rehearse

import (
	"reflect"
	"slices"
	"strings"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// Rules is a generation of the rules. rules.Set is one.
type Rules interface {
	Decide(tx *mail.Transaction, rcpt *mail.Path) mail.Verdict
	Generation() string
}

// end is what becomes of the mail for one recipient.
type end struct {
	stage   mail.Stage
	verdict mail.Verdict
}

// action is that of the end; one that never came to a message goes on.
func (e end) action() mail.Action {
	if e.verdict.Action == mail.Continue && e.stage == mail.StageMessage {
		return mail.Accept
	}
	return e.verdict.Action
}

// same reports whether a recipient sees no difference.
func (e end) same(o end) bool {
	if e.action() != o.action() {
		return false
	}
	switch {
	case e.action() >= mail.TempFail:
		return e.verdict.Reply == o.verdict.Reply
	case e.action() == mail.Discard:
		return true
	}
	return equal(e.verdict.Edits, o.verdict.Edits) && equal(e.verdict.Alter, o.verdict.Alter)
}

func equal[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || reflect.DeepEqual(a, b))
}

// replayed is what rules make of a record.
type replayed struct {
	ends []end          // of each recipient of the record, or one of all of it
	hits []mail.RuleHit // of all stages
}

// replay goes through the stages of a session that is over.
func replay(r *history.Record, rules Rules) replayed {
	s := script{record: r, tx: r.Transaction(), rules: rules}
	s.findings, s.tx.Findings = s.tx.Findings, nil
	s.message, s.inside = s.tx.Message, s.tx.Inside
	s.tx.Message, s.tx.Inside = nil, nil
	last := s.tx.Stage
	if v, ended := s.ask(mail.StageConnect, nil); ended || last <= mail.StageHelo {
		return s.all(mail.StageConnect, v)
	}
	if v, ended := s.ask(mail.StageMail, nil); ended || last == mail.StageMail {
		return s.all(mail.StageMail, v)
	}
	return s.recipients(last)
}

type script struct {
	record   *history.Record
	tx       *mail.Transaction
	rules    Rules
	findings []mail.Finding
	message  *mail.Message
	inside   *mail.Inside
	hits     []mail.RuleHit
}

// ask decides at a stage, with what was found until then.
func (s *script) ask(at mail.Stage, rcpt *mail.Path) (v mail.Verdict, ended bool) {
	s.tx.Stage = at
	s.tx.Findings = s.findings
	if at < mail.StageMessage {
		s.tx.Findings = slices.DeleteFunc(slices.Clone(s.findings), func(f mail.Finding) bool { return s.foundAt(f.Filter) > at })
	}
	v = s.rules.Decide(s.tx, rcpt)
	s.hits = append(s.hits, v.Rules...)
	return v, v.Action >= mail.TempFail
}

// foundAt is the first stage at which a filter had something to say.
func (s *script) foundAt(filter string) mail.Stage {
	for _, a := range s.tx.Asked {
		if a.Filter == filter {
			return a.Stage // they are in order
		}
	}
	return mail.StageConnect
}

// all is one end for all recipients.
func (s *script) all(at mail.Stage, v mail.Verdict) replayed {
	return replayed{ends: slices.Repeat([]end{{at, v}}, max(1, len(s.record.Recipients))), hits: s.hits}
}

// recipients goes on from RCPT.
func (s *script) recipients(last mail.Stage) replayed {
	all := s.all(mail.StageRcpt, mail.Verdict{})
	var paths []mail.Path
	var at []int
	judged := s.tx.Envelope.Recipients
	s.tx.Envelope.Recipients = nil
	for i, r := range s.record.Recipients {
		path := mail.Path{Args: r.Args}
		refused := r.Stage != ""
		if refused {
			path.Address, _ = mail.ParseAddress(strings.Trim(r.Address, "<>"), true) // what is none was refused for that
		} else {
			path, judged = judged[0], judged[1:]
		}
		v, ended := s.ask(mail.StageRcpt, &path)
		all.ends[i] = end{mail.StageRcpt, v}
		if !ended && !refused {
			paths, at = append(paths, path), append(at, i)
			s.tx.Envelope.Recipients = paths
		}
	}
	if last == mail.StageMessage && len(paths) > 0 && s.message != nil {
		s.tx.Message, s.tx.Inside = s.message, s.inside
		v, _ := s.ask(mail.StageMessage, nil)
		for k, i := range at {
			all.ends[i] = end{mail.StageMessage, v.For(k)}
		}
	}
	all.hits = s.hits
	return all
}
