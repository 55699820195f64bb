package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/config"
	"gatepost/internal/console"
	book "gatepost/internal/generations"
)

func (a *app) rulesApplyCommand() *cobra.Command {
	var req console.RuleChange
	c := &cobra.Command{
		Use:   "apply [DIR|FILE…]",
		Short: "Put other rules in use, all of them or none",
		Long: `Has the gateway that runs take the rule files of DIR (*.toml, by their names), or
FILEs, in the place of all rules in use; without any, it reads those of the
configuration again. Everything is checked first: syntax, tests, and whether a list
got lost. What is wrong changes nothing. Sessions that have begun end by the rules
that they began with.

What was applied stays until a file that the configuration names is changed and
read again, or somebody applies or rolls back.`,
		Example: `  gatepost rules apply rules.new --reason "SEC-42: no more .iso"`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if req.Files, err = ruleFiles(args); err != nil {
				return exit(exitNoInput, "%w", err)
			}
			return a.changeRules(c.Context(), req, (*console.Client).ApplyRules)
		},
	}
	c.Flags().StringVar(&req.Reason, "reason", "", "why, for the log")
	c.Flags().BoolVar(&req.Force, "force", false, "though a list got lost")
	return c
}

func (a *app) rulesRollbackCommand() *cobra.Command {
	var req console.RuleChange
	c := &cobra.Command{
		Use:   "rollback [N]",
		Short: "Go back to rules that were in use before",
		Long: `Has the gateway that runs judge by generation N of its rules again, without N by the
one before. Lists that "gatepost list" fills are as they were then, too.
"gatepost rules log" has the numbers.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				if _, err := fmt.Sscanf(args[0], "%d", &req.Number); err != nil || req.Number < 1 {
					return exit(exitUsage, "%q is no number of a generation", args[0])
				}
			}
			return a.changeRules(c.Context(), req, (*console.Client).RollBackRules)
		},
	}
	c.Flags().StringVar(&req.Reason, "reason", "", "why, for the log")
	return c
}

func (a *app) changeRules(ctx context.Context, req console.RuleChange, do func(*console.Client, context.Context, console.RuleChange) (console.RuleChanged, error)) error {
	if strings.TrimSpace(req.Reason) == "" {
		return exit(exitUsage, `write why: --reason "…"`)
	}
	client, err := a.ruleClient()
	if err != nil {
		return err
	}
	done, err := do(client, ctx, req)
	if err != nil {
		return ruleError(err)
	}
	if a.json {
		return a.printJSON(done)
	}
	if done.Number == 0 {
		fmt.Fprintln(a.out, "nothing to change: these rules are in use")
		return nil
	}
	fmt.Fprintf(a.out, "generation %d (%s) is in use\n", done.Number, line(done.Name))
	for _, change := range done.Changes {
		fmt.Fprintln(a.out, "  "+line(change))
	}
	return nil
}

func (a *app) ruleClient() (*console.Client, error) {
	cfg, err := config.Load(a.file)
	if cfg == nil || err != nil && cfg.Control == "" {
		return nil, because(err)
	}
	return console.NewClient(cfg.Control), nil // mistakes in rule files are what others are about
}

// ruleError gives what the gateway said, or that there is none, its exit code.
func ruleError(err error) error {
	var refused *console.Refusal
	if errors.As(err, &refused) {
		return exit(exitConfig, "%w", err)
	}
	return exit(exitUnavailable, "no gateway answers: %w", err)
}

func (a *app) rulesLogCommand() *cobra.Command {
	var most int
	c := &cobra.Command{
		Use:   "log",
		Short: "Tell who changed the rules, when, and why",
		Long: `Lists changes of the rules of the gateway that runs, and those that were refused,
the newest first.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.rulesLog(c.Context(), most) },
	}
	c.Flags().IntVarP(&most, "number", "n", 20, "show so `many` at most; 0: all")
	return c
}

func (a *app) rulesLog(ctx context.Context, most int) error {
	client, err := a.ruleClient()
	if err != nil {
		return err
	}
	var got struct {
		Entries []book.Entry `json:"entries"`
	}
	if err := client.RuleLog(ctx, &got); err != nil {
		return ruleError(err)
	}
	if most > 0 {
		got.Entries = got.Entries[:min(most, len(got.Entries))]
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	if !a.json {
		fmt.Fprintln(w, "N\tTIME\tWHO\tFROM\tREASON\tCHANGES")
	}
	for _, e := range got.Entries {
		if a.json {
			if err := a.printJSON(e); err != nil {
				return err
			}
			continue
		}
		number, what := fmt.Sprint(e.Number), strings.Join(e.Changes, "; ")
		if e.Number == 0 {
			first, _, _ := strings.Cut(e.Refused, "\n")
			number, what = "-", "refused: "+first
		}
		if e.Forced {
			what += " (forced)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", number, e.Time.Local().Format(time.DateTime), cell(e.Who), cell(e.From), fits(e.Reason, 60), fits(what, 120))
	}
	return because(w.Flush())
}
