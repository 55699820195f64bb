package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/console"
	"gatepost/internal/console/audit"
)

func (a *app) auditCommand() *cobra.Command {
	var q audit.Query
	var since string
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who looked at whose mail, and who did what",
		Long: `Shows what was done over the control socket and in the console, and whose content
somebody looked at, the newest last. docs/console.md says what is kept.`,
		Example: "  gatepost audit --who carol --since 7d\n  gatepost audit --id 0123456789ABCDEFGHJK",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			var err error
			if q.Since, err = moment("since", since, time.Now()); err != nil {
				return err
			}
			return a.audit(q)
		},
	}
	cmd.Flags().StringVar(&q.Who, "who", "", "a `name`")
	cmd.Flags().StringVar(&q.What, "what", "", "a `part` of what was done, such as content or delete")
	cmd.Flags().StringVar(&q.ID, "id", "", "of a message: its `ID`")
	cmd.Flags().StringVar(&since, "since", "", "not before this `time`")
	cmd.Flags().IntVarP(&q.Limit, "number", "n", 100, "show so `many` at most, the newest")
	return cmd
}

func (a *app) audit(q audit.Query) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	entries, err := console.NewClient(cfg.Control).Audit(ctx, q)
	var refused *console.Refusal
	switch {
	case errors.Is(err, fs.ErrPermission):
		return exit(exitPermission, "%s: only root and the user of the gateway may use it: %w", cfg.Control, fs.ErrPermission)
	case errors.As(err, &refused):
		return because(err)
	case err != nil && !nobodyThere(err):
		return exit(exitUnavailable, "the gateway does not answer on %s: %w", cfg.Control, err)
	case err != nil: // none runs: the file is there all the same
		if entries, err = audit.Read(cfg.Console.Audit, q); err != nil {
			return because(err)
		}
	}
	for _, e := range slices.Backward(entries) {
		if a.json {
			err = a.printJSON(e)
		} else {
			_, err = fmt.Fprintln(a.out, auditLine(e))
		}
		if err != nil {
			return because(err)
		}
	}
	return nil
}

func auditLine(e audit.Entry) string {
	text := fmt.Sprintf("%s %s (%s, from %s) %s: %s", e.Time.Local().Format(time.DateTime), e.Who, e.Role, e.From, e.What, e.Result)
	if len(e.IDs) > 0 {
		text += " " + strings.Join(e.IDs, " ")
	}
	if e.More > 0 {
		text += fmt.Sprintf(" and %d more", e.More)
	}
	for _, more := range []string{e.Detail, e.Error} {
		if more != "" {
			text += " " + more
		}
	}
	return line(text)
}
