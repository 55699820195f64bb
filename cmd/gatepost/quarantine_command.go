package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/console"
	"gatepost/internal/mail"
)

// heldVerb is a sub-command that acts on held messages.
type heldVerb struct {
	verb                console.HeldVerb
	done, short, long   string
	recipients, lessons bool // has the flag
}

func heldVerbs() []heldVerb {
	return []heldVerb{
		{
			verb: console.HeldRelease, done: "Released", recipients: true,
			short: "Deliver held messages to those they are held for",
			long: `Delivers messages to the recipients that they are held for, or with --rcpt to
those of them that are named; the message stays held for the others. Nobody else
ever gets it. It is not judged again.

A virus, a banned file, and what no filter has judged yet need --approve with the
reason, which is kept in the audit.`,
		},
		{
			verb: console.HeldDelete, done: "Deleted", recipients: true,
			short: "Delete held messages; nobody is told",
			long: `Deletes messages for all recipients that they are held for, or with --rcpt for
those who are named.`,
		},
		{
			verb: console.HeldLearn, done: "Learned", lessons: true,
			short: "Teach SpamAssassin what held messages are",
			long:  `Tells SpamAssassin that messages are spam, or ham: wanted. They stay held.`,
		},
		{
			verb: console.HeldAllow, done: "Allowed the senders of", recipients: true,
			short: "Never again hold mail of their senders as spam, for their recipients",
			long: `Puts the authors of messages on the list of those they are held for: for these
recipients their mail is spared the spam score. What is found in it counts all the
same: viruses, banned files, forged senders. Entries end by themselves
(quarantine.list_age); "gatepost state list personal" shows them, and
"gatepost state drop personal 'RECIPIENT SENDER'" takes one off.`,
		},
		{
			verb: console.HeldBlock, done: "Blocked the senders of", recipients: true,
			short: "Hold all mail of their senders from now on, for their recipients",
			long: `Puts the authors of messages on the list of those they are held for: for these
recipients their mail is held from now on.`,
		},
	}
}

func (a *app) quarantineCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "quarantine",
		Aliases: []string{"hold"},
		Short:   "Look at held mail, release, delete or learn from it",
		Long: `Looks at the messages that are held, and acts on them. Why one is held is of one of
these kinds: ` + heldKindNames() + `.

A gateway that runs is asked over its control socket; when none runs, the spool
is opened directly.`,
		Example: `  gatepost quarantine list --kind spam --rcpt u@example.com
  gatepost quarantine search invoice
  gatepost quarantine release 0twv0000001111111111BB --rcpt u@example.com
  gatepost quarantine release 0twv0000001111111111BB --approve "asked for by J. Doe"
  gatepost quarantine list -j --kind spam --older 7d | gatepost quarantine delete -`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.quarantineListCommand("list"), a.quarantineListCommand("search"), a.queueShowCommand(), a.quarantineDownloadCommand())
	for _, v := range heldVerbs() {
		c.AddCommand(a.quarantineActCommand(v))
	}
	return c
}

