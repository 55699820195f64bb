package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/console"
)

func (a *app) queueShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show what is known of one message, and its header",
		Long: `Shows what is known of a message and its header, as it goes out. "cat" prints the
message itself.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.withQueue(func(ctx context.Context, q admin) error { return a.queueShow(ctx, q, bareID(args[0])) })
		},
		ValidArgsFunction: a.completeID,
	}
}

func (a *app) queueShow(ctx context.Context, q admin, id string) error {
	m, err := q.Show(ctx, id)
	if err != nil {
		return queueError(err)
	}
	if a.json {
		return a.printJSON(m)
	}
	facts := [][2]string{
		{"ID", m.ID}, {"Lane", m.Lane}, {"Reason", m.Reason}, {"Not judged by", m.Unscanned},
		{"Received", time.Unix(m.Arrival, 0).Format(time.RFC1123Z)}, {"Size", fmt.Sprintf("%d bytes", m.Size)},
		{"Client", m.Client}, {"Helo", m.Helo}, {"User", m.User}, {"Listener", m.Listener}, {"Split from", m.Group},
		{"Score", fmt.Sprintf("%.1f", m.Score)}, {"Never told", m.Silent}, {"Attempts", fmt.Sprint(m.Attempts)},
	}
	if m.Next != nil {
		facts = append(facts, [2]string{"Next attempt", m.Next.Local().Format(time.RFC1123Z)})
	}
	facts = append(facts, [2]string{"Sender", withArgs(senderName(m), m.Args)})
	for _, f := range facts {
		if f[1] != "" {
			fmt.Fprintf(a.out, "%-15s%s\n", f[0]+":", line(f[1]))
		}
	}
	for _, r := range slices.Concat(m.Recipients, m.Done) {
		fmt.Fprintf(a.out, "%-15s%s: %s", "Recipient:", line(withArgs(r.Address, r.Args)), r.Status)
		if r.Reason != "" {
			fmt.Fprintf(a.out, " (%s)", line(r.Reason))
		}
		fmt.Fprintln(a.out)
	}
	_, err = fmt.Fprintf(a.out, "\n%s", visible(strings.ReplaceAll(m.Header, "\r\n", "\n")))
	return err
}

// withArgs adds the parameters of MAIL or RCPT.
func withArgs(address, args string) string { return strings.TrimSpace(address + " " + args) }

// parts are those of a message that "cat" prints.
type parts struct{ header, body, envelope bool }

func (a *app) queueCatCommand() *cobra.Command {
	var p parts
	c := &cobra.Command{
		Use:   "cat ID",
		Short: "Print a message",
		Long: `Prints a message as it goes out, or of its envelope, header and body only those
that flags ask for, as postcat does. Into a file or a pipe it goes byte for
byte; on a terminal, what could move the cursor or play tricks becomes "?".`,
		Example: `  gatepost queue cat 0twv0000001111111111BB | spamc -R
  gatepost queue cat -e 0twv0000001111111111BB`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.withQueue(func(ctx context.Context, q admin) error { return a.queueCat(ctx, q, bareID(args[0]), p) })
		},
		ValidArgsFunction: a.completeID,
	}
	flags := c.Flags()
	flags.Bool("help", false, "help for cat") // without its short form, which means something else to postcat
	flags.BoolVarP(&p.envelope, "envelope", "e", false, "the envelope")
	flags.BoolVarP(&p.header, "header", "h", false, "the header")
	flags.BoolVarP(&p.body, "body", "b", false, "the body")
	return c
}

func (a *app) queueCat(ctx context.Context, q admin, id string, p parts) error {
	if p == (parts{}) {
		p.header, p.body = true, true
	}
	if p.envelope {
		m, err := q.Show(ctx, id)
		if err != nil {
			return queueError(err)
		}
		if err := a.printEnvelope(m); err != nil || !p.header && !p.body {
			return err
		}
		fmt.Fprintln(a.out)
	}
	out := bufio.NewWriterSize(a.screen(), 32<<10)
	err := q.Content(ctx, id, newCutter(out, p))
	if errors.Is(err, errEnough) {
		err = nil
	}
	if ferr := out.Flush(); err == nil && ferr != nil {
		return exit(exitSystem, "writing: %w", ferr)
	}
	return queueError(err)
}

// printEnvelope prints one fact a line, with postcat's words where it has some.
func (a *app) printEnvelope(m console.Message) error {
	if a.json {
		m.Header = ""
		return a.printJSON(m)
	}
	facts := [][2]string{
		{"queue_id", m.ID}, {"queue_name", m.Lane}, {"message_size", fmt.Sprint(m.Size)},
		{"message_arrival_time", time.Unix(m.Arrival, 0).Format(time.ANSIC)},
		{"client", m.Client}, {"helo", m.Helo}, {"user", m.User}, {"listener", m.Listener}, {"reason", m.Reason},
		{"sender", withArgs(cmp.Or(m.Sender, "<>"), m.Args)},
	}
	for _, r := range m.Recipients {
		facts = append(facts, [2]string{"recipient", withArgs(r.Address, r.Args)})
	}
	for _, r := range m.Done {
		facts = append(facts, [2]string{"done_recipient", withArgs(r.Address, r.Args)})
	}
	for _, f := range facts {
		if f[1] != "" {
			fmt.Fprintf(a.out, "%s: %s\n", f[0], line(f[1]))
		}
	}
	return nil
}

// errEnough ends the reading of a message whose rest nobody wants.
var errEnough = errors.New("enough")

// cutter passes on the header with the empty line below it, or the body, or
// both.
type cutter struct {
	w io.Writer
	parts
	below bool   // of the header
	last  []byte // what the end of the header may begin with
}

func newCutter(w io.Writer, p parts) *cutter {
	return &cutter{w: w, parts: p, last: []byte("\r\n")} // there may be no header at all
}

func (c *cutter) Write(p []byte) (int, error) {
	if c.below {
		return c.pass(p, c.body)
	}
	const end = "\r\n\r\n"
	seen := append(c.last, p...)
	i := bytes.Index(seen, []byte(end))
	if i < 0 {
		c.last = bytes.Clone(seen[max(0, len(seen)-len(end)+1):])
		return c.pass(p, c.header)
	}
	cut := i + len(end) - len(c.last) // in p
	if n, err := c.pass(p[:cut], c.header); err != nil {
		return n, err
	}
	c.below = true
	if !c.body {
		return cut, errEnough
	}
	n, err := c.w.Write(p[cut:])
	return cut + n, err
}

func (c *cutter) pass(p []byte, wanted bool) (int, error) {
	if !wanted {
		return len(p), nil
	}
	return c.w.Write(p)
}
