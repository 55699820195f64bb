//go:build failpoint

package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	book "gatepost/internal/generations"
	"gatepost/proxy"
	"gatepost/proxy/queue"
	"gatepost/proxy/spool"
)

const failpointVariable = "GATEPOST_FAILPOINTS"

// fault is what happens at the n-th time that a step is taken.
type fault struct {
	hit  int
	what string
}

// failpoint reads GATEPOST_FAILPOINTS: "step=kill@3,step=eio,step=enospc@2".
// Without a number it is the first time.
func failpoint() (func(step string) error, error) {
	faults := make(map[string][]fault)
	for _, entry := range strings.FieldsFunc(os.Getenv(failpointVariable), func(r rune) bool { return r == ',' || r == ' ' }) {
		step, f, err := parseFault(entry)
		if err != nil {
			return nil, exit(exitUsage, "%s: %w", failpointVariable, err)
		}
		faults[step] = append(faults[step], f)
	}
	if len(faults) == 0 {
		return nil, nil
	}
	var mu sync.Mutex
	hits := make(map[string]int)
	return func(step string) error {
		mu.Lock()
		defer mu.Unlock()
		hits[step]++
		for _, f := range faults[step] {
			if f.hit == hits[step] {
				return f.happen(step)
			}
		}
		return nil
	}, nil
}

func parseFault(entry string) (step string, f fault, err error) {
	step, f.what, _ = strings.Cut(entry, "=")
	f.hit = 1
	if what, number, ok := strings.Cut(f.what, "@"); ok {
		f.what = what
		if f.hit, err = strconv.Atoi(number); err != nil || f.hit < 1 {
			return "", fault{}, fmt.Errorf("%q: %q is no count", entry, number)
		}
	}
	switch {
	case !slices.Contains(allSteps(), step):
		return "", fault{}, fmt.Errorf("%q: there is no step %q", entry, step)
	case f.what != "kill" && f.what != "eio" && f.what != "enospc":
		return "", fault{}, fmt.Errorf("%q: want kill, eio or enospc", entry)
	}
	return step, f, nil
}

func (f fault) happen(step string) error {
	switch f.what {
	case "eio":
		return &os.PathError{Op: "failpoint", Path: step, Err: syscall.EIO}
	case "enospc":
		return &os.PathError{Op: "failpoint", Path: step, Err: syscall.ENOSPC}
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // not one more instruction of ours
}

func allSteps() []string {
	return slices.Concat(spool.Steps(), queue.Steps(), proxy.Steps(), book.Steps())
}

func addFailpoints(a *app, root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use:    "failpoints",
		Short:  "List the steps at which " + failpointVariable + " can make this binary fail",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			for _, step := range allSteps() {
				fmt.Fprintln(a.out, step)
			}
			return nil
		},
	})
}