func heldKindNames() string {
	var names []string
	for _, k := range mail.HeldKinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

func (a *app) quarantineListCommand(name string) *cobra.Command {
	var f console.Filter
	c := &cobra.Command{
		Use: "list", Short: "List held messages, the oldest first", Args: cobra.NoArgs,
		Long: "Lists held messages. Filters that are given together must all hold. With -j it\nprints one JSON object a line.",
	}
	if name == "search" {
		c.Use, c.Short, c.Args = "search TEXT", "List held messages with this in their subject", cobra.ExactArgs(1)
		c.Long = "Lists held messages whose subject has a text, in any case."
	}
	c.RunE = func(_ *cobra.Command, args []string) error {
		if name == "search" {
			f.Subject = args[0]
		}
		if err := f.Validate(); err != nil {
			return err
		}
		return a.withQueue(func(ctx context.Context, q admin) error { return a.printHeld(ctx, q, f) })
	}
	flags := c.Flags()
	filterFlags(flags, &f)
	_ = flags.MarkHidden("lane")
	if name == "list" {
		flags.Func("subject", "with this `text` in the subject, in any case", text(&f.Subject))
	}
	flags.Func("kind", "held for one of these `kinds`, separated by commas: "+heldKindNames(), func(s string) error { return setKinds(&f, s) })
	completeFilters(c)
	return c
}

func setKinds(f *console.Filter, s string) error {
	for k := range strings.SplitSeq(s, ",") {
		if !slices.Contains(mail.HeldKinds(), mail.HeldKind(k)) {
			return errors.New("want " + heldKindNames())
		}
		f.Kinds = append(f.Kinds, mail.HeldKind(k))
	}
	return nil
}

func (a *app) printHeld(ctx context.Context, q admin, f console.Filter) error {
	out := bufio.NewWriter(a.out)
	n := 0
	err := q.ListHeld(ctx, f, func(m console.Message) error {
		n++
		m.Sender = senderName(m)
		if a.json {
			return writeJSON(out, m)
		}
		fmt.Fprintf(out, "%s  %s  %-10s %6.1f  %s\n", m.ID, time.Unix(m.Arrival, 0).Format(time.DateTime), line(string(m.Kind)), m.Score, line(mail.DecodeWords(m.Subject)))
		fmt.Fprintf(out, "    from %s\n", line(m.Sender))
		for _, r := range m.Recipients {
			fmt.Fprintf(out, "    to   %s\n", line(r.Address))
		}
		_, err := fmt.Fprintf(out, "    why  %s\n", line(m.Reason))
		return err
	})
	if err == nil && n == 0 && !a.json {
		fmt.Fprintln(out, "Nothing is held that fits.")
	}
	if ferr := out.Flush(); err == nil && ferr != nil {
		return exit(exitSystem, "writing: %w", ferr)
	}
	return queueError(err)
}

func (a *app) quarantineDownloadCommand() *cobra.Command {
	c := a.queueCatCommand()
	c.Use, c.Short = "download ID", "Print a held message as it is"
	c.Example = "  gatepost quarantine download 0twv0000001111111111BB > message.eml"
	return c
}

func (a *app) quarantineActCommand(v heldVerb) *cobra.Command {
	var req console.HeldRequest
	var spam, ham bool
	name := string(v.verb)
	c := &cobra.Command{
		Use: name + " ID… | -", Short: v.short, Args: cobra.MinimumNArgs(1),
		Long: v.long + "\n\n\"-\" reads IDs from standard input, separated by white space, or the lines that\n\"list -j\" prints.",
		RunE: func(_ *cobra.Command, args []string) (err error) {
			if req.IDs, err = a.readIDs(args); err != nil {
				return err
			}
			if v.lessons {
				req.Lesson = "spam"
				if ham {
					req.Lesson = "ham"
				}
			}
			return a.withQueue(func(ctx context.Context, q admin) error { return a.actHeld(ctx, q, v, req) })
		},
		ValidArgsFunction: a.completeID,
	}
	flags := c.Flags()
	flags.SortFlags = false
	if v.recipients {
		flags.StringSliceVar(&req.Recipients, "rcpt", nil, "only for these `recipients` of those it is held for")
	}
	switch v.verb {
	case console.HeldRelease:
		flags.Func("approve", "also a virus or a banned file, for this `reason`", text(&req.Approve))
	case console.HeldAllow, console.HeldBlock:
		flags.Func("for", "for how long; a `time` like 30d (default: quarantine.list_age)", age(&req.For))
	}
	if v.lessons {
		flags.BoolVar(&spam, "spam", false, "they are spam")
		flags.BoolVar(&ham, "ham", false, "they are wanted")
		c.MarkFlagsOneRequired("spam", "ham")
		c.MarkFlagsMutuallyExclusive("spam", "ham")
	}
	return c
}

// actHeld acts on messages, as many at a time as one request may name.
func (a *app) actHeld(ctx context.Context, q admin, v heldVerb, req console.HeldRequest) error {
	var all console.Result
	ids := req.IDs
	for part := range slices.Chunk(ids, 1000) {
		req.IDs = part
		r, err := q.ApplyHeld(ctx, v.verb, req)
		if err != nil {
			return queueError(err)
		}
		all.Chosen, all.Done, all.Failures = all.Chosen+r.Chosen, all.Done+r.Done, all.Failures+r.Failures
		all.Failed = append(all.Failed, r.Failed...)
	}
	if a.json {
		if err := a.printJSON(all); err != nil {
			return err
		}
	} else {
		for _, f := range all.Failed {
			fmt.Fprintln(a.err, "gatepost: "+line(f))
		}
		fmt.Fprintf(a.out, "%s %s\n", v.done, count(all.Done, "message"))
	}
	if all.Failures > 0 {
		return silent(exitNoInput)
	}
	return nil
}
