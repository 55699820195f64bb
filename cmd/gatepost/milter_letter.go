package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	protocol "github.com/emersion/go-milter"
	"github.com/spf13/pflag"

	"gatepost/internal/mail"
	"gatepost/milter"
	"gatepost/milter/wire"
)

// letterFlags are the client and the envelope of the mail that a milter is
// told of.
type letterFlags struct {
	to                       string
	client, name, helo, from string
	rcpts                    []string
	macros                   map[string]string
	timeout                  time.Duration
}

func (f *letterFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.to, "to", "", "the milter's `socket`, like unix:/run/opendkim/opendkim.sock or inet:8891@127.0.0.1")
	flags.StringVar(&f.client, "client", "192.0.2.1", "the SMTP client's `address`")
	flags.StringVar(&f.name, "name", "", "the client's verified `name` in DNS (default: none)")
	flags.StringVar(&f.helo, "helo", "client.example.org", "its `name` in EHLO")
	flags.StringVar(&f.from, "from", "sender@example.org", "the envelope's sender, an `address`; \"\" is the null sender")
	flags.StringArrayVar(&f.rcpts, "rcpt", nil, "a recipient, an `address`; can be given again (default recipient@example.com)")
	flags.StringToStringVar(&f.macros, "macro", nil, "a macro for all stages, like auth_authen=`user`; can be given again")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long to wait for each answer; five times that at the end of the message")
}

// letter is one mail with its client, as an MTA tells a milter of it.
type letter struct {
	cfg    milter.ClientConfig
	tx     *mail.Transaction
	rcpts  []mail.Path
	macros map[string]string
}

const exampleMessage = "From: sender@example.org\r\nTo: recipient@example.com\r\nSubject: a test of a milter\r\n" +
	"Date: Thu, 01 Jan 2026 12:00:00 +0000\r\nMessage-ID: <test@example.org>\r\n\r\nThis is a test.\r\n"

// hostOfTest is who the tools say they are.
const hostOfTest = "mta.example.net"

func newLetter(f letterFlags, m *mail.Message) (*letter, error) {
	if f.to == "" {
		return nil, exit(exitUsage, "--to is missing: which milter?")
	}
	if err := checkSocket("--to", f.to); err != nil {
		return nil, err
	}
	ip, err := netip.ParseAddr(f.client)
	if err != nil {
		return nil, exit(exitUsage, "--client: %w", err)
	}
	if f.timeout <= 0 {
		return nil, exit(exitUsage, "--timeout must be above 0")
	}
	l := &letter{cfg: milter.DefaultClientConfig(), macros: f.macros}
	l.cfg.Socket, l.cfg.ConnectTimeout, l.cfg.CommandTimeout, l.cfg.ContentTimeout = f.to, f.timeout, f.timeout, 5*f.timeout
	sender, err := mail.ParseAddress(strings.Trim(f.from, "<>"), true)
	if err != nil {
		return nil, exit(exitUsage, "--from %q: %w", f.from, err)
	}
	if len(f.rcpts) == 0 {
		f.rcpts = []string{"recipient@example.com"}
	}
	for _, text := range f.rcpts {
		a, err := mail.ParseAddress(strings.Trim(text, "<>"), true)
		if err != nil || a.IsNull() {
			return nil, exit(exitUsage, "--rcpt %q is no address", text)
		}
		l.rcpts = append(l.rcpts, mail.Path{Address: a})
	}
	now := time.Now()
	l.tx = &mail.Transaction{
		ID: mail.NewID(now), Start: now, Envelope: mail.Envelope{Sender: mail.Path{Address: sender}}, Message: m,
		Session: &mail.Session{Listener: "test", Client: netip.AddrPortFrom(ip.Unmap(), 40000), Name: f.name, Helo: f.helo, ESMTP: true, Start: now},
	}
	return l, nil
}

// offer is what Postfix offers.
var offer = wire.Negotiation{Version: wire.MaxVersion, Actions: wire.AllActions, Protocol: wire.AllProtocol}

