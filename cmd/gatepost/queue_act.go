package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gatepost/internal/console"
)

// verb is a sub-command that acts on messages.
type verb struct {
	name    string
	action  console.Action
	done    string // of messages, in the summary
	short   string
	long    string
	example string
	grave   bool // can't be taken back: many at once need --yes
	orAll   bool // without any choice it is for all
}

func verbs() []verb {
	return []verb{
		{
			name: "hold", action: console.Hold, done: "Held",
			short: "Keep messages from being delivered until \"unhold\"",
			long: `Keeps messages from being delivered. One that is on its way right now is held if
something is left of it afterwards. "unhold" takes it back.`,
			example: "  gatepost queue hold --domain example.com --reason 'timed out'",
		},
		{
			name: "unhold", action: console.Unhold, done: "Released from hold",
			short: "Take \"hold\" back",
			long: `Lets messages go that were held by "gatepost queue hold". What a verdict holds,
the quarantine, stays: "release" is for that.`,
			example: "  gatepost queue unhold --domain example.com",
		},
		{
			name: "release", action: console.Release, done: "Released", grave: true,
			short: "Deliver messages that are held, quarantine included",
			long: `Delivers held messages, whoever or whatever holds them, to the recipients that
they are held for. They are not judged again: a virus that was found in one is
in it still.

A message may be held because a filter could not judge it. It is judged when the
filter is back; --unscanned lets it go without.`,
			example: "  gatepost queue release 0twv0000001111111111BB",
		},
		{
			name: "retry", action: console.Retry, done: "Retried",
			short: "Try the delivery of messages now",
			long: `Makes messages due now, whatever was found out about their next hops before. Held
ones stay held.`,
			example: "  gatepost queue retry 0twv0000001111111111BB",
		},
		{
			name: "flush", action: console.Retry, done: "Retried", orAll: true,
			short: "Try the delivery of everything now, or of a domain or route",
			long: `Makes messages due now, as "retry" does; without IDs and filters, all that are
not held. It is for the time after a next hop was down.`,
			example: `  gatepost queue flush
  gatepost queue flush --domain example.com`,
		},
		{
			name: "move", action: console.Move, done: "Moved",
			short: "Move messages to the slow lane, or back to \"retry\"",
			long: `Moves messages to the lane "slow", where they are tried less often and are in
nobody's way, or back to "retry". Attempts and age stay as they are.`,
			example: "  gatepost queue move --to slow --domain example.net",
		},
		{
			name: "delete", action: console.Delete, done: "Deleted", grave: true,
			short: "Remove messages; nobody is told",
			long: `Removes messages for good. Neither sender nor recipients are told. A message goes
for all its recipients, whichever of them was asked for.`,
			example: `  gatepost queue delete 0twv0000001111111111BB
  gatepost queue delete --null-sender --score-above 10 --dry-run
  gatepost queue list -j | jq -c 'select(.subject=="Hi")' | gatepost queue delete -`,
		},
		{
			name: "bounce", action: console.Bounce, done: "Bounced", grave: true,
			short: "Give messages up now, and tell their senders",
			long: `Gives messages up for the recipients that still wait, as if the next hop had
refused them. The sender is told by the usual rules: never of spam, a virus or
a notification. The quarantine stays; what else is held goes if it is named, or
with --lane hold.`,
			example: "  gatepost queue bounce --rcpt former@example.com",
		},
		{
			name: "expire", action: console.Expire, done: "Expired", grave: true,
			short: "Give messages up as if they were too old",
			long: `Gives messages up for the recipients that still wait, as happens to what can't be
delivered for too long. The sender is told by the usual rules: never of spam,
a virus or a notification. The quarantine stays; what else is held goes if it is
named, or with --lane hold.`,
			example: "  gatepost queue expire --domain closed.example --older 12h",
		},
	}
}

const howToChoose = `

Messages are those with the given IDs, as "list" and the log have them; "-"
reads IDs from standard input, separated by white space, or the lines that
"list -j" prints. Filters choose among these, or without IDs among all
messages; each one that is given must hold. --all means every message.`

// selection is what the command line says of the messages.
type selection struct {
	req console.Request
	yes bool
}

// graveBound is how many messages filters may choose, without --yes, for what
// can't be taken back.
const graveBound = 100

