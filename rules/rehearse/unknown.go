package rehearse

import (
	"strings"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// skipped begins what is recorded of a rule that could not be asked.
const skipped = "skipped: "

// blind names the rules that could not be asked.
func blind(hits []mail.RuleHit) string {
	var all strings.Builder
	for _, h := range hits {
		if !h.Observe && strings.HasPrefix(h.Did, skipped) && !strings.Contains(all.String(), h.Rule+" ") {
			all.WriteString(h.Rule + " ")
		}
	}
	return all.String()
}

// doubts notes what the record can't tell: where it has not what a rule asks
// for, and where its own rules make something else of it than was made.
func (t *tally) doubts(r *history.Record, before, after replayed, old Rules) {
	if now := blind(after.hits); now != blind(before.hits) {
		t.unknowns("rules ask what the record lacks, and count as unknown for it: "+strings.TrimSpace(now), r.ID)
	}
	if r.Generation == "" {
		return // of a corpus: nothing was done yet
	}
	for i, e := range before.ends {
		if asRecorded(r, i, e) {
			continue
		}
		t.unknowns("the rules in use decide otherwise than was decided: "+why(r, i, old), r.ID)
		return
	}
}

// asRecorded reports whether the rules in use do what was done.
func asRecorded(r *history.Record, i int, e end) bool {
	was := r.Action
	if i < len(r.Recipients) && r.Recipients[i].Action != "" {
		was = r.Recipients[i].Action
	}
	is := e.action().String()
	if was == mail.Continue.String() {
		was = mail.Accept.String()
	}
	if is == mail.Continue.String() {
		is = mail.Accept.String()
	}
	return was == is
}

// why guesses what else decided.
func why(r *history.Record, i int, old Rules) string {
	_, rules, _ := strings.Cut(r.Generation, "/")
	switch {
	case rules != old.Generation():
		return "other rules were in use"
	case i < len(r.Recipients) && r.Recipients[i].Stage != "", r.Stage != mail.StageMessage.String():
		return "limits, routes or filters answered, not the rules"
	case r.HeaderCut || r.Omitted > 0 || r.Inside != nil && r.Inside.Omitted > 0:
		return "there was no room for all of it in the record"
	}
	for _, f := range r.Findings {
		if f.Name == mail.FindingFailed {
			return "a filter failed, and its on_error decided"
		}
	}
	return "filters, limits or lists that change decided, not the rules"
}
