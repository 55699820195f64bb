// Package measure compares mail relays on one machine in one run. Rounds of the
// targets alternate, so that what else the machine does hits all of them; the
// table shows medians, and the ratio is the median of the per-round ratios. All
// traffic stays on loopback; every server that is started is stopped.
package measure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"text/tabwriter"
	"time"
)

// Start starts the targets, in a directory of their own, that pass their mail on
// to next. Those that it started before an error are returned with it.
type Start func(dir, next string) ([]Target, error)

// Run starts the targets, measures every cell of the table against the first of
// them, and prints the table.
func Run(title string, o Options, start Start) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("/var/tmp", "gatepost-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // Postfix' processes pass through it
		return err
	}
	sink, err := startSink()
	if err != nil {
		return err
	}
	defer sink.close()
	targets, err := start(dir, sink.addr())
	defer func() {
		for _, t := range targets {
			t.Stop()
		}
	}()
	if err != nil {
		return err
	}
	rows, err := measure(ctx, o, targets, sink)
	if err != nil {
		return err
	}
	printTable(os.Stdout, title, o, rows)
	return nil
}

// row is one line of the table.
type row struct {
	size    string
	conns   int
	target  string
	results []result
	ratios  []float64 // to the first target, round by round
	rival   string    // another target that it is compared with
	against []float64 // to that one, round by round
	memory  int64
}

// Rival is a target that is also compared with another one before it.
type Rival interface{ Against() string }

// measure runs every cell of the table. A first, short round warms up and tells
// how many messages make a round.
func measure(ctx context.Context, o Options, targets []Target, s *sink) ([]row, error) {
	var rows []row
	for _, sz := range o.Sizes {
		body := message(sz.bytes)
		for _, conns := range o.Conns {
			cell := make([]row, len(targets))
			count := make([]int, len(targets))
			for i, t := range targets {
				cell[i] = row{size: sz.name, conns: conns, target: t.Name()}
				warm, err := send(ctx, t, s, body, max(20, conns), conns, o.Keep)
				if err != nil {
					return nil, err
				}
				count[i] = max(conns, int(warm.perSecond*o.Round.Seconds()))
			}
			for range o.Rounds {
				rates := make(map[string]float64)
				for i, t := range targets {
					r, err := send(ctx, t, s, body, count[i], conns, o.Keep)
					if err != nil {
						return nil, err
					}
					rates[t.Name()] = r.perSecond
					cell[i].results = append(cell[i].results, r)
					cell[i].ratios = append(cell[i].ratios, r.perSecond/rates[targets[0].Name()])
					cell[i].memory = t.PeakMemory()
					if rival, ok := t.(Rival); ok && rates[rival.Against()] > 0 {
						cell[i].rival = rival.Against()
						cell[i].against = append(cell[i].against, r.perSecond/rates[rival.Against()])
					}
				}
			}
			fmt.Fprintf(os.Stderr, "done: %s over %d connections\n", sz.name, conns)
			rows = append(rows, cell...)
		}
	}
	return rows, nil
}

func printTable(w io.Writer, title string, o Options, rows []row) {
	mode := "one message per connection"
	if o.Keep {
		mode = "many messages per connection"
	}
	fmt.Fprintf(w, "%s, %s, medians of %d alternated rounds; ratio = median of the per-round ratios to the first target.\n\n", title, mode, o.Rounds)
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "size\tconnections\ttarget\tmessages/s\tmin\tmax\tratio\t250 after ms\tCPU ms/message\tpeak memory MB\tagainst\t")
	for _, r := range rows {
		rates := each(r.results, func(r result) float64 { return r.perSecond })
		memory := "-"
		if r.memory > 0 {
			memory = fmt.Sprintf("%.0f", float64(r.memory)/(1<<20))
		}
		against := "-"
		if r.rival != "" {
			against = fmt.Sprintf("%.2f of %s", median(r.against), r.rival)
		}
		fmt.Fprintf(tw, "%s\t%d\t%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.1f\t%.2f\t%s\t%s\t\n", r.size, r.conns, r.target,
			median(rates), slices.Min(rates), slices.Max(rates), median(r.ratios),
			ms(median(each(r.results, func(r result) time.Duration { return r.accepted }))),
			ms(median(each(r.results, func(r result) time.Duration { return r.cpu }))), memory, against)
	}
	tw.Flush()
}

func each[R any](in []result, f func(result) R) []R {
	out := make([]R, len(in))
	for i, r := range in {
		out[i] = f(r)
	}
	return out
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median[T cmp.Ordered](in []T) T {
	if len(in) == 0 {
		var zero T
		return zero
	}
	s := slices.Sorted(slices.Values(in))
	return s[len(s)/2]
}
