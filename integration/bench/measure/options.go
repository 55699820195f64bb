package measure

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Options say what is measured.
type Options struct {
	Sizes  []Size
	Conns  []int // at a time
	Rounds int
	Round  time.Duration // of the slowest target, about
	Keep   bool          // many messages over each connection instead of one
}

// Size is one of the message sizes that are measured.
type Size struct {
	name  string
	bytes int
}

// ParseFlags reads the command line, with what the caller added to it.
func ParseFlags() (Options, error) {
	sizes := flag.String("sizes", "5k,50k,1m", "message sizes")
	conns := flag.String("conns", "1,20,100", "concurrent connections")
	rounds := flag.Int("rounds", 5, "rounds per cell, at least 1")
	round := flag.Duration("round", 1200*time.Millisecond, "length of a round of the slowest target, about")
	keep := flag.Bool("keep", false, "many messages over each connection instead of one")
	quick := flag.Bool("quick", false, "a short run: what is not given is -sizes 5k,1m -conns 1,20 -rounds 3 -round 600ms")
	flag.Parse()
	if *quick {
		shorten(map[string]string{"sizes": "5k,1m", "conns": "1,20", "rounds": "3", "round": "600ms"})
	}
	o := Options{Rounds: max(*rounds, 1), Round: *round, Keep: *keep}
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
		o.Sizes = append(o.Sizes, Size{name, v * unit})
	}
	for c := range strings.SplitSeq(*conns, ",") {
		v, err := strconv.Atoi(c)
		if err != nil || v < 1 {
			return o, fmt.Errorf("connections %q: want a number", c)
		}
		o.Conns = append(o.Conns, v)
	}
	return o, nil
}

// shorten sets the flags that were not given.
func shorten(to map[string]string) {
	flag.Visit(func(f *flag.Flag) { delete(to, f.Name) })
	for name, value := range to {
		_ = flag.Set(name, value) // our own constants
	}
}
