package integration

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

func certificate(t *testing.T, name string) *testkit.Certificate {
	t.Helper()
	c, err := testkit.NewCertificate(testkit.Dir(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// STARTTLS in, TLS out where the next hop offers it.
func TestTLSOnBothSides(t *testing.T) {
	next := certificate(t, "next.test")
	sink := testkit.NewSink()
	sink.TLS = &tls.Config{Certificates: []tls.Certificate{next.Pair}}
	testkit.Up(t, sink)
	ours := certificate(t, "mx1.example.com")
	g := newGateway(t, binaries.race, sink.Addr)
	g.Config.Set("listener.mx", "tls_cert", `"`+ours.Cert+`"`)
	g.Config.Set("listener.mx", "tls_key", `"`+ours.Key+`"`)
	testkit.Up(t, g)

	d := testkit.Connect(t, g.Addr)
	if r := d.Do("EHLO client.test", 250); !strings.Contains(r.Text(), "STARTTLS") {
		t.Fatalf("no STARTTLS: %v", r)
	}
	d.Do("STARTTLS", 220)
	if err := d.StartTLS(&tls.Config{RootCAs: ours.Pool, ServerName: "mx1.example.com"}); err != nil {
		t.Fatal(err)
	}
	if r := d.Do("EHLO client.test", 250); strings.Contains(r.Text(), "STARTTLS") {
		t.Errorf("STARTTLS offered inside TLS: %v", r)
	}
	data := testkit.Message("1", "tls", "x")
	if res := d.Deliver(letter(data)); !res.Accepted() {
		t.Fatal(res)
	}
	m := waitMails(t, sink, 1)[0]
	if !m.TLS {
		t.Error("went out in clear")
	}
	if received := field(added(t, m.Data, data), "Received"); !strings.Contains(received, "with ESMTPS") {
		t.Errorf("Received = %q, want ESMTPS", received)
	}
}

// A next hop whose TLS is broken gets opportunistic mail in clear, and required
// mail not at all.
func TestTLSPolicyOut(t *testing.T) {
	for _, tt := range []struct {
		policy  string
		arrives bool
	}{{"opportunistic", true}, {"required", false}} {
		t.Run(tt.policy, func(t *testing.T) {
			sink := testkit.NewSink()
			// Offers STARTTLS and then can't: no certificate.
			sink.TLS = &tls.Config{}
			testkit.Up(t, sink)
			g := newGateway(t, binaries.race, sink.Addr)
			g.Config.Set(`route."example.com"`, "tls", `"`+tt.policy+`"`)
			testkit.Up(t, g)
			sendWant(t, g.Addr, letter(testkit.Message("1", "tls", "x")), testkit.Dot, 250)
			if tt.arrives {
				waitMails(t, sink, 1)
				return
			}
			testkit.Eventually(t, 60*time.Second, "three attempts", func() bool { return sink.Sessions() >= 3 })
			if n := len(sink.Mails()); n != 0 {
				t.Errorf("%d messages went out in clear", n)
			}
			if q := inState(t, g, "queue"); len(q) != 1 {
				t.Errorf("queue = %v, want the one message", q)
			}
		})
	}
}

// What a client sends behind STARTTLS in clear is never executed (CVE-2011-0411).
func TestNothingInClearSurvivesSTARTTLS(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	ours := certificate(t, "mx1.example.com")
	g := newGateway(t, binaries.race, sink.Addr)
	g.Config.Set("listener.mx", "tls_cert", `"`+ours.Cert+`"`)
	g.Config.Set("listener.mx", "tls_key", `"`+ours.Key+`"`)
	testkit.Up(t, g)
	d := testkit.Connect(t, g.Addr)
	d.Do("EHLO client.test", 250)
	d.Send("STARTTLS\r\nMAIL FROM:<injected@sender.test>\r\n")
	if r, err := d.Read(); err != nil || r.Code != 220 {
		return // refused or dropped: as good
	}
	if err := d.StartTLS(&tls.Config{RootCAs: ours.Pool, ServerName: "mx1.example.com"}); err != nil {
		return
	}
	d.Do("EHLO client.test", 250)
	d.Do("RCPT TO:<u@example.com>", 503)
}
