package filters

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"gatepost/internal/mail"
)

// judge asks the filters of one stage and the policy. It answers whatever
// happens.
func (s *handler) judge(ctx context.Context, stage mail.Stage, tx *mail.Transaction, rcpt *mail.Path) (v mail.Verdict) {
	m := s.m
	defer func() {
		if p := recover(); p != nil {
			m.log.ErrorContext(ctx, "judging panicked", "panic", fmt.Sprint(p), "stage", stage.String(), "stack", string(debug.Stack()))
			v = unanswered("judging panicked")
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, m.cfg.Deadline, errTimeout)
	defer cancel()
	h := m.newHearing(stage, tx, rcpt)
	h.seats = s.seats
	defer h.body.end()
	if h.refusedAlready() {
		return h.verdict()
	}
	h.inspect(ctx)
	for rest := m.stages[stage]; len(rest) > 0; {
		g := h.group(rest)
		if h.ask(ctx, g) {
			break
		}
		rest = rest[len(g):]
	}
	v = h.finish(ctx, h.verdict(), tx.Message)
	tx.Findings = append(h.tx.Findings, h.shadows.end(m.steps)...)
	tx.Inside, tx.Asked = h.tx.Inside, append(tx.Asked, h.asked...)
	return v
}

// refusedAlready reports whether the policy refuses before the filters with a
// session are told: they are to hear only of what an MTA would tell them.
func (h *hearing) refusedAlready() bool {
	if h.tx.Stage == mail.StageMessage || !slices.ContainsFunc(h.m.stages[h.tx.Stage], (*step).waitedInSession) {
		return false
	}
	return h.m.policy.Decide(h.forPolicy(h.tx.Findings), h.rcpt).Action >= mail.TempFail
}

// hearing is one stage of one transaction while it is judged.
type hearing struct {
	m        *Multiplexer
	rcpt     *mail.Path
	tx       *mail.Transaction // ours: as filters and policy see it
	given    mail.Envelope     // as the client gave it
	forged   []mail.Edit       // what takes away what only we may have written
	body     lease
	ledger   *ledger // nil before the message
	failures []mail.Finding
	vote     Vote         // the strongest; of equal ones that of the first step
	asked    []mail.Asked // in the order of the answers
	seats    seats
	shadows  shadows
}

// newHearing takes a copy of what filters will see: a filter that ignores its
// context may still read when the session has gone on.
func (m *Multiplexer) newHearing(stage mail.Stage, tx *mail.Transaction, rcpt *mail.Path) *hearing {
	view := *tx
	h := &hearing{m: m, rcpt: rcpt, tx: &view}
	view.Stage = stage
	view.Findings = slices.Clone(tx.Findings)
	view.Envelope = tx.Envelope.Clone()
	h.given = view.Envelope
	if tx.Session != nil {
		session := *tx.Session
		session.Macros = maps.Clone(session.Macros)
		view.Session = &session
	}
	if rcpt != nil {
		view.Envelope.Recipients = append(slices.Clone(view.Envelope.Recipients), *rcpt)
	}
	if stage == mail.StageMessage {
		h.body.reader = tx.Message.Body()
		h.ledger = newLedger(tx.Message.Header)
		view.Message = mail.NewMessage(tx.Message.Header, &h.body, tx.Message.BodySize())
		view.Original = view.Message
		h.forged = forged(tx.Message.Header, m.cfg.Hostname)
		h.apply(h.forged)
	}
	return h
}

// apply makes the edits part of what the next ones see.
func (h *hearing) apply(edits []mail.Edit) {
	if len(edits) == 0 || h.ledger == nil {
		return
	}
	h.ledger.add(edits)
	h.tx.Envelope, h.tx.Message = mail.Apply(h.tx.Envelope, h.tx.Message, edits)
}

// ask runs a group and takes what it says into the hearing. It reports whether
// the rest need not be heard.
func (h *hearing) ask(ctx context.Context, g group) (enough bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // those that are not needed any more
	heard := make([]*outcome, len(g))
	var waiting []*question
	for i, s := range g {
		q := &question{at: i, step: s, view: *h.tx} // each has its own
		f, known := h.filter(s, &q.view)
		switch q.filter = f; {
		case known != nil:
			heard[i] = known
		case s.Shadow:
			h.shadows.start(ctx, s, f, &q.view)
		default:
			waiting = append(waiting, q)
		}
	}
	hear(ctx, waiting, func(q *question) bool {
		if len(g) > 1 && len(q.answer.report.Edits) > 0 { // others were shown the message without them
			q.answer = outcome{err: errNoRights, asked: q.answer.asked}
		}
		heard[q.at] = &q.answer
		h.asked = append(h.asked, q.answer.asked)
		enough = h.enough(g, heard)
		return enough
	})
	h.take(ctx, g, heard)
	return enough || h.decided()
}

// hear asks all side by side, until heard says that it is enough. Where that can
// be done without goroutines it is: to start them and to wake up threads for them
// costs more than a quick answer.
func hear(ctx context.Context, questions []*question, heard func(*question) (enough bool)) {
	switch {
	case len(questions) == 1:
		questions[0].ask(ctx)
		heard(questions[0])
		return
	case !slices.ContainsFunc(questions, func(q *question) bool { return !q.Prompt }):
		takeTurns(ctx, questions, heard)
		return
	}
	answers := make(chan *question, len(questions))
	for _, q := range questions {
		q.checks.start(q.Name, func() {
			q.ask(ctx)
			answers <- q
		})
	}
	for range questions {
		if heard(<-answers) {
			return
		}
	}
}

// filter returns whom to ask, or what is known without asking: that a session's
// checker has nothing to do here, or is out of this message.
func (h *hearing) filter(s *step, tx *mail.Transaction) (Filter, *outcome) {
	if s.Session == nil {
		return s.Filter, nil
	}
	seat := h.seats.of(s)
	checker := seat.take()
	switch {
	case !checker.Wants(tx):
		return nil, new(outcome)
	case seat.failed != nil:
		return nil, &outcome{err: seat.failed}
	}
	return checker, nil
}

// decided reports whether a vote makes it needless to ask the steps behind.
// They are then told nothing, as an MTA does: a recipient that one refuses is
// not offered to the next.
func (h *hearing) decided() bool {
	switch h.tx.Stage {
	case mail.StageMessage:
		return h.vote.Action == mail.Reject && h.m.cfg.Collect != CollectAll
	case mail.StageRcpt:
		return withFailures(h.vote.verdict(), h.failures).Action >= mail.TempFail
	}
	return h.vote.Action >= mail.TempFail
}

// enough reports whether the verdict is certain with what was heard so far.
func (h *hearing) enough(g group, heard []*outcome) bool {
	if h.m.cfg.Collect == CollectAll || h.tx.Stage != mail.StageMessage {
		return false
	}
	return h.settled(slices.Concat(h.tx.Findings, h.findings(g, heard)))
}

// findings returns what was heard, in the order of the steps.
func (h *hearing) findings(g group, heard []*outcome) []mail.Finding {
	var found []mail.Finding
	for i, s := range g {
		switch o := heard[i]; {
		case o == nil:
		case o.err != nil:
			found = append(found, failed(s.Name, h.m.onError(s, h.tx), o.err))
		default:
			for _, f := range o.report.Findings {
				f.Filter = s.Name
				found = append(found, f)
			}
		}
	}
	return found
}

// take makes what was heard part of the hearing.
func (h *hearing) take(ctx context.Context, g group, heard []*outcome) {
	for _, f := range h.findings(g, heard) {
		failed := f.Name == mail.FindingFailed
		if failed {
			h.failures = append(h.failures, f)
		}
		if !failed || !slices.Contains(h.tx.Findings, f) { // at every stage of a message it is the same failure
			h.tx.Findings = append(h.tx.Findings, f)
		}
	}
	rebuilt := false
	for i, o := range heard {
		if o == nil {
			continue
		}
		h.apply(o.report.Edits)
		rebuilt = rebuilt || rebuilds(o.report.Edits)
		h.vote = h.vote.stronger(o.report.Vote)
		if o.err != nil && g[i].Session != nil {
			h.seats.of(g[i]).failed = o.err
		}
	}
	if rebuilt {
		h.inspect(ctx)
	}
}

// settled reports whether nothing that could still be found changes the
// verdict, and the verdict lets nothing through: a failure then changes
// nothing either. Mail that would be let through is always heard to the end.
func (h *hearing) settled(findings []mail.Finding) bool {
	tx := h.forPolicy(findings)
	return h.m.policy.Settled(tx, findings) && !delivers(h.m.policy.Decide(tx, h.rcpt))
}

// forPolicy is the transaction as the policy sees it.
func (h *hearing) forPolicy(findings []mail.Finding) *mail.Transaction {
	tx := *h.tx
	tx.Envelope = h.given
	tx.Findings = findings
	return &tx
}

// verdict merges the policy's answer, the votes and the failures. Where the
// policy is certain, neither of these counts: they may not have been waited for.
func (h *hearing) verdict() mail.Verdict {
	v := h.m.policy.Decide(h.forPolicy(h.tx.Findings), h.rcpt)
	var waits []mail.Finding
	if h.tx.Stage == mail.StageMessage {
		waits = unscanned(h.tx.Findings)
	}
	open := len(h.failures)+len(waits) > 0 || h.vote.Action > mail.Continue
	if open && !(h.tx.Stage == mail.StageMessage && h.settled(h.tx.Findings)) {
		v = withFailures(strengthen(v, h.vote.verdict()), h.failures)
	} else {
		waits = nil
	}
	if h.ledger == nil {
		return v
	}
	v.Edits = h.ledger.with(v.Edits)
	v.Recipients = slices.Clone(v.Recipients)
	for i := range v.Recipients {
		v.Recipients[i].Edits = h.ledger.with(v.Recipients[i].Edits)
	}
	if len(waits) > 0 {
		v = untilScanned(v, waits, h.forged)
	}
	return v
}
