package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/console"
	"gatepost/internal/state"
)

func (a *app) stateCommand() *cobra.Command {
	s := &cobra.Command{
		Use:   "state",
		Short: "Look at what gateways know of clients, and change it",
		Long: `Looks at the store that all gateways of a site share, or that one has for itself:
relay windows, blocked clients, and the other sets. Everything in it ends by
itself.

A gateway that runs is asked over its control socket; when none runs, the store
is opened directly. Lists have one entry a line, or one JSON object with -j.`,
		Example: `  gatepost state list                      everything
  gatepost state block list
  gatepost state block add 192.0.2.1 --for 2h --reason "mailing-list bomb"
  gatepost state window drop 198.51.100.7`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	s.AddCommand(
		a.stateListCommand(""), a.stateGetCommand(), a.stateAddCommand(""), a.stateDropCommand(""),
		a.setCommand("window", "Relay windows: clients that may send to anybody for now", state.Windows),
		a.setCommand("block", "Blocked clients: those that are refused for now", state.Blocked),
	)
	return s
}

// setCommand has the commands for one set, whose keys are addresses.
func (a *app) setCommand(name, short string, set state.Set) *cobra.Command {
	c := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.stateListCommand(set), a.stateAddCommand(set), a.stateDropCommand(set))
	return c
}

func setNames() string {
	var names []string
	for _, s := range state.Sets() {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

// setAnd takes the set from the arguments, unless the command has one.
func setAnd(set state.Set, args []string) (state.Set, []string, error) {
	if set == "" {
		set, args = state.Set(args[0]), args[1:]
		if !slices.Contains(state.Sets(), set) {
			return "", nil, fmt.Errorf("there is no set %q; there are %s", string(set), setNames())
		}
		return set, args, nil
	}
	for i, arg := range args {
		key, err := addressKey(arg)
		if err != nil {
			return "", nil, err
		}
		args[i] = key
	}
	return set, args, nil
}

// addressKey is how sessions write an address, or a network.
func addressKey(s string) (string, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked().String(), nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return "", fmt.Errorf("%q is no address, and no network in CIDR form", s)
	}
	return addr.Unmap().String(), nil
}

func need(set state.Set) int {
	if set == "" {
		return 1
	}
	return 0
}

func (a *app) stateListCommand(set state.Set) *cobra.Command {
	var prefix string
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List entries", Args: cobra.NoArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			sets := state.Sets()
			if set != "" {
				sets = []state.Set{set}
			} else if len(args) == 1 {
				one, _, err := setAnd("", args)
				if err != nil {
					return err
				}
				sets = []state.Set{one}
			}
			if limit < 1 || limit > 1_000_000 {
				return errors.New("--max: want 1 to 1000000")
			}
			return a.withState(false, func(ctx context.Context, s console.Store) error { return a.stateList(ctx, s, sets, prefix, limit) })
		},
	}
	if set == "" {
		c.Use, c.Args = "list [SET]", cobra.MaximumNArgs(1)
		c.Long = "Lists the entries of a set, or of all: " + setNames() + "."
	}
	c.Flags().StringVar(&prefix, "prefix", "", "only those whose keys begin with `text`")
	c.Flags().IntVar(&limit, "max", 10_000, "at most this `number` of each set")
	return c
}

// entryLine is one entry as JSON.
type entryLine struct {
	Set state.Set `json:"set"`
	state.Entry
}

func (a *app) stateList(ctx context.Context, s console.Store, sets []state.Set, prefix string, limit int) error {
	out := bufio.NewWriter(a.out)
	for _, set := range sets {
		list, err := s.List(ctx, set, prefix, limit)
		if err != nil {
			return stateError(err)
		}
		for _, e := range list {
			if err := a.printEntry(out, set, e); err != nil {
				return exit(exitSystem, "writing: %w", err)
			}
		}
	}
	if err := out.Flush(); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}

func (a *app) printEntry(out *bufio.Writer, set state.Set, e state.Entry) error {
	if a.json {
		return writeJSON(out, entryLine{set, e})
	}
	left := time.Until(e.Expires).Round(time.Second)
	_, err := fmt.Fprintf(out, "%-9s %-39s %10s  %s\n", set, line(e.Key), left, line(e.Value))
	return err
}

func (a *app) stateGetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get SET KEY", Short: "Show one entry; exit code 66 where there is none", Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			set, keys, err := setAnd("", args)
			if err != nil {
				return err
			}
			return a.withState(false, func(ctx context.Context, s console.Store) error {
				e, ok, err := s.Get(ctx, set, keys...)
				if err != nil {
					return stateError(err)
				}
				if !ok {
					return exit(exitNoInput, "%s: no entry %q", set, keys[0])
				}
				out := bufio.NewWriter(a.out)
				_ = a.printEntry(out, set, e)
				if err := out.Flush(); err != nil {
					return exit(exitSystem, "writing: %w", err)
				}
				return nil
			})
		},
	}
}

const (
	defaultWindow = 30 * time.Minute
	defaultBlock  = time.Hour
)

func (a *app) stateAddCommand(set state.Set) *cobra.Command {
	var ttl time.Duration
	var value string
	c := &cobra.Command{
		Use: "add ADDRESS", Short: "Add an entry, or let it last longer", Args: cobra.ExactArgs(need(set) + 1),
		RunE: func(_ *cobra.Command, args []string) error {
			set, keys, err := setAnd(set, args)
			if err != nil {
				return err
			}
			if ttl < time.Second {
				return errors.New("--for: want at least 1s")
			}
			return a.withState(true, func(ctx context.Context, s console.Store) error {
				if err := s.Put(ctx, set, keys[0], value, ttl); err != nil {
					return stateError(err)
				}
				fmt.Fprintf(a.err, "Added to %s: %s, for %v\n", set, line(keys[0]), ttl)
				return nil
			})
		},
	}
	usual, text := defaultBlock, "why, for those who look"
	if set == state.Windows {
		usual = defaultWindow
	}
	if set == "" {
		c.Use, text = "add SET KEY", "the `text` of the entry"
	}
	c.Flags().DurationVar(&ttl, "for", usual, "how long it lasts")
	c.Flags().StringVar(&value, "reason", "", text)
	return c
}

func (a *app) stateDropCommand(set state.Set) *cobra.Command {
	c := &cobra.Command{
		Use: "drop ADDRESS…", Short: "Remove entries; exit code 66 where none was there", Args: cobra.RangeArgs(need(set)+1, need(set)+256),
		RunE: func(_ *cobra.Command, args []string) error {
			set, keys, err := setAnd(set, args)
			if err != nil {
				return err
			}
			return a.withState(true, func(ctx context.Context, s console.Store) error {
				n, err := s.Delete(ctx, set, keys...)
				if err != nil {
					return stateError(err)
				}
				fmt.Fprintf(a.err, "Removed from %s: %d\n", set, n)
				if n == 0 {
					return silent(exitNoInput)
				}
				return nil
			})
		},
	}
	if set == "" {
		c.Use = "drop SET KEY…"
	}
	return c
}