// answer is one reply of the milter.
type answer struct {
	stage, about string
	said         milter.Answer
	silence      string // why there was none
	took         time.Duration
}

// outcome is what the milter made of the mail.
type outcome struct {
	at    string // the stage that decided
	said  milter.Answer
	edits []milter.Edit
	rcpts []mail.Path // that were not refused
}

// hears gets each answer as it comes.
type hears func(answer)

// asking is one command with its macros.
type asking struct {
	at           protocol.Code
	stage, about string
	rcpt         *mail.Path
	send         func(context.Context) (milter.Answer, error)
}

// tell sends a step. done reports that the milter has decided.
func (l *letter) tell(ctx context.Context, c *milter.Client, s asking, hear hears) (a milter.Answer, done bool, err error) {
	if s.at != 0 {
		c.Macros(l.macrosFor(c, s))
	}
	start := time.Now()
	if a, err = s.send(ctx); err != nil {
		return a, true, fmt.Errorf("%s: %w", strings.TrimSpace(s.stage+" "+s.about), err)
	}
	hear(answer{s.stage, s.about, a, silence(c.Agreed(), s.stage), time.Since(start)})
	return a, a.Code != protocol.ActContinue && a.Code != protocol.ActSkip, nil
}

// macrosFor adds those of the command line to those that the milter asked for.
func (l *letter) macrosFor(c *milter.Client, s asking) wire.Macros {
	tx := *l.tx
	tx.Stage = mail.StageMail
	if s.at == protocol.CodeConn || s.at == protocol.CodeHelo {
		tx.Stage = mail.StageConnect
	}
	m := milter.MacrosFor(s.at, c.Agreed().Macros, hostOfTest, &tx, s.rcpt)
	for _, name := range slices.Sorted(maps.Keys(l.macros)) {
		bare := strings.Trim(name, "{}")
		m.Values = slices.DeleteFunc(m.Values, func(v wire.Macro) bool { return strings.Trim(v.Name, "{}") == bare })
		if len(bare) > 1 {
			bare = "{" + bare + "}"
		}
		m.Values = append(m.Values, wire.Macro{Name: bare, Value: l.macros[name]})
	}
	return m
}

// open is the part of the dialogue before the first mail.
func (l *letter) open(ctx context.Context, c *milter.Client, hear hears) (o outcome, done bool, err error) {
	s := l.tx.Session
	for _, st := range []asking{
		{protocol.CodeConn, "connect", milter.ConnectOf(s).Host, nil, func(ctx context.Context) (milter.Answer, error) { return c.Connect(ctx, milter.ConnectOf(s)) }},
		{protocol.CodeHelo, "helo", s.Helo, nil, func(ctx context.Context) (milter.Answer, error) { return c.Helo(ctx, s.Helo) }},
	} {
		a, done, err := l.tell(ctx, c, st, hear)
		if done {
			return outcome{at: st.stage, said: a}, true, err
		}
	}
	return outcome{}, false, nil
}

// deliver tells of one mail, from MAIL to its end.
func (l *letter) deliver(ctx context.Context, c *milter.Client, hear hears) (o outcome, err error) {
	sender := l.tx.Envelope.Sender
	a, done, err := l.tell(ctx, c, asking{protocol.CodeMail, "mail", sender.Path(), nil, func(ctx context.Context) (milter.Answer, error) {
		return c.Mail(ctx, wire.Envelope{Address: sender.Path()})
	}}, hear)
	if done {
		return outcome{at: "mail", said: a}, err
	}
	if o, done, err = l.recipients(ctx, c, hear); done {
		return o, err
	}
	for _, st := range l.content(c) {
		a, done, err := l.tell(ctx, c, st, hear)
		if done {
			o.at, o.said = st.stage, a
			return o, err
		}
	}
	o.at = "end"
	_, _, err = l.tell(ctx, c, asking{protocol.CodeEOB, "end", "", nil, func(ctx context.Context) (a milter.Answer, err error) {
		o.edits, a, err = c.End(ctx)
		o.said = a
		return a, err
	}}, hear)
	return o, err
}

