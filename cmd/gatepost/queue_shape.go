package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"gatepost/internal/console"
)

func (a *app) queueShapeCommand() *cobra.Command {
	var req console.ShapeRequest
	c := &cobra.Command{
		Use:   "shape",
		Short: "Show for which domains mail waits, and for how long",
		Long: `Counts the recipients that mail waits for, by domain and by the age of the
message, as qshape does. T is the total; the columns beside it are ages in
minutes: 5 means less than five, 10 five to ten, the last one more than that.
A domain that grows to the right does not take its mail; one that is full on
the left is busy.

What is held is not counted, unless --lane says so.`,
		Example: `  gatepost queue shape
  gatepost queue shape --sender --lane hold      who is in the quarantine`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if req.Top < 0 {
				return errors.New("--top: want 0 or more")
			}
			if len(req.Filter.Lanes) == 0 {
				req.Filter.Lanes = []string{console.Fresh, console.Waiting, console.Slow}
			}
			if err := req.Filter.Validate(); err != nil {
				return err
			}
			return a.withQueue(func(ctx context.Context, q admin) error { return a.queueShape(ctx, q, req) })
		},
	}
	flags := c.Flags()
	flags.SortFlags = false
	flags.BoolVarP(&req.Sender, "sender", "s", false, "count messages by the domains of senders")
	flags.IntVar(&req.Top, "top", 30, "the fullest domains, so `many`; 0 for all")
	lessFilterFlags(flags, &req.Filter)
	completeFilters(c)
	return c
}

func (a *app) queueShape(ctx context.Context, q admin, req console.ShapeRequest) error {
	s, err := q.Shape(ctx, req)
	if err != nil {
		return queueError(err)
	}
	if a.json {
		return a.printJSON(s)
	}
	out := bufio.NewWriter(a.out)
	printShape(out, s)
	if err := out.Flush(); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}

// printShape prints the table of qshape, in 80 columns where the numbers allow.
func printShape(w io.Writer, s console.Shape) {
	heads := []string{"T"}
	for _, m := range s.Minutes {
		heads = append(heads, strconv.Itoa(m))
	}
	heads = append(heads, fmt.Sprintf("%d+", s.Minutes[len(s.Minutes)-1]))
	total := counts(s.Total)
	columns := make([]int, len(heads))
	width := 0 // of the domains
	for i := range heads {
		columns[i] = max(2, len(heads[i]), len(total[i]))
		width += columns[i] + 1
	}
	width = max(80-width, 20)
	row := func(name string, cells []string) {
		fmt.Fprintf(w, "%*s", width, shortName(line(name), width))
		for i, cell := range cells {
			fmt.Fprintf(w, " %*s", columns[i], cell)
		}
		fmt.Fprintln(w)
	}
	row("", heads)
	row("TOTAL", total)
	for _, d := range s.Domains {
		name := d.Domain
		if name == "" {
			name = nullSender
		}
		row(name, counts(d))
	}
	if s.Others > 0 {
		fmt.Fprintf(w, "and %s more; --top 0 shows all\n", count(s.Others, "domain"))
	}
}

func counts(d console.DomainShape) []string {
	cells := []string{strconv.Itoa(d.Total)}
	for _, n := range d.Ages {
		cells = append(cells, strconv.Itoa(n))
	}
	return cells
}

// shortName keeps the end of a long name, which says most.
func shortName(s string, width int) string {
	n := utf8.RuneCountInString(s)
	if n <= width {
		return s
	}
	return "+" + string([]rune(s)[n-width+1:])
}
