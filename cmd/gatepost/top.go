package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/console"
)

func (a *app) topCommand() *cobra.Command {
	every, rounds := 2*time.Second, 0
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what the gateway is busy with",
		Long: `Shows, again and again, how fast mail comes in and with what result, what the
filters do, what waits for delivery and where. On a terminal each picture takes
the place of the last one; elsewhere they follow each other. Ctrl-C ends it.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.top(every, rounds) },
	}
	cmd.Flags().DurationVarP(&every, "interval", "d", every, "how `long` between two pictures")
	cmd.Flags().IntVarP(&rounds, "count", "n", 0, "end after so many `pictures`; 0: none is the last")
	return cmd
}

const quickestTop = 100 * time.Millisecond

func (a *app) top(every time.Duration, rounds int) error {
	if every < quickestTop {
		return exit(exitUsage, "--interval %v: write %v or more", every, quickestTop)
	}
	cfg, err := a.load()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
	defer stop()
	client := console.NewClient(cfg.Control)
	clear := ""
	if f, ok := a.out.(*os.File); ok && isTerminal(f) && !a.json {
		clear = "\x1b[H\x1b[J"
	}
	var before console.Health
	for n := 1; ; n++ {
		now, err := asked(ctx, client.Health)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, fs.ErrPermission):
			return exit(exitPermission, "%s: only root and the user of the gateway may use it: %w", cfg.Control, fs.ErrPermission)
		case err != nil:
			return exit(exitUnavailable, "no gateway answers on %s: %w", cfg.Control, err)
		}
		if err := a.picture(clear, cfg.Hostname, now, before); err != nil {
			return err
		}
		if before = now; n == rounds {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// asked asks a gateway that may hang.
func asked[V any](ctx context.Context, ask func(context.Context) (V, error)) (V, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return ask(ctx)
}

// picture is written at once, so that it doesn't flicker.
func (a *app) picture(clear, host string, now, before console.Health) error {
	if a.json {
		return a.printJSON(now)
	}
	var b strings.Builder
	b.WriteString(clear)
	fmt.Fprintf(&b, "gatepost on %s, %s: %s, %.1f GB free for the queue\n", line(host), now.Time.Local().Format(time.TimeOnly), count(now.Connections, "connection"), now.SpoolFree/1e9)
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	topMessages(w, now, before)
	topFilters(w, now)
	topQueue(w, now)
	_ = w.Flush() // to memory
	if clear == "" {
		b.WriteByte('\n')
	}
	if _, err := fmt.Fprint(a.out, b.String()); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}

// topMessages shows how many a second, since the picture before.
func topMessages(w *tabwriter.Writer, now, before console.Health) {
	fmt.Fprint(w, "\nMESSAGES\tA SECOND\tSINCE THE START\n")
	if len(now.Messages) == 0 {
		fmt.Fprint(w, "none yet\t\t\n")
	}
	passed := now.Time.Sub(before.Time).Seconds()
	for _, action := range slices.Sorted(maps.Keys(now.Messages)) {
		rate := "-"
		if !before.Time.IsZero() && passed > 0 {
			rate = fmt.Sprintf("%.1f", float64(max(0, now.Messages[action]-before.Messages[action]))/passed)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\n", cell(action), rate, now.Messages[action])
	}
}

// topFilters shows what they do, and what they did in the last minutes.
func topFilters(w *tabwriter.Writer, now console.Health) {
	if len(now.Filters) == 0 {
		return
	}
	fmt.Fprintf(w, "\nFILTER\tSTATE\tBUSY\tHALF WITHIN\t95%% WITHIN\tIN %s\n", strings.ToUpper(short(now.Over)))
	for _, f := range now.Filters {
		state := "up"
		switch {
		case f.Down:
			state = "DOWN, " + f.OnError
		case f.Shadow:
			state = "watches"
		}
		half, most := "-", "-"
		if f.Latency.Count > 0 {
			half, most = short(f.Latency.Half), short(f.Latency.Most)
		}
		fmt.Fprintf(w, "%s\t%s\t%d/%d\t%s\t%s\t%s\n", cell(f.Name), cell(state), f.Busy, f.Concurrent, half, most, cell(resultsText(f.Results)))
	}
}

// topQueue shows the lanes, and the next hops that have work or trouble.
func topQueue(w *tabwriter.Writer, now console.Health) {
	fmt.Fprint(w, "\nQUEUE\tMESSAGES\tOLDEST\n")
	for _, l := range now.Lanes {
		oldest := "-"
		if !l.Oldest.IsZero() {
			oldest = now.Time.Sub(l.Oldest).Round(time.Second).String()
		}
		fmt.Fprintf(w, "%s\t%d\t%s\n", cell(l.Lane), l.Messages, oldest)
	}
	if len(now.NextHops) == 0 {
		return
	}
	fmt.Fprint(w, "\nNEXT HOP\tSTATE\tWAITING\tACTIVE\t95% WITHIN\tLATELY\n")
	for _, h := range now.NextHops {
		most := "-"
		if h.Latency.Count > 0 {
			most = short(h.Latency.Most)
		}
		text := resultsText(h.Results)
		if h.Reply != "" {
			text += " " + h.Reply
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\n", cell(h.Name), cell(h.State), h.Waiting, h.Active, most, cell(fits(text, mostReply)))
	}
}

const mostReply = 60 // characters of what a next hop says

func resultsText(results map[string]int) string {
	var parts []string
	for _, r := range slices.Sorted(maps.Keys(results)) {
		parts = append(parts, fmt.Sprintf("%d %s", results[r], r))
	}
	return strings.Join(parts, ", ")
}
