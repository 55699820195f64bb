package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/config"
	book "gatepost/internal/generations"
	"gatepost/internal/history"
	"gatepost/internal/maillog"
	"gatepost/proxy/forward"
	"gatepost/rules"
	"gatepost/rules/rehearse"
)

func (a *app) rulesRehearseCommand() *cobra.Command {
	since, corpus := "7d", ""
	var f scanFlags
	c := &cobra.Command{
		Use:   "rehearse DIR|FILE…",
		Short: "Tell what other rules would have made of recorded mail",
		Long: `Judges what the history has once by the rules in use, and once by the rule files of
DIR (*.toml) or FILEs, and tells for which recipients the outcome is another, by
rule, with examples. Nothing is changed. Rules that did not change make no
difference. What records can't tell is said.

With --corpus, the messages of a folder, a maildir or an mbox go through all filters
and are the records. Exits with 0 whatever it finds.`,
		Example: `  gatepost rules rehearse rules.new --since 30d
  gatepost rules rehearse rules.new --corpus ~/Maildir --rcpt user@example.com`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.rehearse(c.Context(), args, since, corpus, f) },
	}
	c.Flags().StringVar(&since, "since", since, "not before this `time`")
	c.Flags().StringVar(&corpus, "corpus", "", "message files: a `folder`, a maildir or an mbox")
	c.Flags().StringVar(&f.ip, "ip", "", "with --corpus: the client's `address`")
	c.Flags().StringVar(&f.helo, "helo", "unknown", "with --corpus: the client's `name` in EHLO")
	c.Flags().StringVar(&f.from, "from", "", "with --corpus: the envelope's sender, an `address`")
	c.Flags().StringArrayVar(&f.rcpts, "rcpt", nil, "with --corpus: a recipient, an `address`; can be given again")
	return c
}

func (a *app) rehearse(ctx context.Context, args []string, since, corpus string, f scanFlags) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	files, err := ruleFiles(args)
	if err != nil {
		return exit(exitNoInput, "%w", err)
	}
	from, err := moment("since", since, time.Now())
	if err != nil {
		return err
	}
	log, err := maillog.New(a.err, maillog.Text, slog.LevelError)
	if err != nil {
		return because(err)
	}
	to, err := forward.New(cfg.Forward, log)
	if err != nil {
		return because(err)
	}
	defer to.Close()
	fresh, err := setOf(cfg, to, files, nil)
	if err != nil {
		return a.rulesRefused(err)
	}
	old, err := inUse(cfg, to)
	if err != nil {
		return err
	}
	run := func(source rehearse.Source, from time.Time) error {
		m := a.meter("records", 0)
		report, err := rehearse.Run(ctx, old, fresh, source, from, m.At)
		m.End()
		if err != nil {
			return err
		}
		report.Notes = append(report.Notes, rehearsalNotes(fresh)...)
		return a.printRehearsal(report)
	}
	if corpus != "" {
		source, err := newCorpus(cfg, corpus, f, a, old, files)
		if err != nil {
			return err
		}
		return run(source, time.Time{})
	}
	if cfg.History.Path == "" {
		return exit(exitConfig, `%s: no history is kept; write history = "sqlite:/var/lib/gatepost/history.db", or give a --corpus`, cfg.File)
	}
	// The file itself is read, though a gateway may be writing it: all records
	// through its socket would take as long again.
	return historyAtRest(ctx, cfg, func(_ context.Context, h history.Finder) error { return run(h, from) })
}

// inUse are the rules that the gateway judges by, or would.
func inUse(cfg *config.Config, to router) (*rules.Set, error) {
	kept, err := book.New(book.Config{Dir: cfg.RulesDir, Keep: keepGenerations})
	if err != nil {
		return nil, because(err)
	}
	is, err := kept.Current()
	switch {
	case errors.Is(err, book.ErrNone):
		return setOf(cfg, to, cfg.Rules.Files.Files, nil)
	case errors.Is(err, fs.ErrPermission):
		return nil, exit(exitPermission, "%w", err)
	case err != nil:
		return nil, because(err)
	}
	var open func(string) (io.ReadCloser, error) = kept.Again(is).Open
	set, err := setOf(cfg, to, is.Rules, open)
	return set, because(err)
}

func (a *app) printRehearsal(r rehearse.Report) error {
	if a.json {
		return a.printJSON(r)
	}
	fmt.Fprintf(a.out, "%d records, %d with another outcome (%.1fs)\n", r.Records, r.Differing, r.Took)
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, g := range r.Groups {
		name := line(g.Rule) + " (" + line(g.Where) + ")"
		if g.Rule == "" {
			name = "no rule: scores, lists of the access map"
		}
		fmt.Fprintf(w, "\n%s: %s → %s: %d messages, %d recipients\n", name, g.Old, g.New, g.Records, g.Recipients)
		for _, e := range g.Examples {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", e.ID, e.Time.Local().Format(time.DateTime), fits(orNull(e.From), 40), fits(e.To, 40), fits(e.Subject, 50))
		}
	}
	if len(r.Hits) > 0 {
		fmt.Fprintln(w, "\nRULE\tWHERE\tMATCHES IN USE\tMATCHES THEN")
	}
	for _, h := range r.Hits {
		name := line(h.Rule)
		if h.Observe {
			name += " (observes)"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", name, line(h.Where), h.Old, h.New)
	}
	for _, u := range r.Unknown {
		fmt.Fprintf(w, "\nnot known of %d records: %s (%s)\n", u.Records, line(u.What), line(strings.Join(u.Examples, ", ")))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", line(n))
	}
	return because(w.Flush())
}

func orNull(s string) string {
	if s == "" {
		return "<>"
	}
	return s
}
