package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// traceFlags is what is looked for.
type traceFlags struct {
	history.Query
	ip, since, until string
	verbose          bool
}

func (a *app) traceCommand() *cobra.Command {
	var f traceFlags
	c := &cobra.Command{
		Use:   "trace",
		Short: "Find messages by who, to whom, what, and when",
		Long: `Finds what was decided about messages, the newest last; what is given must all be
true. One hit, or -v, shows all that became of it.

Times are how long ago ("2h", "7d"), "today", "yesterday", or like
"2026-11-21 17:00", in the zone of this host.`,
		Example: `  gatepost trace --from anna@example.org --since 2d
  gatepost trace --to @example.com --action reject --since today
  gatepost trace --subject invoice --ip 192.0.2.0/24
  gatepost trace --sha256 275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.trace(f) },
	}
	c.Flags().StringVar(&f.From, "from", "", "of the sender or the author: an `address`, or @domain; @.domain is all below it")
	c.Flags().StringVar(&f.To, "to", "", "a recipient: an `address`, or @domain")
	c.Flags().StringVar(&f.Domain, "domain", "", "of sender, author or a recipient: a `domain`")
	c.Flags().StringVar(&f.Subject, "subject", "", "a `part` of the subject, in any case")
	c.Flags().StringVar(&f.MessageID, "message-id", "", "the `Message-ID`")
	c.Flags().StringVar(&f.ip, "ip", "", "the client: an `address` or a network")
	c.Flags().StringVar(&f.since, "since", "", "not before this `time`")
	c.Flags().StringVar(&f.until, "until", "", "before this `time`")
	c.Flags().StringVar(&f.Action, "action", "", "what was decided, a `word`: deliver, discard, quarantine, tempfail or reject")
	c.Flags().StringVar(&f.Stage, "stage", "", "where that was, a `word`: connect, helo, mail, rcpt, data or message")
	c.Flags().StringVar(&f.Rule, "rule", "", "a `rule` that matched")
	c.Flags().StringVar(&f.Virus, "virus", "", "the `name` of a virus")
	c.Flags().StringVar(&f.SHA256, "sha256", "", "the `hash` of an attachment")
	c.Flags().StringVar(&f.Host, "host", "", "the `host` of a link; .domain is all below it")
	c.Flags().IntVarP(&f.Limit, "number", "n", 50, "show so `many` at most, the newest; 0: all")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "all that became of each")
	return c
}

// query is what the flags ask for.
func (f *traceFlags) query(now time.Time) (q history.Query, err error) {
	q = f.Query
	q.Descending = true
	if q.Action == verdictName(mail.Accept) {
		q.Action = mail.Accept.String() // as the list calls it
	}
	if q.Since, err = moment("since", f.since, now); err != nil {
		return q, err
	}
	if q.Until, err = moment("until", f.until, now); err != nil {
		return q, err
	}
	for _, address := range []*string{&q.From, &q.To} {
		if *address != "<>" {
			*address = strings.Trim(*address, "<>")
		}
	}
	if f.ip != "" {
		if q.Client, err = netip.ParsePrefix(f.ip); err != nil {
			a, err := netip.ParseAddr(f.ip)
			if err != nil {
				return q, exit(exitUsage, "--ip %q is no address and no network", f.ip)
			}
			q.Client = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		}
	}
	return q, q.Validate()
}

func (a *app) trace(f traceFlags) error {
	q, err := f.query(time.Now())
	if err != nil {
		return historyError(err)
	}
	return a.withHistory(func(ctx context.Context, h history.Finder) error {
		if f.Limit <= 0 {
			return a.traceAll(ctx, h, q, f.verbose)
		}
		var found []history.Record
		more := true
		for more && len(found) < f.Limit {
			q.Limit = min(f.Limit-len(found), 500)
			page, err := h.Search(ctx, q)
			if err != nil {
				return err
			}
			found = append(found, page.Records...)
			q.After, more = page.Next, page.Next != ""
		}
		slices.Reverse(found)
		if err := a.printTrace(ctx, h, found, f.verbose); err != nil {
			return err
		}
		if more {
			fmt.Fprintf(a.err, "gatepost: these are the newest %d; -n 0 shows all\n", len(found))
		}
		return nil
	})
}

// traceAll shows all, the oldest first, and keeps none of it.
func (a *app) traceAll(ctx context.Context, h history.Finder, q history.Query, verbose bool) error {
	q.Descending = false
	n := 0
	err := h.Each(ctx, q, func(r history.Record) error {
		n++
		switch {
		case verbose:
			return a.explainID(ctx, h, r.ID)
		case a.json:
			return a.printJSON(r)
		}
		_, err := fmt.Fprintln(a.out, strings.ReplaceAll(traceLine(&r), "\t", "  "))
		return err
	})
	if err == nil && n == 0 {
		return errNothing
	}
	return err
}

var errNothing = &exitError{exitNoInput, errors.New("nothing is recorded of that kind")}

func (a *app) printTrace(ctx context.Context, h history.Finder, found []history.Record, verbose bool) error {
	if len(found) == 0 {
		return errNothing
	}
	if verbose || len(found) == 1 && !a.json {
		for i, r := range found {
			if i > 0 && !a.json {
				fmt.Fprintln(a.out)
			}
			if err := a.explainID(ctx, h, r.ID); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	if !a.json {
		fmt.Fprintln(w, "TIME\tID\tCLIENT\tFROM\tTO\tACTION\tSUBJECT OR REASON")
	}
	for _, r := range found {
		if a.json {
			if err := a.printJSON(r); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintln(w, traceLine(&r))
	}
	if err := w.Flush(); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}

// traceLine is one record on one line.
func traceLine(r *history.Record) string {
	client := "-"
	if r.Session.Client.IsValid() {
		client = r.Session.Client.Addr().String()
	}
	to := "-"
	if len(r.Recipients) > 0 {
		to = fits(r.Recipients[0].Address, 40)
	}
	if len(r.Recipients) > 1 {
		to += fmt.Sprintf(" +%d", len(r.Recipients)-1+r.Omitted)
	}
	action := verdictName(actionNamed(r.Action))
	if r.Stage != "message" {
		action += " at " + strings.ToUpper(r.Stage)
	}
	return strings.Join([]string{
		r.Time.Local().Format(time.DateTime), cell(r.ID), client, fits(cmp.Or(r.Sender.Address, "<>"), 40), to, action,
		fits(cmp.Or(r.Subject, r.Reason), 60),
	}, "\t")
}
