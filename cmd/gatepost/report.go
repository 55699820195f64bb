package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/history"
)

type reportFlags struct {
	since, until string
	yesterday    bool
	csv          bool
	top          int
}

func (a *app) reportCommand() *cobra.Command {
	var f reportFlags
	c := &cobra.Command{
		Use:   "report",
		Short: "Sum up what was decided: how much, when, from whom, to whom",
		Long: `Sums up what was recorded, of today unless a time is given: messages and refusals
by what was decided, by the hour, deliveries, and who and what comes most often.`,
		Example: `  gatepost report --yesterday | mail -s "Mail of yesterday" postmaster
  gatepost report --since 7d --csv > week.csv`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.reportOf(f) },
	}
	c.Flags().StringVar(&f.since, "since", "today", "from this `time` on")
	c.Flags().StringVar(&f.until, "until", "now", "before this `time`")
	c.Flags().BoolVar(&f.yesterday, "yesterday", false, "of yesterday")
	c.Flags().BoolVar(&f.csv, "csv", false, "as CSV, for a spreadsheet")
	c.Flags().IntVar(&f.top, "top", 10, "so `many` of each list")
	c.MarkFlagsMutuallyExclusive("yesterday", "since")
	c.MarkFlagsMutuallyExclusive("yesterday", "until")
	return c
}

func (a *app) reportOf(f reportFlags) error {
	if f.yesterday {
		f.since, f.until = "yesterday", "today"
	}
	now := time.Now()
	since, err := moment("since", f.since, now)
	if err != nil {
		return err
	}
	until, err := moment("until", f.until, now)
	if err != nil {
		return err
	}
	if !since.Before(until) {
		return exit(exitUsage, "--since is not before --until")
	}
	return a.withHistory(func(ctx context.Context, h history.Finder) error {
		r, err := h.Report(ctx, since, until, f.top)
		switch {
		case err != nil:
			return err
		case a.json:
			return a.printJSON(r)
		case f.csv:
			return a.printReportCSV(r)
		}
		return a.printReport(r)
	})
}

// tally is one line of a sum.
type tally struct {
	name  string
	count int
	bytes int64
}

// sums adds up the hours by what was decided, messages first.
func sums(r history.Report) []tally {
	by := make(map[string]*tally)
	for _, b := range r.Hours {
		name := "messages: " + verdictName(actionNamed(b.Action))
		if b.Stage != "message" {
			name = "refused at " + strings.ToUpper(b.Stage) + ": " + b.Action
		}
		if by[name] == nil {
			by[name] = &tally{name: name}
		}
		by[name].count += b.Count
		by[name].bytes += b.Bytes
	}
	var all []tally
	for _, name := range slices.Sorted(maps.Keys(by)) {
		all = append(all, *by[name])
	}
	return all
}

// lists are those of a report with their titles.
func lists(r history.Report) []struct {
	title string
	names []history.Named
} {
	return []struct {
		title string
		names []history.Named
	}{{"Senders", r.Senders}, {"Recipients", r.Recipients}, {"Clients", r.Clients}, {"Viruses", r.Viruses}, {"Rules", r.Rules}}
}

func (a *app) printReport(r history.Report) error {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "Mail from %s to %s\n", r.Since.Local().Format(time.DateTime), r.Until.Local().Format(time.DateTime))
	all := sums(r)
	if len(all) == 0 {
		fmt.Fprintln(w, "\nNothing is recorded.")
	}
	for i, t := range all {
		if i == 0 {
			fmt.Fprintln(w, "\nDecisions")
		}
		fmt.Fprintf(w, "  %s\t%d%s\n", t.name, t.count, kilobytes(t.bytes))
	}
	if len(r.Attempts) > 0 {
		_ = w.Flush() // the last one tells
		fmt.Fprintln(w, "\nDelivery attempts, by recipient")
		for _, result := range slices.Sorted(maps.Keys(r.Attempts)) {
			fmt.Fprintf(w, "  %s\t%d\n", cell(result), r.Attempts[result])
		}
	}
	_ = w.Flush()
	printHours(w, r)
	for _, l := range lists(r) {
		if len(l.names) == 0 {
			continue
		}
		_ = w.Flush()
		fmt.Fprintf(w, "\n%s\n", l.title)
		for _, n := range l.names {
			fmt.Fprintf(w, "  %d\t%s\n", n.Count, cell(n.Name))
		}
	}
	if err := w.Flush(); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}

func kilobytes(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("\t%d kB", (n+999)/1000)
}

// printHours counts by the hour what was taken and what was not.
func printHours(w *tabwriter.Writer, r history.Report) {
	type hour struct{ taken, held, later, refused int }
	by := make(map[int64]*hour)
	for _, b := range r.Hours {
		at := b.Hour.Unix()
		if by[at] == nil {
			by[at] = &hour{}
		}
		switch b.Action {
		case "quarantine", "discard":
			by[at].held += b.Count
		case "tempfail":
			by[at].later += b.Count
		case "reject":
			by[at].refused += b.Count
		default:
			by[at].taken += b.Count
		}
	}
	for i, at := range slices.Sorted(maps.Keys(by)) {
		if i == 0 {
			fmt.Fprintln(w, "\nHour\tdelivered\theld or dropped\tput off\trefused")
		}
		h := by[at]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\n", time.Unix(at, 0).Local().Format("2006-01-02 15:04"), h.taken, h.held, h.later, h.refused)
	}
}

func (a *app) printReportCSV(r history.Report) error {
	w := csv.NewWriter(a.out)
	row := func(fields ...string) { _ = w.Write(fields) } // Error tells
	row("list", "name", "count", "bytes", "hour")
	for _, b := range r.Hours {
		row("decisions", b.Stage+" "+b.Action, strconv.Itoa(b.Count), strconv.FormatInt(b.Bytes, 10), b.Hour.Format(time.RFC3339))
	}
	for _, result := range slices.Sorted(maps.Keys(r.Attempts)) {
		row("attempts", spreadsheet(result), strconv.Itoa(r.Attempts[result]), "", "")
	}
	for _, l := range lists(r) {
		for _, n := range l.names {
			row(strings.ToLower(l.title), spreadsheet(n.Name), strconv.Itoa(n.Count), "", "")
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}

// spreadsheet keeps a cell from being run as a formula.
func spreadsheet(s string) string {
	s = line(s)
	if strings.IndexAny(cmp.Or(s, " "), "=+-@|%") == 0 {
		return "'" + s
	}
	return s
}