func (a *app) queueActCommand(v verb) *cobra.Command {
	var s selection
	c := &cobra.Command{
		Use:     v.name + " [ID… | -]",
		Short:   v.short,
		Long:    v.long + howToChoose,
		Example: v.example,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if err := v.check(&s, c, len(args) > 0); err != nil {
				return err
			}
			if s.req.IDs, err = a.readIDs(args); err != nil {
				return err
			}
			if len(args) > 0 && len(s.req.IDs) == 0 { // none on standard input: not all of them
				return a.summary(v, s.req, console.Result{DryRun: s.req.DryRun})
			}
			return a.withQueue(func(ctx context.Context, q admin) error { return a.queueAct(ctx, q, v, s.req) })
		},
		ValidArgsFunction: a.completeID,
	}
	flags := c.Flags()
	filterFlags(flags, &s.req.Filter)
	flags.BoolVar(&s.req.All, "all", false, "every message that can be "+strings.ToLower(v.done))
	flags.IntVar(&s.req.Limit, "max", 0, "at most this `number` of messages, the oldest first")
	flags.BoolVarP(&s.req.DryRun, "dry-run", "n", false, "show the messages, and do nothing")
	switch {
	case v.action == console.Move:
		flags.StringVar(&s.req.Lane, "to", "", "the `lane`: slow or retry")
		_ = c.RegisterFlagCompletionFunc("to", cobra.FixedCompletions([]string{console.Slow, console.Waiting}, cobra.ShellCompDirectiveNoFileComp))
	case v.action == console.Release:
		flags.BoolVar(&s.req.Unscanned, "unscanned", false, "also what filters have not judged yet")
	}
	if v.grave {
		flags.BoolVar(&s.yes, "yes", false, fmt.Sprintf("yes, with --all or more than %d messages", graveBound))
	}
	completeFilters(c)
	return c
}

// check says what is wrong with a choice of messages.
func (v verb) check(s *selection, c *cobra.Command, named bool) error {
	r := &s.req
	filtered := !r.Filter.IsZero()
	switch {
	case !named && !filtered && !r.All && v.orAll:
		r.All = true
	case !named && !filtered && !r.All:
		return fmt.Errorf("%s needs IDs of messages, filters or --all", v.name)
	case r.All && (named || filtered):
		return errors.New("--all means every message: give no IDs and no filters with it")
	case v.action == console.Move && r.Lane != console.Slow && r.Lane != console.Waiting:
		return errors.New("move needs --to slow or --to retry")
	case c.Flags().Changed("max") && r.Limit < 1:
		return errors.New("--max: want at least 1")
	}
	if err := r.Filter.Validate(); err != nil {
		return err
	}
	if !v.grave || s.yes || r.DryRun || named {
		return nil
	}
	if r.All {
		return fmt.Errorf("%s --all is for every message; look with --dry-run, and add --yes if that is meant", v.name)
	}
	r.Bound = graveBound
	return nil
}

func (a *app) queueAct(ctx context.Context, q admin, v verb, req console.Request) error {
	out := bufio.NewWriter(a.out)
	table := mailq{w: out}
	r, err := q.DryRun(ctx, v.action, req, func(m console.Message) error {
		return a.printMessage(&table, m)
	})
	if ferr := out.Flush(); err == nil && ferr != nil {
		return exit(exitSystem, "writing: %w", ferr)
	}
	if err != nil {
		return queueError(err)
	}
	return a.summary(v, req, r)
}

// summary prints what was done, in the way of postsuper.
func (a *app) summary(v verb, req console.Request, r console.Result) error {
	if a.json {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else {
		a.summaryText(v, req, r)
	}
	if r.Failures > 0 {
		return silent(exitNoInput)
	}
	return nil
}

func (a *app) summaryText(v verb, req console.Request, r console.Result) {
	for _, f := range r.Failed {
		fmt.Fprintln(a.err, "gatepost: "+line(f))
	}
	if more := r.Failures - len(r.Failed); more > 0 {
		fmt.Fprintf(a.err, "gatepost: … and %d more\n", more)
	}
	done, n := v.done, r.Done
	if req.Lane != "" {
		done += " to " + req.Lane
	}
	if r.DryRun {
		done, n = "Would be "+strings.ToLower(done), r.Chosen
	}
	fmt.Fprintf(a.out, "%s: %s\n", done, count(n, "message"))
	if r.More {
		fmt.Fprintf(a.err, "gatepost: more messages match than --max %d\n", req.Limit)
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
