package mime

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// Mail as people send it is not ambiguous, and all of it is seen: of a hundred
// messages less than one is not.
func TestOrdinary(t *testing.T) {
	all := testkit.OrdinaryMail()
	var odd []string
	for name, text := range all {
		in := inspect(t, message(t, text))
		if len(in.Ambiguous)+len(in.Unseen) > 0 {
			odd = append(odd, fmt.Sprintf("%s: %q %q", name, in.Ambiguous, in.Unseen))
		}
		if len(in.Parts) == 0 {
			t.Errorf("%s: no part", name)
		}
	}
	slices.Sort(odd)
	t.Logf("%d of %d messages are ambiguous or not seen whole", len(odd), len(all))
	if len(odd) > 0 {
		t.Errorf("ambiguous or not seen whole:\n%s", strings.Join(odd, "\n"))
	}
	if len(all) < 150 {
		t.Errorf("only %d messages", len(all))
	}
}
