package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	protocol "github.com/emersion/go-milter"
	"github.com/spf13/cobra"

	"gatepost/internal/mail"
	"gatepost/milter"
	"gatepost/milter/wire"
	"gatepost/proxy"
)

func (a *app) milterTestCommand() *cobra.Command {
	var f letterFlags
	var file string
	var output bool
	c := &cobra.Command{
		Use:   "test --to SOCKET",
		Short: "Play an MTA: show a milter one message and print what it answers",
		Long: `Plays the part of Postfix: connects to a milter, negotiates, and shows it one
message, stage by stage. Every answer is printed with the time it took, then the
changes that the milter wants, in words. With --output-message the message is
printed as an MTA would deliver it, Received field of the MTA included.

"not wanted" is a command that the milter does without, "no answer" one that it
only listens to.

Header positions count as in Postfix: for "insert" the MTA's own Received field
is number 0, for "change" and "delete" the n-th field of that name is meant.

Exits with 1 when the milter refuses or drops the message, with 75 when it puts
it off, with 69 when it can't be reached, and with 76 when it says what the
protocol does not allow.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.milterTest(context.Background(), f, file, output) },
	}
	f.add(c.Flags())
	c.Flags().StringVar(&file, "mail", "", "the message, a `file`; \"-\" is standard input (default: a short example)")
	c.Flags().BoolVar(&output, "output-message", false, "print the message with the changes made")
	return c
}

// trial is what a milter said to one message, for people and machines.
type trial struct {
	Milter     string       `json:"milter"`
	Negotiated negotiated   `json:"negotiated"`
	Answers    []trialReply `json:"answers"`
	Changes    []string     `json:"changes"`
	Result     string       `json:"result"`          // deliver, quarantine, discard, tempfail, reject
	Stage      string       `json:"stage"`           // that decided
	Reply      string       `json:"reply,omitempty"` // the milter's own
	Reason     string       `json:"reason,omitempty"`
	Recipients []string     `json:"recipients"` // who would get it
	Message    string       `json:"message,omitempty"`
}

type trialReply struct {
	Stage  string  `json:"stage"`
	About  string  `json:"about,omitempty"`
	Answer string  `json:"answer"`
	Millis float64 `json:"ms"`
}

func (a *app) milterTest(ctx context.Context, f letterFlags, file string, output bool) error {
	m, done, err := a.letterMessage(file)
	if err != nil {
		return err
	}
	defer done()
	l, err := newLetter(f, m)
	if err != nil {
		return err
	}
	t := trial{Milter: f.to}
	hear := func(r answer) {
		reply := trialReply{r.stage, line(r.about), cmp.Or(r.silence, words(r.said)), float64(r.took.Microseconds()) / 1000}
		t.Answers = append(t.Answers, reply)
		if !a.json {
			fmt.Fprintf(a.out, "%-14s %-40s %8.1f ms  %s\n", reply.Stage, clip(reply.About, 40), reply.Millis, reply.Answer)
		}
	}
	o, changed, err := a.try(ctx, l, &t, hear)
	if err != nil {
		return err
	}
	return a.printTrial(&t, o, changed, output)
}

// try goes through the dialogue. Its second result is the message as an MTA
// would deliver it.
func (a *app) try(ctx context.Context, l *letter, t *trial, hear hears) (o outcome, changed *mail.Message, err error) {
	start := time.Now()
	c, err := milter.Dial(ctx, l.cfg, offer)
	if err != nil {
		return o, nil, milterError(err)
	}
	defer c.Close()
	t.Negotiated = newNegotiated(c.Agreed())
	if !a.json {
		fmt.Fprintf(a.out, "%-14s %s; %.1f ms\n", "negotiated", t.Negotiated, float64(time.Since(start).Microseconds())/1000)
	}
	o, decided, err := l.open(ctx, c, hear)
	if !decided {
		o, err = l.deliver(ctx, c, hear)
	}
	if err != nil {
		return o, nil, milterError(fmt.Errorf("milter %s: %w", l.cfg.Socket, err))
	}
	if o.rcpts == nil && !refusal(o.said) {
		o.rcpts = l.rcpts // accepted before they were named
	}
	received := mail.NewField("Received", fmt.Sprintf("from %s (%s) by %s with ESMTP id %s; %s", l.tx.Session.Helo,
		milter.ConnectOf(l.tx.Session).Address, hostOfTest, l.tx.ID, l.tx.Start.Format(time.RFC1123Z)))
	header := append(mail.Header{received}, l.tx.Message.Header...)
	exact := c.Agreed().Protocol&protocol.OptHeaderLeadingSpace != 0
	changes, err := milter.Sent{Header: header, Hidden: 1, Exact: exact, Host: hostOfTest}.Changes(o.edits)
	if err != nil {
		return o, nil, milterError(err)
	}
	t.Reason = line(changes.Reason)
	env, changed := mail.Apply(mail.Envelope{Sender: l.tx.Envelope.Sender, Recipients: o.rcpts},
		mail.NewMessage(header, l.tx.Message.Body(), l.tx.Message.BodySize()), changes.Edits)
	for _, r := range env.Recipients {
		t.Recipients = append(t.Recipients, r.String())
	}
	t.Result = resultOf(o.said, changes.Quarantine)
	return o, changed, nil
}

// resultOf is what an MTA does with a message after the milter's last word.
func resultOf(a milter.Answer, quarantine bool) string {
	switch {
	case a.Code == protocol.ActReject, a.Code == protocol.ActReplyCode && a.Reply.Code >= 500:
		return "reject"
	case a.Code == protocol.ActDiscard:
		return "discard"
	case a.Code == protocol.ActTempFail, a.Code == protocol.ActReplyCode, a.Code == 'f', a.Code == '4':
		return "tempfail"
	case quarantine:
		return "quarantine"
	}
	return "deliver"
}

func (a *app) printTrial(t *trial, o outcome, changed *mail.Message, output bool) error {
	t.Stage, t.Changes = o.at, []string{}
	if o.said.Code == protocol.ActReplyCode {
		t.Reply = line(o.said.Reply.String())
	}
	for _, e := range o.edits {
		t.Changes = append(t.Changes, editWords(e))
	}
	delivered := t.Result == "deliver" || t.Result == "quarantine"
	if !delivered {
		t.Recipients = []string{}
	}
	switch {
	case a.json:
		if output && delivered {
			text, err := io.ReadAll(changed.Reader())
			if err != nil {
				return because(err)
			}
			t.Message = string(text)
		}
		if err := a.printJSON(t); err != nil {
			return err
		}
	default:
		for _, text := range t.Changes {
			fmt.Fprintf(a.out, "%-14s %s\n", "change", text)
		}
		fmt.Fprintln(a.out, strings.TrimSpace(fmt.Sprintf("%-14s %s (%s) %s%s", "result", t.Result, t.Stage, t.Reply, t.Reason)))
		if output && delivered {
			fmt.Fprintln(a.out)
			if _, err := io.Copy(a.screen(), changed.Reader()); err != nil {
				return because(err)
			}
		}
	}
	switch t.Result {
	case "deliver", "quarantine":
		return nil
	case "tempfail":
		return silent(exitTemporary)
	}
	return silent(1)
}

// editWords says a change in words.
func editWords(e milter.Edit) string {
	h := e.Header
	field := func() string { return line(h.Name) + ": " + clip(line(h.Value), 200) }
	switch {
	case e.Code == byte(protocol.ActAddHeader):
		return "add " + field()
	case e.Code == byte(protocol.ActInsertHeader):
		return fmt.Sprintf("insert at %d %s", h.Index, field())
	case e.Code == byte(protocol.ActChangeHeader) && h.Value == "":
		return fmt.Sprintf("delete %s number %d", line(h.Name), max(h.Index, 1))
	case e.Code == byte(protocol.ActChangeHeader):
		return fmt.Sprintf("change number %d to %s", max(h.Index, 1), field())
	case e.Code == byte(protocol.ActReplBody):
		return fmt.Sprintf("replace the body: %d bytes", len(e.Body))
	case e.Code == byte(protocol.ActQuarantine):
		return "quarantine: " + line(e.Reason)
	case e.Code == byte(protocol.ActDelRcpt):
		return "delete recipient " + line(e.Envelope.Address)
	case e.Code == byte(protocol.ActChangeFrom):
		return "change sender to " + envelopeWords(e.Envelope)
	}
	return "add recipient " + envelopeWords(e.Envelope)
}

func envelopeWords(e wire.Envelope) string {
	return line(strings.Join(append([]string{e.Address}, e.Args...), " "))
}

// letterMessage reads the message; "" is the example. done gives it back.
func (a *app) letterMessage(file string) (m *mail.Message, done func(), err error) {
	if file == "" {
		m, err = mail.ReadMessage(strings.NewReader(exampleMessage), int64(len(exampleMessage)))
		return m, func() {}, because(err)
	}
	in := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, nil, because(err)
		}
		defer f.Close()
		in = f
	}
	c, err := asSent(in, proxy.DefaultConfig().Limits.MaxSize)
	if err != nil {
		return nil, nil, because(err)
	}
	m, err = mail.ReadMessage(c.file, c.size)
	if c.wrong != "" {
		err = errors.New(c.wrong)
	}
	if err != nil {
		_ = c.file.Close()
		return nil, nil, exit(exitData, "%s: %w", file, err)
	}
	return m, func() { _ = c.file.Close() }, nil
}

// clip cuts text for a column.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(slices.Concat(r[:n-3], []rune("...")))
	}
	return s
}
