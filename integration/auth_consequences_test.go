package integration

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// withAuthors is a gateway that verifies, with a next hop for its own domain and
// one for all others.
func withAuthors(t *testing.T, a *authors, home, abroad *testkit.Sink) *testkit.Gateway {
	t.Helper()
	g := newGateway(t, binaries.race, home.Addr)
	g.Config.Set("dns", "servers", fmt.Sprintf("[%q]", a.zone.Addr))
	g.Config.Set("dns", "timeout", `"20s"`)
	g.Config.Set("filter.auth", "timeout", `"60s"`)
	g.Config.Set(`route."."`, "to", fmt.Sprintf("[%q]", "smtp://"+abroad.Addr))
	return g
}

// TestForgedAuthorIsNeverTold: whoever is forged hears nothing of what can't be
// delivered. Others do, and their notification shows when all is done.
func TestForgedAuthorIsNeverTold(t *testing.T) {
	needRoot(t)
	a := newAuthors(t)
	home, abroad := testkit.NewSink(), testkit.Up(t, testkit.NewSink())
	home.Rule = func(verb, _ string) string {
		if verb == "RCPT" {
			return "550 5.1.1 nobody of that name"
		}
		return ""
	}
	g := withAuthors(t, a, testkit.Up(t, home), abroad)
	testkit.Up(t, g)
	send := func(from, author string) {
		t.Helper()
		text := "From: " + author + "\nTo: u@example.com\nSubject: x\nDate: Fri, 20 Nov 2026 10:00:00 +0000\nMessage-ID: <1@x.test>\n\nbody\n"
		res := testkit.Send(g.Addr, testkit.Letter{From: from, To: []string{"u@example.com"}, Data: wire(text), Client: "127.0.0.66"})
		if !res.Accepted() {
			t.Fatal(res)
		}
	}
	send("forged@evil.test", "a@watch.test") // SPF says yes, and DMARC no: p=none
	send("honest@evil.test", "a@evil.test")
	testkit.Eventually(t, authWait, "both have failed", func() bool {
		return len(abroad.Mails()) > 0 && len(inState(t, g, "queue"))+len(inState(t, g, "slow")) == 0
	})
	if mails := abroad.Mails(); len(mails) != 1 || len(mails[0].To) != 1 || !strings.Contains(mails[0].To[0], "honest@evil.test") {
		t.Errorf("notified: %v", mails)
	}
}

// TestTenantsProveThemselves: customers of a provider that sends for many may
// relay with a signature, or a chain, that holds.
func TestTenantsProveThemselves(t *testing.T) {
	needRoot(t)
	a := newAuthors(t)
	home, abroad := testkit.Up(t, testkit.NewSink()), testkit.Up(t, testkit.NewSink())
	g := withAuthors(t, a, home, abroad)
	g.Config.Set("relay.tenant.signs", "networks", `["127.0.0.44/32"]`)
	g.Config.Set("relay.tenant.signs", "dkim", `["good.test"]`)
	g.Config.Set("relay.tenant.seals", "networks", `["127.0.0.45/32"]`)
	g.Config.Set("relay.tenant.seals", "arc", `["list.test"]`)
	testkit.Up(t, g)
	const plain = "From: a@nothing.test\nTo: u@elsewhere.test\nSubject: x\nDate: Fri, 20 Nov 2026 10:00:00 +0000\nMessage-ID: <1@x.test>\n\nbody\n"
	signed, sealed := a.signed("good.test", "r", plain), a.sealed("list.test", "dmarc=none", plain)
	for _, tt := range []struct {
		name, client, text string
		code               int
	}{
		{"signed", "127.0.0.44", signed, 250},
		{"signed with Ed25519", "127.0.0.44", a.signed("good.test", "e", plain), 250},
		{"not signed", "127.0.0.44", plain, 550},
		{"signed by another", "127.0.0.44", a.signed("evil.test", "r", plain), 550},
		{"signed, and changed", "127.0.0.44", signed + "more\n", 550},
		{"the key can't be had", "127.0.0.44", a.crafted("d=good.test; s=down; h=from", plain), 451},
		{"sealed, where a signature is wanted", "127.0.0.44", sealed, 550},
		{"sealed", "127.0.0.45", sealed, 250},
		{"sealed, and changed", "127.0.0.45", sealed + "more\n", 550},
		{"sealed by another", "127.0.0.45", a.sealed("evil.test", "dmarc=none", plain), 550},
		{"signed, where a seal is wanted", "127.0.0.45", signed, 550},
		{"signed, from elsewhere", "127.0.0.66", signed, 550},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := testkit.Send(g.Addr, testkit.Letter{From: "a@nothing.test", To: []string{"u@elsewhere.test"}, Data: wire(tt.text), Client: tt.client})
			if res.Code != tt.code {
				t.Errorf("%v, want %d", res, tt.code)
			}
		})
	}
	waitMails(t, abroad, 3)
}
