package main

import (
	"fmt"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/milter"
	"gatepost/milter/wire"
	"gatepost/proxy/spool"

	protocol "github.com/emersion/go-milter"
)

// sink takes mail on a port: each message as "recipients\n" and its text.
func sink(t *testing.T) (address string, messages <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan string, 16)
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			takeMail(textproto.NewConn(c), taken)
		}
	}()
	return l.Addr().String(), taken
}

func takeMail(c *textproto.Conn, taken chan<- string) {
	defer c.Close()
	_ = c.PrintfLine("220 sink")
	var rcpts []string
	for {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		switch verb, rest, _ := strings.Cut(line, " "); verb {
		case "RCPT":
			rcpts = append(rcpts, rest)
			_ = c.PrintfLine("250 ok")
		case "DATA":
			_ = c.PrintfLine("354 go on")
			text, err := c.ReadDotBytes()
			if err != nil {
				return
			}
			_ = c.PrintfLine("250 taken")
			taken <- strings.Join(rcpts, " ") + "\n" + string(text)
			rcpts = nil
		case "QUIT":
			_ = c.PrintfLine("221 bye")
			return
		default:
			_ = c.PrintfLine("250 ok")
		}
	}
}

// A message that an MTA's milter entry holds is in our spool when the MTA is
// told to drop it, for those recipients only, and goes back to the MTA when it
// is released.
func TestHoldForAnMTA(t *testing.T) {
	dir := t.TempDir()
	back, taken := sink(t)
	access := filepath.Join(dir, "access")
	if err := os.WriteFile(access, []byte("To:held@example.com QUARANTINE:look at it\nFrom:bad.test QUARANTINE:bad sender\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, dir, fmt.Sprintf("relay.access = %q\n[milter.main]\nsocket = %q\nquarantine = \"hold\"\nreinject = %q\n",
		access, "unix:"+dir+"/m.sock", "smtp://"+back))

	for _, tt := range []struct {
		name, sender string
		want         string // of the MTA
		held         string
	}{
		{"one recipient of two", "s@sender.test", `-"<held@example.com>" c`, "held@example.com"},
		{"all", "s@bad.test", "d", "u@example.com held@example.com"},
		{"none", "s@sender.test", "c", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rcpts := []string{"u@example.com", "held@example.com"}
			if tt.held == "" {
				rcpts = rcpts[:1]
			}
			if got := tellMilter(t, "unix:"+dir+"/m.sock", tt.sender, rcpts); got != tt.want {
				t.Errorf("the MTA hears %q, want %q", got, tt.want)
			}
			ids := heldIDs(t, g)
			if tt.held == "" {
				if len(ids) != 0 {
					t.Errorf("held %v", ids)
				}
				return
			}
			if len(ids) != 1 {
				t.Fatalf("held %v, want one", ids)
			}
			if _, err := g.queue.Release(t.Context(), ids[0]); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-taken:
				to, text, _ := strings.Cut(got, "\n")
				to = strings.NewReplacer("TO:<", "", ">", "").Replace(to)
				if to != tt.held || !strings.Contains(text, "X-Gatepost-ID: "+ids[0]+"\nSubject: x\n") || !strings.HasSuffix(text, "\nbody\nwith a bare LF\n") {
					t.Errorf("to %q, want %q:\n%s", to, tt.held, text)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("what was released did not come back to the MTA")
			}
		})
	}
}

// tellMilter plays an MTA for one message and returns what it is told at the end.
func tellMilter(t *testing.T, socket, sender string, rcpts []string) string {
	t.Helper()
	cfg := milter.DefaultClientConfig()
	cfg.Socket = socket
	offer := wire.Negotiation{Version: wire.MaxVersion, Actions: wire.AllActions, Protocol: wire.AllProtocol}
	c, err := milter.Dial(t.Context(), cfg, offer)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const text = "Subject: x\r\n\r\nbody\nwith a bare LF"
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	steps := []func() (milter.Answer, error){
		func() (milter.Answer, error) {
			return c.Connect(ctx, wire.Connect{Host: "h.test", Family: '4', Port: 1, Address: "192.0.2.1"})
		},
		func() (milter.Answer, error) { return c.Helo(ctx, "h.test") },
		func() (milter.Answer, error) { return c.Mail(ctx, wire.Envelope{Address: "<" + sender + ">"}) },
	}
	for _, r := range rcpts {
		steps = append(steps, func() (milter.Answer, error) { return c.Rcpt(ctx, wire.Envelope{Address: "<" + r + ">"}) })
	}
	steps = append(steps,
		func() (milter.Answer, error) { return c.Field(ctx, m.Header[0]) },
		func() (milter.Answer, error) { return c.EndOfHeader(ctx) },
		func() (milter.Answer, error) { return c.Body(ctx, m.Body()) })
	for i, step := range steps {
		if a, err := step(); err != nil || a.Code != protocol.ActContinue {
			t.Fatalf("step %d: %q %v, %v", i, a.Code, a.Reply, err)
		}
	}
	edits, a, err := c.End(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range edits {
		if e.Header.Name != "X-Gatepost-ID" {
			told = append(told, fmt.Sprintf("%c%q", e.Code, e.Envelope.Address))
		}
	}
	return strings.Join(append(told, string(rune(a.Code))), " ")
}

func heldIDs(t *testing.T, g *gateway) []string {
	t.Helper()
	var ids []string
	for m := range g.spool.All() {
		if m.Progress.State == spool.Hold {
			if m.Origin != spool.FromMilter || m.Listener != "main" || m.Progress.Reason == "" {
				t.Errorf("held as %+v", m)
			}
			ids = append(ids, m.ID)
		}
	}
	return ids
}
