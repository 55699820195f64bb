package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/config"
	"gatepost/internal/console"
	"gatepost/proxy/spool"
)

// admin is the queue, of the gateway that runs or of a spool at rest.
type admin interface {
	List(ctx context.Context, f console.Filter, yield func(console.Message) error) error
	Show(ctx context.Context, id string) (console.Message, error)
	Content(ctx context.Context, id string, w io.Writer) error
	Apply(ctx context.Context, a console.Action, req console.Request) (console.Result, error)
}

func (a *app) queueCommand() *cobra.Command {
	list := a.queueListCommand()
	queue := &cobra.Command{
		Use:   "queue",
		Short: "Look at the queue and act on messages in it",
		Long: `Looks at the accepted messages that are not delivered yet, quarantine included,
and acts on them. Without a sub-command it lists them.

A gateway that runs is asked over its control socket; when none runs, the
spool is opened directly. IDs are those of the list and the log; "-" reads them
from standard input.`,
		Args: cobra.NoArgs,
		RunE: list.RunE,
	}
	queue.Flags().AddFlagSet(list.Flags())
	queue.AddCommand(list, a.queueShowCommand())
	for _, v := range verbs {
		queue.AddCommand(a.queueActCommand(v))
	}
	return queue
}

// verb is a sub-command that acts on messages.
type verb struct {
	action            console.Action
	done, short, long string
	all               bool // there is --all
}

var verbs = [...]verb{
	{console.Retry, "Retried", "Try the delivery of messages now",
		"Makes messages due now, whatever was found out about their next hops before. Held\nones stay held.", true},
	{console.Hold, "Held", "Keep messages from being delivered until they are released",
		"Keeps messages from being delivered. One that is on its way right now is held if\nsomething is left of it afterwards.", false},
	{console.Release, "Released", "Deliver messages that are held, quarantine included",
		"Delivers held messages to the recipients that they are held for, without judging\nthem again.", false},
	{console.Delete, "Deleted", "Remove messages; nobody is told",
		"Removes messages for good. Neither sender nor recipients are told.", true},
}

func (a *app) queueListCommand() *cobra.Command {
	var f console.Filter
	var older string
	c := &cobra.Command{
		Use:   "list",
		Short: "List messages, the oldest first",
		Long: `Lists messages as mailq does, the oldest first: "*" behind an ID means that it is
being delivered, "!" that it is held. With --json it prints one object a line,
with the keys of "postqueue -j" and more.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) (err error) {
			if older != "" {
				if f.Older, err = config.ParseDuration(older); err != nil {
					return fmt.Errorf("--older: %w; write a time like 4h or 2d", err)
				}
			}
			return a.withQueue(func(ctx context.Context, q admin) error { return a.queueList(ctx, q, f) })
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.Sender, "sender", "", "only from this `address`")
	flags.BoolVar(&f.NullSender, "null-sender", false, "only notifications, which have no sender")
	flags.StringVar(&f.Recipient, "rcpt", "", "only to this `address`")
	flags.StringVar(&f.Domain, "domain", "", "only to this `domain`")
	flags.StringVar(&older, "older", "", "only received longer ago than this `time`, like 4h or 2d")
	flags.StringVar(&f.Reason, "reason", "", "only where the reason of the delay matches this `expression`")
	return c
}

func (a *app) queueShowCommand() *cobra.Command {
	var full, header bool
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show one message",
		Long: `Shows what is known of a message and its header, as it goes out; with --full the
whole message and nothing else, as it goes out.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			id := bareID(args[0])
			return a.withQueue(func(ctx context.Context, q admin) error {
				if full {
					return queueError(q.Content(ctx, id, a.screen()))
				}
				return a.queueShow(ctx, q, id)
			})
		},
	}
	c.Flags().BoolVar(&header, "header", true, "show facts and header")
	c.Flags().BoolVar(&full, "full", false, "print the whole message")
	return c
}