// recipients names them all. A refused one is no end, unless all are.
func (l *letter) recipients(ctx context.Context, c *milter.Client, hear hears) (o outcome, done bool, err error) {
	var last milter.Answer
	for _, r := range l.rcpts {
		a, done, err := l.tell(ctx, c, asking{protocol.CodeRcpt, "rcpt", r.Path(), &r, func(ctx context.Context) (milter.Answer, error) {
			return c.Rcpt(ctx, wire.Envelope{Address: r.Path()})
		}}, hear)
		switch {
		case err != nil:
			return outcome{at: "rcpt", said: a}, true, err
		case done && !refusal(a):
			return outcome{at: "rcpt", said: a, rcpts: append(o.rcpts, r)}, true, nil
		case done:
			last = a
		default:
			o.rcpts = append(o.rcpts, r)
		}
	}
	if len(o.rcpts) == 0 {
		return outcome{at: "rcpt", said: last}, true, nil
	}
	return o, false, nil
}

// content is the steps from DATA on, but for the end.
func (l *letter) content(c *milter.Client) []asking {
	steps := []asking{{protocol.CodeData, "data", "", nil, c.Data}}
	for _, f := range l.tx.Message.Header {
		steps = append(steps, asking{stage: "header", about: f.Name(), send: func(ctx context.Context) (milter.Answer, error) { return c.Field(ctx, f) }})
	}
	return append(steps,
		asking{protocol.CodeEOH, "end of header", "", nil, c.EndOfHeader},
		asking{stage: "body", about: fmt.Sprintf("%d bytes", l.tx.Message.BodySize()), send: func(ctx context.Context) (milter.Answer, error) {
			return c.Body(ctx, l.tx.Message.Body())
		}})
}

// refusal reports whether an answer refuses, for now or for good.
func refusal(a milter.Answer) bool {
	switch a.Code {
	case protocol.ActReject, protocol.ActTempFail, protocol.ActReplyCode:
		return true
	}
	return false
}

// declined are the bits by which a milter does without a command, and those by
// which it gives no answer to it.
var declined = map[string]struct{ skip, quiet protocol.OptProtocol }{
	"connect":       {protocol.OptNoConnect, protocol.OptNoConnReply},
	"helo":          {protocol.OptNoHelo, protocol.OptNoHeloReply},
	"mail":          {protocol.OptNoMailFrom, protocol.OptNoMailReply},
	"rcpt":          {protocol.OptNoRcptTo, protocol.OptNoRcptReply},
	"data":          {protocol.OptNoData, protocol.OptNoDataReply},
	"header":        {protocol.OptNoHeaders, protocol.OptNoHeaderReply},
	"end of header": {protocol.OptNoEOH, protocol.OptNoEOHReply},
	"body":          {protocol.OptNoBody, protocol.OptNoBodyReply},
}

// silence says why there was no answer at a stage, "" where there was one.
func silence(n wire.Negotiation, stage string) string {
	switch d := declined[stage]; {
	case n.Protocol&d.skip != 0:
		return "not wanted"
	case n.Protocol&d.quiet != 0:
		return "no answer"
	}
	return ""
}

// words says an answer in words.
func words(a milter.Answer) string {
	switch a.Code {
	case protocol.ActContinue:
		return "continue"
	case protocol.ActAccept:
		return "accept"
	case protocol.ActReject:
		return "reject"
	case protocol.ActTempFail:
		return "tempfail"
	case protocol.ActDiscard:
		return "discard"
	case protocol.ActSkip:
		return "skip the rest"
	case protocol.ActReplyCode:
		return "reply " + line(a.Reply.String())
	case 'f':
		return "connection failed"
	case '4':
		return "shutdown"
	}
	return fmt.Sprintf("%q", byte(a.Code))
}
