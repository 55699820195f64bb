package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gatepost/milter"
	"gatepost/milter/wire"
	"gatepost/proxy/spool"
)

// What an MTA's mail waits for in our hold is asked when it is back, at every
// stage, and the message goes back to the MTA with its changes.
func TestScanLaterForAnMTA(t *testing.T) {
	dir := t.TempDir()
	back, taken := sink(t)
	other, socket := "unix:"+dir+"/other.sock", "unix:"+dir+"/m.sock"
	g := startGateway(t, dir, fmt.Sprintf("[milter.main]\nsocket = %q\nquarantine = \"hold\"\nreinject = %q\n", socket, "smtp://"+back)+
		fmt.Sprintf(childSection, other)+"on_error = \"hold\"\n")
	if got := tellMilter(t, socket, "s@sender.test", []string{"u@example.com"}); got != "d" {
		t.Fatalf("the MTA hears %q, want to drop it", got)
	}
	ids := heldIDs(t, g)
	if len(ids) != 1 {
		t.Fatalf("held %v, want one", ids)
	}
	m, err := g.spool.Get(ids[0])
	if err != nil || m.Unscanned != "foreign" || m.User != "" || !m.ClientAddr.IsValid() {
		t.Fatalf("held as %+v, %v", m, err)
	}

	f := &foreign{}
	defer serveMilter(t, f, other)()
	select {
	case got := <-taken:
		to, text, _ := strings.Cut(got, "\n")
		if to != "TO:<u@example.com>" || !strings.Contains(text, "Subject: changed\nX-Foreign: was here\n") || !strings.HasSuffix(text, "\nbody\nwith a bare LF\n") {
			t.Errorf("to %q:\n%s", to, text)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it did not come back to the MTA")
	}
	if got, want := f.saw(), "mail s@sender.test; rcpt u@example.com; message Subject"; got != want {
		t.Errorf("the milter saw %q, want %q", got, want)
	}
}

// An MTA that keeps its mail keeps it: nothing of it is held here.
func TestNoHoldForAnMTA(t *testing.T) {
	dir := t.TempDir()
	listener := relayForExample + "listener.mx.address = \"127.0.0.1:0\"\n"
	g := startGateway(t, dir, listener+fmt.Sprintf("[milter.main]\nsocket = %q\n", "unix:"+dir+"/m.sock")+
		fmt.Sprintf(childSection, "unix:"+dir+"/other.sock")+"on_error = \"hold\"\n")
	if len(g.boot.Warnings) == 0 || !strings.Contains(fmt.Sprint(g.boot.Warnings), `[milter.main] holds nothing`) {
		t.Errorf("warnings: %v", g.boot.Warnings)
	}
	if got := firstAnswer(t, "unix:"+dir+"/m.sock"); got != "t" {
		t.Errorf("the MTA hears %q at connect, want tempfail", got)
	}
	c, _ := dialSMTP(t, g.servers[0].Addr().String())
	c.want("EHLO client.test", "250")
	c.want("MAIL FROM:<s@sender.test>", "250")
	c.want("RCPT TO:<u@example.com>", "250")
	c.want("DATA", "354")
	c.want("Subject: x\r\n\r\nbody\r\n.", "250")
	if n := len(heldOf(g)); n != 1 {
		t.Errorf("%d messages of the listener held, want 1", n)
	}
}

// firstAnswer plays an MTA that announces a client.
func firstAnswer(t *testing.T, socket string) string {
	t.Helper()
	cfg := milter.DefaultClientConfig()
	cfg.Socket = socket
	c, err := milter.Dial(t.Context(), cfg, wire.Negotiation{Version: wire.MaxVersion, Actions: wire.AllActions, Protocol: wire.AllProtocol})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a, err := c.Connect(t.Context(), wire.Connect{Host: "h.test", Family: '4', Port: 1, Address: "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	if a.Reply.Code/100 == 4 {
		return "t"
	}
	return string(rune(a.Code))
}

// heldOf lists what waits for a filter.
func heldOf(g *gateway) (ids []string) {
	for m := range g.spool.All() {
		if m.Progress.State == spool.Hold && m.Unscanned != "" {
			ids = append(ids, m.ID)
		}
	}
	return ids
}
