package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"gatepost/internal/console"
	"gatepost/internal/history"
)

func (a *app) tailCommand() *cobra.Command {
	var f console.LiveFilter
	var most int
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show decisions and deliveries as they happen",
		Long: `Shows what the gateway that runs decides, and what becomes of its mail, from now on.
--to and --from look for a part of an address. It ends with Ctrl-C, after --count
lines, or, with exit code 69, when the gateway ends.`,
		Example: `  gatepost tail --to someone@example.com
  gatepost tail --from @example.org --json | jq -r .decision.reason`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.tail(f, most) },
	}
	cmd.Flags().StringVar(&f.To, "to", "", "only what is for recipients with this `text`")
	cmd.Flags().StringVar(&f.From, "from", "", "only what is of senders with this `text`")
	cmd.Flags().StringVar(&f.ID, "id", "", "only what is about the message `ID`")
	cmd.Flags().IntVarP(&most, "count", "n", 0, "end after so many `lines`; 0: none is the last")
	return cmd
}

var errSeenEnough = errors.New("enough")

func (a *app) tail(f console.LiveFilter, most int) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
	defer stop()
	n := 0
	begun := func() { fmt.Fprintln(a.err, "waiting for mail; Ctrl-C ends") }
	err = console.NewClient(cfg.Control).Live(ctx, f, begun, func(l console.Live) error {
		if err := a.showLive(l); err != nil {
			return err
		}
		if n++; n == most {
			return errSeenEnough
		}
		return nil
	})
	var refused *console.Refusal
	var written *exitError
	switch {
	case errors.Is(err, errSeenEnough), ctx.Err() != nil:
		return nil
	case errors.As(err, &written):
		return err
	case errors.As(err, &refused):
		return exit(exitTemporary, "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return exit(exitPermission, "%s: only root and the user of the gateway may use it: %w", cfg.Control, fs.ErrPermission)
	}
	return exit(exitUnavailable, "no gateway answers on %s any more: %w", cfg.Control, err)
}

func (a *app) showLive(l console.Live) error {
	if a.json {
		return a.printJSON(l)
	}
	if l.Lost > 0 {
		fmt.Fprintf(a.err, "%s left out: this terminal is slower than the mail\n", count(l.Lost, "line"))
	}
	text := ""
	switch {
	case l.Decision != nil:
		text = decisionLine(l.Decision)
	case l.Event != nil:
		text = fmt.Sprintf("%s %s %s", l.Event.Time.Local().Format("15:04:05"), l.Event.ID, eventText(*l.Event))
	default:
		return nil
	}
	if _, err := fmt.Fprintln(a.out, line(text)); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}

const mostShown = 3 // recipients on a line

// decisionLine is a decision on one line.
func decisionLine(r *history.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", r.Time.Local().Format("15:04:05"), r.ID, verdictName(actionNamed(r.Action)))
	if r.Stage != "message" {
		fmt.Fprintf(&b, " at %s", strings.ToUpper(r.Stage))
	}
	fmt.Fprintf(&b, ": %s -> %s", cmp.Or(r.Sender.Address, "<>"), recipientsText(r.Recipients))
	fmt.Fprintf(&b, ", %s", clientText(r))
	if r.Score != 0 {
		fmt.Fprintf(&b, ", score %.1f", r.Score)
	}
	if r.Reason != "" {
		fmt.Fprintf(&b, ", %s", r.Reason)
	}
	if r.Took > 0 {
		fmt.Fprintf(&b, ", after %s", short(r.Took))
	}
	return b.String()
}

func recipientsText(all []history.Recipient) string {
	if len(all) == 0 {
		return "nobody"
	}
	var to []string
	for _, p := range all[:min(len(all), mostShown)] {
		to = append(to, p.Address)
	}
	if more := len(all) - len(to); more > 0 {
		to = append(to, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(to, " ")
}
