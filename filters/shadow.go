package filters

import (
	"context"
	"slices"
	"sync"

	"gatepost/internal/mail"
)

// shadows are the checks of a message that nobody waits for. What they find in
// time is recorded behind all other findings, by position; what comes later is
// only logged. One that has not read the message when the verdict is given
// can't: it is dropped.
type shadows struct {
	mu    sync.Mutex
	found map[*step][]mail.Finding
	over  bool
}

// start begins a check that outlives the verdict. When all turns are taken it
// is left out.
func (sh *shadows) start(ctx context.Context, s *step, f Filter, tx *mail.Transaction) {
	if len(s.turns) == cap(s.turns) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Timeout)
	s.checks.start(s.Name, func() {
		defer cancel()
		if o := s.ask(ctx, f, tx); o.err == nil {
			sh.record(s, tx, o.report.Findings)
		}
	})
}

func (sh *shadows) record(s *step, tx *mail.Transaction, findings []mail.Finding) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, f := range findings {
		s.log.Info("shadow", "id", tx.ID, "finding", f.Name, "value", f.Value, "text", f.Text, "late", sh.over)
	}
	if sh.over {
		return
	}
	if sh.found == nil {
		sh.found = make(map[*step][]mail.Finding)
	}
	sh.found[s] = findings
}

// end returns what was found in time, in the order of steps.
func (sh *shadows) end(steps []*step) []mail.Finding {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.over = true
	var all []mail.Finding
	for _, s := range steps {
		for _, f := range slices.Clone(sh.found[s]) {
			f.Filter, f.Score = s.Name, 0
			all = append(all, f)
		}
	}
	return all
}
