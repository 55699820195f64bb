// Command bench measures Gatepost as a relay against Postfix on the same
// machine, in one run: accept, make durable, forward to a sink. Rounds of the
// targets alternate, so that what else the machine does hits all of them; the
// table shows medians, and the ratio is the median of the per-round ratios.
//
//	go run ./integration/bench -binary bin/gatepost
//
// It needs root and Debian's postfix. All traffic stays on loopback; every
// server it starts it stops.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"
)

type options struct {
	binary string
	sizes  []size
	conns  []int
	rounds int
	round  time.Duration
	keep   bool
}

// size is one of the message sizes that are measured.
type size struct {
	name  string
	bytes int
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	o, err := parseFlags()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("/var/tmp", "gatepost-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // Postfix' processes pass through it
		return err
	}
	sink, err := startSink()
	if err != nil {
		return err
	}
	defer sink.close()

	var targets []target
	defer func() {
		for _, t := range targets {
			t.stop()
		}
	}()
	for _, start := range []func() (target, error){
		func() (target, error) { return startPostfix(dir, sink.addr()) },
		func() (target, error) { return startGateway(dir, o.binary, sink.addr()) },
	} {
		t, err := start()
		if err != nil {
			return err
		}
		targets = append(targets, t)
	}
	rows, err := measure(ctx, o, targets, sink)
	if err != nil {
		return err
	}
	printTable(os.Stdout, o, rows)
	return nil
}

func parseFlags() (options, error) {
	binary := flag.String("binary", "bin/gatepost", "the gateway to measure")
	sizes := flag.String("sizes", "5k,50k,1m", "message sizes")
	conns := flag.String("conns", "1,20,100", "concurrent connections")
	rounds := flag.Int("rounds", 5, "rounds per cell, at least 1")
	round := flag.Duration("round", 1200*time.Millisecond, "length of a round of the slowest target, about")
	keep := flag.Bool("keep", false, "many messages over each connection instead of one")
	flag.Parse()
	o := options{binary: *binary, rounds: max(*rounds, 1), round: *round, keep: *keep}
	for name := range strings.SplitSeq(*sizes, ",") {
		n, unit := strings.TrimRight(name, "kmKM"), 1
		switch strings.ToLower(name[len(n):]) {
		case "k":
			unit = 1 << 10
		case "m":
			unit = 1 << 20
		}
		v, err := strconv.Atoi(n)
		if err != nil || v < 1 {
			return o, fmt.Errorf("size %q: want a number with k or m", name)
		}
		o.sizes = append(o.sizes, size{name, v * unit})
	}
	for c := range strings.SplitSeq(*conns, ",") {
		v, err := strconv.Atoi(c)
		if err != nil || v < 1 {
			return o, fmt.Errorf("connections %q: want a number", c)
		}
		o.conns = append(o.conns, v)
	}
	return o, nil
}
