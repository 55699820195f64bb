package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	protocol "github.com/emersion/go-milter"
	"github.com/spf13/cobra"

	"gatepost/milter"
	"gatepost/milter/wire"
)

func (a *app) milterListenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "listen SOCKET",
		Short: "Play a milter: print what an MTA sends, accept everything",
		Long: `Listens on a socket as a milter would, wants to know everything, changes nothing,
and prints what MTAs send: one line for each command, with the number of the
connection, and the macros before it. Of a body only the size is shown. A unix
socket that a dead program left behind is replaced.

Stays up until Ctrl-C.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return a.milterListen(ctx, args[0])
		},
	}
}

func (a *app) milterListen(ctx context.Context, socket string) error {
	if err := checkSocket("SOCKET", socket); err != nil {
		return err
	}
	l, err := milter.Listen(socket)
	if err != nil {
		return because(err)
	}
	e := &eavesdropper{app: a, ctx: ctx}
	e.print(0, "listening", l.Addr().String())
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer e.running.Wait()
	slots := make(chan struct{}, maxEavesdropped)
	for n := 1; ; n++ {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if err != nil {
			return because(err)
		}
		select {
		case slots <- struct{}{}:
		default:
			e.print(n, "refused", fmt.Sprintf("there are %d connections", maxEavesdropped))
			c.Close()
			continue
		}
		e.running.Go(func() {
			defer func() { <-slots }()
			e.serve(n, c)
		})
	}
}

const maxEavesdropped = 200

// eavesdropper prints what MTAs say.
type eavesdropper struct {
	app     *app
	ctx     context.Context // ends all connections; of one command, not kept beyond it
	running sync.WaitGroup
	mu      sync.Mutex // of the output
}

// print writes one line, or one JSON object.
func (e *eavesdropper) print(n int, what, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.app.json {
		_ = e.app.printJSON(struct {
			Time       time.Time `json:"time"`
			Connection int       `json:"connection"`
			Command    string    `json:"command"`
			Text       string    `json:"text,omitempty"`
		}{time.Now(), n, what, line(text)})
		return
	}
	fmt.Fprintln(e.app.out, strings.TrimSpace(fmt.Sprintf("%s #%d %-9s %s", time.Now().Format("15:04:05.000"), n, what, line(text))))
}

func (e *eavesdropper) serve(n int, c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(e.ctx, func() { c.Close() })
	defer stop()
	err := e.talk(n, c)
	if err == nil || errors.Is(err, io.EOF) || e.ctx.Err() != nil {
		e.print(n, "closed", "")
		return
	}
	e.print(n, "broken", err.Error())
}

// talk answers one connection. libmilter would wait two hours for a command, so
// does this.
func (e *eavesdropper) talk(n int, c net.Conn) error {
	in := wire.Reader{R: bufio.NewReader(c)}
	for agreed := false; ; {
		if err := c.SetDeadline(time.Now().Add(7210 * time.Second)); err != nil {
			return err
		}
		p, err := in.Next()
		if err != nil {
			return err
		}
		what, text, err := spell(p)
		if err != nil {
			return err
		}
		if first := protocol.Code(p.Code) == protocol.CodeOptNeg; first == agreed {
			return fmt.Errorf("%w: %s out of order", wire.ErrMalformed, what)
		}
		e.print(n, what, text)
		reply := wire.Append(nil, byte(protocol.ActContinue))
		switch protocol.Code(p.Code) {
		case protocol.CodeOptNeg:
			offer, _ := wire.DecodeNegotiation(p.Data)
			reply = wire.Negotiation{Version: min(offer.Version, wire.MaxVersion), Protocol: offer.Protocol & protocol.OptHeaderLeadingSpace}.Append(nil)
			agreed = true
		case protocol.CodeQuit:
			return nil
		case protocol.CodeMacro, protocol.CodeAbort, protocol.CodeQuitNewConn:
			continue
		}
		if _, err := c.Write(reply); err != nil {
			return err
		}
	}
}

// spell says a command in words.
func spell(p wire.Packet) (what, text string, err error) {
	switch protocol.Code(p.Code) {
	case protocol.CodeOptNeg:
		n, err := wire.DecodeNegotiation(p.Data)
		return "offer", newNegotiated(n).String(), err
	case protocol.CodeMacro:
		m, err := wire.DecodeMacros(p.Data)
		var all []string
		for _, v := range m.Values {
			all = append(all, v.Name+"="+line(v.Value))
		}
		return "macros", fmt.Sprintf("for %q: %s", byte(m.For), strings.Join(all, " ")), err
	case protocol.CodeConn:
		c, err := wire.DecodeConnect(p.Data)
		return "connect", fmt.Sprintf("host=%s family=%c address=%s port=%d", c.Host, c.Family, c.Address, c.Port), err
	case protocol.CodeMail:
		m, err := wire.DecodeEnvelope(p.Data)
		return "mail", envelopeWords(m), err
	case protocol.CodeRcpt:
		m, err := wire.DecodeEnvelope(p.Data)
		return "rcpt", envelopeWords(m), err
	case protocol.CodeHeader:
		h, err := wire.DecodeHeader(p.Data)
		return "header", h.Name + ":" + h.Value, err
	case protocol.CodeBody:
		return "body", fmt.Sprintf("%d bytes", len(p.Data)), nil
	case protocol.CodeEOB:
		return "end", "", nil
	}
	for code, name := range map[protocol.Code]string{
		protocol.CodeHelo: "helo", wire.CodeUnknown: "unknown",
	} {
		if protocol.Code(p.Code) == code {
			text, err := wire.DecodeText(p.Data)
			return name, text, err
		}
	}
	for code, name := range map[protocol.Code]string{
		protocol.CodeData: "data", protocol.CodeEOH: "eoh", protocol.CodeAbort: "abort", protocol.CodeQuit: "quit", protocol.CodeQuitNewConn: "quit_nc",
	} {
		if protocol.Code(p.Code) == code {
			return name, "", nil
		}
	}
	return "", "", fmt.Errorf("%w: unknown command %q", wire.ErrMalformed, p.Code)
}
