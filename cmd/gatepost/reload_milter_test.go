package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/milter"
	"gatepost/milter/wire"

	protocol "github.com/emersion/go-milter"
)

// A gateway without filters leaves the body to the MTA. A reload that brings a
// filter, between the MTA's negotiation and its client, lets nothing pass that
// the filter did not see.
func TestReloadAfterTheBodyWasSpared(t *testing.T) {
	dir := t.TempDir()
	f := &foreign{}
	serveMilter(t, f, "unix:"+dir+"/other.sock")
	socket := "unix:" + dir + "/m.sock"
	g := startGateway(t, dir, fmt.Sprintf("[milter.main]\nsocket = %q\n", socket))
	early, fresh := dialMilter(t, socket), dialMilter(t, socket)
	if early.Agreed().Protocol&protocol.OptNoBody == 0 {
		t.Fatal("without filters the body is asked for")
	}
	if got := deliverTo(t, fresh); got != protocol.ActContinue {
		t.Fatalf("before the reload: %q", got)
	}
	old, err := os.ReadFile(g.boot.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.boot.File, append(old, fmt.Sprintf(childSection, "unix:"+dir+"/other.sock")...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := deliverTo(t, early); got != protocol.ActTempFail {
		t.Errorf("negotiated before the reload: %q, want a tempfail", got)
	}
	if strings.Contains(f.saw(), "message") {
		t.Errorf("the filter saw %q", f.saw())
	}
	fresh = dialMilter(t, socket)
	if got := deliverTo(t, fresh); got != protocol.ActContinue || !strings.Contains(f.saw(), "message") {
		t.Errorf("negotiated after it: %q, and the filter saw %q", got, f.saw())
	}
}

func dialMilter(t *testing.T, socket string) *milter.Client {
	t.Helper()
	cfg := milter.DefaultClientConfig()
	cfg.Socket = socket
	c, err := milter.Dial(t.Context(), cfg, wire.Negotiation{Version: wire.MaxVersion, Actions: wire.AllActions, Protocol: wire.AllProtocol})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// deliverTo tells a milter one message and returns its last answer.
func deliverTo(t *testing.T, c *milter.Client) protocol.ActionCode {
	t.Helper()
	const text = "From: a@b.test\r\nSubject: x\r\n\r\nbody\r\n"
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for i, step := range []func() (milter.Answer, error){
		func() (milter.Answer, error) {
			return c.Connect(ctx, wire.Connect{Host: "h.test", Family: '4', Port: 1, Address: "192.0.2.1"})
		},
		func() (milter.Answer, error) { return c.Helo(ctx, "h.test") },
		func() (milter.Answer, error) { return c.Mail(ctx, wire.Envelope{Address: "<s@sender.test>"}) },
		func() (milter.Answer, error) { return c.Rcpt(ctx, wire.Envelope{Address: "<u@example.com>"}) },
		func() (milter.Answer, error) { return c.Field(ctx, m.Header[0]) },
		func() (milter.Answer, error) { return c.Field(ctx, m.Header[1]) },
		func() (milter.Answer, error) { return c.EndOfHeader(ctx) },
		func() (milter.Answer, error) { return c.Body(ctx, m.Body()) },
	} {
		if a, err := step(); err != nil || a.Code != protocol.ActContinue {
			t.Fatalf("step %d: %q %v, %v", i, a.Code, a.Reply, err)
		}
	}
	_, a, err := c.End(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return a.Code
}
