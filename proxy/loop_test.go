package proxy

import (
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// TestL1Loop: mail that has come through this host again and again is refused
// while whoever sends it is there.
func TestL1Loop(t *testing.T) {
	for passes, want := range map[int]string{mail.MaxPasses - 1: "250 2.0.0 queued", mail.MaxPasses: "554 5.4.6"} {
		g := start(t, nil)
		c := g.envelope()
		c.do("DATA", "354")
		c.do(strings.Repeat("Received: from a.example\r\n by MX1.b.example (Gatepost) with ESMTP; now\r\n", passes)+simple+".", want)
		if n := len(g.store.messages()); n == 1 != (passes < mail.MaxPasses) {
			t.Errorf("%d passes: %d messages are kept", passes, n)
		}
	}
}
