package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/console"
)

func (a *app) statusCommand() *cobra.Command {
	check, l := false, usualLimits()
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the gateway that runs is",
		Long: `Asks the gateway that runs how it is. Exit code 0: it takes mail. 75: it runs, and
takes none for now. 69: none runs.

With --check it is a plugin for Nagios and its relatives: one line with figures,
and exit code 0 (OK), 1 (WARNING), 2 (CRITICAL) or 3 (UNKNOWN). It complains about
mail that is not taken, filters that are down, mail that waits, certificates near
their end, signatures that are late, lists that are switched off, and a store that
is away.`,
		Example: "  gatepost status --check -w 500 --critical 2000 --warning-age 2h",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if check {
				return a.statusCheck(l)
			}
			return a.status()
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "be a plugin for Nagios")
	cmd.Flags().IntVarP(&l.warning, "warning", "w", l.warning, "with --check: warn from so many waiting `messages` on")
	cmd.Flags().IntVar(&l.critical, "critical", l.critical, "with --check: critical from so many waiting `messages` on")
	cmd.Flags().DurationVar(&l.warningAge, "warning-age", l.warningAge, "with --check: warn when the oldest message waits so `long`")
	cmd.Flags().DurationVar(&l.criticalAge, "critical-age", l.criticalAge, "with --check: critical when the oldest message waits so `long`")
	return cmd
}

func (a *app) status() error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := console.NewClient(cfg.Control).Status(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return exit(exitPermission, "%s: only root and the user of the gateway may use it: %w", cfg.Control, fs.ErrPermission)
	case err != nil:
		return exit(exitUnavailable, "no gateway answers on %s: %w", cfg.Control, err)
	case a.json:
		err = a.printJSON(s)
	default:
		a.printStatus(s)
	}
	if err == nil && s.NotReady != "" {
		return silent(exitTemporary)
	}
	return err
}

func (a *app) printStatus(s console.Status) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-10s %s\n", name, line(fmt.Sprintf(format, args...)))
	}
	row("gatepost", "%s on %s, process %d, since %s", s.Version, s.Hostname, s.PID, s.Started.Format(time.DateTime))
	row("config", "%s, read %s", s.Config, s.Reloaded.Format(time.DateTime))
	for _, l := range s.Listeners {
		row("listener", "%s on %s", l.Name, l.Address)
	}
	for _, lane := range slices.Sorted(maps.Keys(s.Queue)) {
		row("queue", "%s: %s", lane, count(s.Queue[lane], "message"))
	}
	if s.State.Away == "" {
		row("state", "%s", s.State.Name)
	} else {
		row("state", "%s is away, this gateway decides alone: %s", s.State.Name, s.State.Away)
	}
	for _, d := range s.Daemons {
		row("daemon", "%s: %s", d.Filter, describe(d))
	}
	if s.NotReady == "" {
		row("ready", "yes")
	} else {
		row("ready", "no: %s", s.NotReady)
	}
}
