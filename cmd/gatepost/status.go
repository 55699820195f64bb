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
	return &cobra.Command{
		Use:   "status",
		Short: "Show how the gateway that runs is",
		Long: `Asks the gateway that runs how it is. Exit code 0: it takes mail. 75: it runs, and
takes none for now. 69: none runs.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.status() },
	}
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
