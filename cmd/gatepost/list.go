package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/config"
	"gatepost/internal/console"
)

func (a *app) listCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "Fill lists that rules ask: hashes, hosts, senders, clients",
		Long: `Works with the lists of rule files that have managed = true (docs/rules-changes.md).
Each change is a generation of the rules: checked, in use at once, and
"gatepost rules rollback" takes it back.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.listAddCommand("add", "Add entries"), a.listAddCommand("import", "Add entries of standard input"), a.listDropCommand(), a.listShowCommand("show", "Show a list"), a.listShowCommand("export", "Print the entries of a list alone"))
	return c
}

// kindNames are what people call the types of lists.
var kindNames = map[string]string{"sender": "address", "client": "cidr"}

func (a *app) listAddCommand(use, short string) *cobra.Command {
	var req console.ListChange
	until, kind := "", ""
	c := &cobra.Command{
		Use:   use + " NAME [ENTRY…]",
		Short: short,
		Long: short + ` to a list, for ever or until a time: ENTRYs, or without any those of
standard input, one a line or as CSV (the column value or indicator, else the
first). What is written so that nobody clicks on it is understood: hxxp://,
example[.]com; of a URL the host is taken. With one wrong entry nothing is added.
Expired entries of the list are removed.`,
		Example: `  gatepost list add bad-hosts hxxp://evil[.]example/x --until 30d --source SOC-17
  gatepost list import bad-hashes --until 90d --source https://feed.example < feed.csv`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if until != "" {
				if req.Until, err = later(until, time.Now()); err != nil {
					return err
				}
			}
			req.Name, req.Type = args[0], kind
			if known := kindNames[kind]; known != "" {
				req.Type = known
			}
			for _, value := range args[1:] {
				req.Add = append(req.Add, console.ListEntry{Value: value})
			}
			if len(args) == 1 {
				if req.Add, err = readEntries(a.in); err != nil {
					return exit(exitData, "standard input: %w", err)
				}
			}
			return a.changeList(c.Context(), req)
		},
	}
	c.Flags().StringVar(&kind, "type", "", "refuse if the list is of another `type`: hash, host, domain, sender, client…")
	c.Flags().StringVar(&until, "until", "", "for how long (30d), or until when (2026-12-31): a `time`")
	c.Flags().StringVar(&req.Source, "source", "", "where they come from, a `text` without blanks")
	c.Flags().StringVar(&req.Ticket, "ticket", "", "a `ticket`")
	c.Flags().StringVar(&req.Note, "note", "", "a `note`")
	return c
}

func (a *app) listDropCommand() *cobra.Command {
	var req console.ListChange
	c := &cobra.Command{
		Use:   "drop NAME [ENTRY…]",
		Short: "Take entries from a list",
		Long:  `Takes ENTRYs from a list, or without any those of standard input.`,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			req.Name, req.Drop = args[0], args[1:]
			if len(args) == 1 {
				entries, err := readEntries(a.in)
				if err != nil {
					return exit(exitData, "standard input: %w", err)
				}
				for _, e := range entries {
					req.Drop = append(req.Drop, e.Value)
				}
			}
			return a.changeList(c.Context(), req)
		},
	}
	c.Flags().StringVar(&req.Reason, "reason", "", "why, for the log")
	return c
}

func (a *app) changeList(ctx context.Context, req console.ListChange) error {
	client, err := a.ruleClient()
	if err != nil {
		return err
	}
	done, err := client.ChangeList(ctx, req)
	if err != nil {
		return ruleError(err)
	}
	if a.json {
		if err := a.printJSON(done); err != nil {
			return err
		}
	}
	if len(done.Wrong) > 0 {
		return exit(exitData, "nothing is done: %s", strings.Join(done.Wrong, "\n"))
	}
	if !a.json {
		fmt.Fprintf(a.out, "%d added, %d renewed, %d dropped, %d expired", done.Added, done.Renewed, done.Dropped, done.Expired)
		if done.Number > 0 {
			fmt.Fprintf(a.out, "; generation %d is in use", done.Number)
		}
		fmt.Fprintln(a.out)
	}
	return nil
}

// later reads a time that is to come.
func later(s string, now time.Time) (time.Time, error) {
	if d, err := config.ParseDuration(s); err == nil {
		return now.Add(d), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		return t.AddDate(0, 0, 1), nil // to the end of the day
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	return time.Time{}, exit(exitUsage, `--until %q: write for how long ("30d"), or a day ("2026-12-31")`, s)
}

// maxEntries are read at once.
const maxEntries = 200_000

// readEntries reads one entry a line, or CSV: then the first line has the names
// of columns, or the first column is it.
func readEntries(in io.Reader) ([]console.ListEntry, error) {
	lines := bufio.NewReader(in)
	head, _ := lines.Peek(4096) // a short input is read below
	first, _, _ := strings.Cut(string(head), "\n")
	if strings.ContainsRune(first, ',') {
		return readCSV(lines)
	}
	var all []console.ListEntry
	scan := bufio.NewScanner(lines)
	for scan.Scan() {
		text, note, _ := strings.Cut(scan.Text(), " #")
		if text = strings.TrimSpace(text); text == "" || text[0] == '#' {
			continue
		}
		if len(all) == maxEntries {
			return nil, fmt.Errorf("more than %d entries", maxEntries)
		}
		all = append(all, console.ListEntry{Value: text, Note: strings.TrimSpace(note)})
	}
	return all, scan.Err()
}

func readCSV(in io.Reader) ([]console.ListEntry, error) {
	table := csv.NewReader(in)
	table.FieldsPerRecord, table.Comment, table.TrimLeadingSpace = -1, '#', true
	var all []console.ListEntry
	column := 0
	for n := 0; ; n++ {
		row, err := table.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			if at, ok := valueColumn(row); ok {
				column = at
				continue
			}
		}
		if column < len(row) && strings.TrimSpace(row[column]) != "" {
			all = append(all, console.ListEntry{Value: row[column]})
		}
		if len(all) > maxEntries {
			return nil, fmt.Errorf("more than %d entries", maxEntries)
		}
	}
}

// valueColumn finds the entries by the names of columns, where it has some.
func valueColumn(row []string) (int, bool) {
	for i, name := range row {
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "value", "indicator", "ioc", "sha256", "host", "domain", "url", "ip", "sender", "address", "hash":
			return i, true
		}
	}
	return 0, false
}

func (a *app) listShowCommand(use, short string) *cobra.Command {
	return &cobra.Command{
		Use:   use + " NAME",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.ruleClient()
			if err != nil {
				return err
			}
			l, err := client.ManagedList(c.Context(), args[0])
			if err != nil {
				return ruleError(err)
			}
			if a.json {
				return a.printJSON(l)
			}
			for _, entry := range l.Entries {
				if use == "export" {
					entry, _, _ = strings.Cut(entry, " ")
				}
				if _, err := fmt.Fprintln(a.out, line(entry)); err != nil {
					return because(err)
				}
			}
			return nil
		},
	}
}