func (a *app) queueActCommand(v verb) *cobra.Command {
	var req console.Request
	var yes bool
	use, needs := string(v.action)+" ID…", string(v.action)+" needs the IDs of messages"
	if v.all {
		use, needs = use+" | --all", needs+", or --all"
	}
	c := &cobra.Command{
		Use:   use,
		Short: v.short,
		Long:  v.long + "\n\nIDs are those of \"gatepost queue list\"; \"-\" reads them from standard input.",
		RunE: func(_ *cobra.Command, args []string) (err error) {
			switch {
			case req.All == (len(args) > 0):
				return errors.New(needs)
			case req.All && v.action == console.Delete && !yes:
				return errors.New("delete --all removes every message, held ones included; add --yes if that is meant")
			}
			if req.IDs, err = a.readIDs(args); err != nil {
				return err
			}
			return a.withQueue(func(ctx context.Context, q admin) error { return a.queueAct(ctx, q, v, req) })
		},
	}
	if v.all {
		c.Flags().BoolVar(&req.All, "all", false, "every message that this fits")
	}
	if v.action == console.Delete {
		c.Flags().BoolVar(&yes, "yes", false, "with --all: yes, all of them")
	}
	return c
}

// bareID drops the marks of the list, for those who paste from it.
func bareID(s string) string { return strings.TrimRight(s, "*!") }

// readIDs returns the IDs of the command line; "-" stands for those on standard
// input, separated by white space.
func (a *app) readIDs(args []string) ([]string, error) {
	var ids []string
	for _, arg := range args {
		if arg != "-" {
			ids = append(ids, bareID(arg))
			continue
		}
		words := bufio.NewScanner(a.in)
		words.Split(bufio.ScanWords)
		for words.Scan() {
			ids = append(ids, bareID(words.Text()))
		}
		if err := words.Err(); err != nil {
			return nil, exit(exitNoInput, "reading IDs: %w", err)
		}
	}
	return ids, nil
}

func (a *app) queueAct(ctx context.Context, q admin, v verb, req console.Request) error {
	r, err := q.Apply(ctx, v.action, req)
	if err != nil {
		return queueError(err)
	}
	if a.json {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else {
		for _, f := range r.Failed {
			fmt.Fprintln(a.err, "gatepost: "+line(f))
		}
		fmt.Fprintf(a.out, "%s: %s\n", v.done, count(r.Done, "message"))
	}
	if len(r.Failed) > 0 {
		return silent(exitNoInput)
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// queueError gives the refusal of a queue its exit code.
func queueError(err error) error {
	var refused *console.Refusal
	switch {
	case err == nil:
		return nil
	case errors.Is(err, spool.ErrNotFound):
		return &exitError{exitNoInput, err}
	case errors.As(err, &refused):
		return &exitError{exitData, err}
	}
	return because(err)
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
		{"ID", m.ID}, {"State", m.QueueName}, {"Reason", m.Reason},
		{"Received", time.Unix(m.Arrival, 0).Format(time.RFC1123Z)}, {"Size", fmt.Sprintf("%d bytes", m.Size)},
		{"Client", m.Client}, {"Helo", m.Helo}, {"Listener", m.Listener}, {"Split from", m.Group},
		{"Score", fmt.Sprintf("%.1f", m.Score)}, {"Attempts", fmt.Sprint(m.Attempts)},
	}
	if m.Next != nil {
		facts = append(facts, [2]string{"Next attempt", m.Next.Local().Format(time.RFC1123Z)})
	}
	facts = append(facts, [2]string{"Sender", senderName(m)})
	for _, f := range facts {
		if f[1] != "" {
			fmt.Fprintf(a.out, "%-14s%s\n", f[0]+":", line(f[1]))
		}
	}
	for _, r := range slices.Concat(m.Recipients, m.Done) {
		fmt.Fprintf(a.out, "%-14s%s: %s", "Recipient:", line(r.Address), r.Status)
		if r.Reason != "" {
			fmt.Fprintf(a.out, " (%s)", line(r.Reason))
		}
		fmt.Fprintln(a.out)
	}
	_, err = fmt.Fprintf(a.out, "\n%s", visible(strings.ReplaceAll(m.Header, "\r\n", "\n")))
	return err
}
