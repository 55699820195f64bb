package filters

import (
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// A filter with on_error = "hold" that can't tell costs nobody his mail: it is
// taken, held, and judged when the filter is back. What the others say of it is
// asked again then, so nothing of a verdict that is half blind is acted on but a
// refusal.

// unscanned returns the failures, at any stage of the message, for which it is
// held until the filter is back.
func unscanned(findings []mail.Finding) []mail.Finding {
	var waits []mail.Finding
	for _, f := range findings {
		isSame := func(w mail.Finding) bool { return w.Filter == f.Filter }
		if f.Name == mail.FindingFailed && OnError(f.Value) == Hold && !slices.ContainsFunc(waits, isSame) {
			waits = append(waits, f)
		}
	}
	return waits
}

// untilScanned holds for these filters what v doesn't refuse. What it says of
// the rest is said again then; of its edits only those stay that take away what
// was forged.
func untilScanned(v mail.Verdict, waits []mail.Finding, forged []mail.Edit) mail.Verdict {
	v.Recipients = slices.Clone(v.Recipients)
	for i, r := range v.Recipients {
		v.Recipients[i] = untilScanned(r, waits, forged)
	}
	if v.Action >= mail.TempFail {
		return v
	}
	var names []string
	for _, f := range waits {
		names = append(names, f.Filter)
	}
	v.Unscanned, v.Edits = strings.Join(names, ","), forged
	if v.Action < mail.Quarantine {
		v.Action, v.Reply = mail.Quarantine, mail.Reply{}
		v.Reason = fmt.Sprintf("not scanned yet, waits for %s: %s", v.Unscanned, waits[0].Text)
	}
	return v
}

// Up reports whether all of these filters may be asked. One that is not there
// any more is not waited for.
func (m *Multiplexer) Up(names ...string) bool {
	for _, s := range m.steps {
		if slices.Contains(names, s.Name) && !s.breaker.admits() {
			return false
		}
	}
	return true
}
