package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/config"
	"gatepost/internal/console"
	"gatepost/internal/mail"
	"gatepost/internal/mime"
	"gatepost/rules/policy"
)

func (a *app) rulesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "rules",
		Short: "Check policy rules, rehearse and apply them, count their hits",
		Long: `Works with the rule files of a site (docs/rules.md). "gatepost check" reads them
with everything else; here they are read alone. A gateway that runs takes over
changed files when it reads its configuration again ("systemctl reload gatepost").`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.rulesCheckCommand(), a.rulesTestCommand(), a.rulesRehearseCommand(), a.rulesApplyCommand(), a.rulesRollbackCommand(), a.rulesLogCommand(), a.rulesHitsCommand(), a.rulesVocabularyCommand())
	return c
}

func (a *app) rulesCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE…]",
		Short: "Check rule files, and run the tests in them",
		Long: `Reads the rule FILEs, or without any those that the configuration names, with
their lists, and runs their tests. Every error is printed as
FILE:LINE:COLUMN: what is wrong; what to do, with the place in the condition below
it. Exits with 78 when there is one, and with 0 when there are only warnings.`,
		Example: `  gatepost rules check rules.d/*.toml`,
		RunE: func(_ *cobra.Command, files []string) error {
			set, err := a.loadRules(files)
			if err != nil {
				return a.rulesRefused(err)
			}
			return a.rulesChecked(set)
		},
	}
}

// loadRules reads rule files, or those of the configuration.
func (a *app) loadRules(files []string) (*policy.Set, error) {
	limits := mime.DefaultConfig()
	if len(files) == 0 {
		cfg, err := a.load()
		if err != nil {
			return nil, err
		}
		if files = cfg.Rules.Files.Files; len(files) == 0 {
			return nil, exit(exitUsage, "%s names no rule files; give some", a.file)
		}
		limits = cfg.MIME
	}
	return policy.Load(policy.Config{Files: files, Inspect: func(m *mail.Message) *mail.Inside {
		return mime.Inspect(context.Background(), m, limits)
	}})
}

// rulesProblem is a policy.Problem for machines.
type rulesProblem struct {
	problem
	Near string `json:"near,omitempty"`
}

func rulesProblems(all policy.Problems) []rulesProblem {
	out := []rulesProblem{}
	for _, p := range all {
		out = append(out, rulesProblem{problem{p.File, p.Line, p.Column, p.Key, p.What, p.Do}, p.Near})
	}
	return out
}

func (a *app) rulesRefused(err error) error {
	var problems policy.Problems
	if !errors.As(err, &problems) {
		return err
	}
	if !a.json {
		return exit(exitConfig, "%w", problems)
	}
	if err := a.printJSON(map[string]any{"ok": false, "errors": rulesProblems(problems)}); err != nil {
		return err
	}
	return silent(exitConfig)
}

func (a *app) rulesChecked(set *policy.Set) error {
	if a.json {
		return a.printJSON(map[string]any{
			"ok": true, "generation": set.Generation(), "files": len(set.Files()), "rules": len(set.Rules()), "lists": len(set.Lists()), "tests": set.Cases(),
			"warnings": rulesProblems(set.Warnings()),
		})
	}
	for _, w := range set.Warnings() {
		fmt.Fprintln(a.err, "warning: "+w.Error())
	}
	fmt.Fprintf(a.out, "ok: %d files, %d rules, %d lists, %d tests; generation %s\n", len(set.Files()), len(set.Rules()), len(set.Lists()), set.Cases(), set.Generation())
	return nil
}

func (a *app) rulesVocabularyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "vocabulary",
		Short: "Print the words and functions of conditions, with examples",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(a.out, policy.Page())
			return because(err)
		},
	}
}

func (a *app) rulesTestCommand() *cobra.Command {
	var files []string
	var f scanFlags
	c := &cobra.Command{
		Use:   "test MESSAGE…",
		Short: "Tell which rules match message files",
		Long: `Asks the rules about MESSAGEs, for one recipient: which match, what they would do,
and what comes of all of them together. No filter is asked: words that filters
know ("virus", "spf", "score"…) have nothing in them. "gatepost scan" judges with
everything.`,
		Example: `  gatepost rules test -f rules.d/new.toml --from a@example.org --rcpt b@example.com suspicious.eml`,
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.rulesTest(files, f, args) },
	}
	c.Flags().StringArrayVarP(&files, "file", "f", nil, "a rule `file`; can be given again (default: those of the configuration)")
	c.Flags().StringVar(&f.ip, "ip", "", "the client's `address`")
	c.Flags().StringVar(&f.helo, "helo", "unknown", "the client's `name` in EHLO")
	c.Flags().StringVar(&f.from, "from", "", "the envelope's sender, an `address`")
	c.Flags().StringArrayVar(&f.rcpts, "rcpt", nil, "the recipient, an `address`")
	return c
}

func (a *app) rulesHitsCommand() *cobra.Command {
	unused := ""
	c := &cobra.Command{
		Use:   "hits",
		Short: "Tell how often each rule and entry matched, and when last",
		Long: `Asks the gateway that runs how often each rule and each entry of a list matched
since they are counted, and when last; of observing rules, too. --unused names only
those that did not match for a time.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.rulesHits(c.Context(), unused) },
	}
	c.Flags().StringVar(&unused, "unused", "", "only what has not matched since this `time` (30d)")
	return c
}

func (a *app) rulesHits(ctx context.Context, unused string) error {
	since, err := moment("unused", unused, time.Now())
	if err != nil {
		return err
	}
	cfg, err := config.Load(a.file)
	if err != nil {
		return because(err)
	}
	hits, err := console.NewClient(cfg.Control).RuleHits(ctx)
	if err != nil {
		return exit(exitUnavailable, "no gateway answers at %s: %w", cfg.Control, err)
	}
	if unused != "" {
		hits = slices.DeleteFunc(hits, func(h console.RuleHit) bool { return !h.Last.Before(since) })
	}
	if a.json {
		for _, h := range hits {
			if err := a.printJSON(h); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "HITS\tSKIPPED\tLAST\tRULE\tWHERE")
	for _, h := range hits {
		last, name := "-", line(h.Rule)
		if !h.Last.IsZero() {
			last = h.Last.Format("2006-01-02 15:04:05")
		}
		if h.Observe {
			name += " (observes)"
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\n", h.Count, h.Skipped, last, name, line(filepath.Clean(h.Where)))
	}
	return because(w.Flush())
}
