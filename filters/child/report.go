package child

import (
	"cmp"
	"fmt"

	"gatepost/filters"
	"gatepost/internal/mail"
	"gatepost/milter"

	gomilter "github.com/emersion/go-milter"
)

// Answers that go-milter has no names for.
const (
	answerConnFail = gomilter.ActionCode('f') // SMFIR_CONN_FAIL
	answerShutdown = gomilter.ActionCode('4') // SMFIR_SHUTDOWN
)

// What a milter said, as findings. Value: its words; Text: where.
const (
	FindingReject     = "child-reject"
	FindingTempFail   = "child-tempfail"
	FindingDiscard    = "child-discard"
	FindingQuarantine = "child-quarantine"
	FindingRefusedTo  = "child-refused-recipient" // some of several, when nobody waited at RCPT
)

// refuses reports whether an answer keeps the mail from its recipients.
func refuses(a milter.Answer) bool { return action(a) != mail.Continue }

// action is what an answer asks for.
func action(a milter.Answer) mail.Action {
	switch a.Code {
	case gomilter.ActReject:
		return mail.Reject
	case gomilter.ActTempFail, answerShutdown:
		return mail.TempFail
	case gomilter.ActDiscard:
		return mail.Discard
	case gomilter.ActReplyCode:
		if a.Reply.Code >= 500 {
			return mail.Reject
		}
		return mail.TempFail
	}
	return mail.Continue
}

// report puts what the milter said and did into the multiplexer's terms.
func (c *checker) report(at mail.Stage, changes milter.Changes, s *said) filters.Report {
	r := filters.Report{Edits: changes.Edits}
	if s != nil && refuses(s.answer) {
		c.add(&r, at, s)
	} else if c.msg.refusal != nil && c.msg.ended {
		f := c.msg.refusal.finding(FindingRefusedTo)
		r.Findings = append(r.Findings, f)
	}
	if changes.Quarantine {
		r.Findings = append(r.Findings, c.scored(mail.Finding{Name: FindingQuarantine, Value: changes.Reason}))
		r.Vote = c.enforced(filters.Vote{Action: mail.Quarantine, Reason: "milter: " + cmp.Or(changes.Reason, "quarantine")})
	}
	if c.f.cfg.Vote.Mode == Shadow {
		r.Edits = nil
	}
	return r
}

func (c *checker) add(r *filters.Report, at mail.Stage, s *said) {
	a := action(s.answer)
	name := map[mail.Action]string{mail.Reject: FindingReject, mail.TempFail: FindingTempFail, mail.Discard: FindingDiscard}[a]
	f := c.scored(s.finding(name))
	if !s.noted && c.msg.noted != s { // what it said lasts, but is one fact
		r.Findings = append(r.Findings, f)
	}
	s.noted = s.noted || at < mail.StageMail
	c.msg.noted = s
	r.Vote = c.enforced(filters.Vote{Action: a, Reply: replyOf(s.answer), Reason: "milter " + f.Text})
}

// replyOf is the answer in the client's words; zero where it has none.
func replyOf(a milter.Answer) mail.Reply {
	if a.Code == answerShutdown {
		return mail.Reply{Code: 421, Detail: "4.2", Text: "Service unavailable, closing connection"}
	}
	return a.Reply
}

// finding tells what was said, and of what.
func (s *said) finding(name string) mail.Finding {
	value := s.answer.Reply.String()
	if s.answer.Reply.IsZero() {
		value = map[mail.Action]string{mail.Reject: "reject", mail.TempFail: "tempfail", mail.Discard: "discard"}[action(s.answer)]
	}
	text := fmt.Sprintf("said %s at %s", value, s.stage)
	if s.rcpt != nil {
		text += " of " + s.rcpt.Path()
	}
	return mail.Finding{Name: name, Value: value, Text: text}
}

func (c *checker) scored(f mail.Finding) mail.Finding {
	f.Score = c.f.cfg.Vote.Score
	return f
}

func (c *checker) enforced(v filters.Vote) filters.Vote {
	if c.f.cfg.Vote.Mode != Enforce {
		return filters.Vote{}
	}
	return v
}
