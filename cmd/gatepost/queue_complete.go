package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/console"
)

// mostCompletions is how many IDs a shell is offered.
const mostCompletions = 100

// completeID offers the IDs of a gateway that runs. A spool at rest is left
// alone: opening it would be in the way of whoever does something with it.
func (a *app) completeID(_ *cobra.Command, _ []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	cfg, err := a.load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var ids []cobra.Completion
	_ = console.NewClient(cfg.Control).List(ctx, console.Filter{}, func(m console.Message) error {
		if strings.HasPrefix(m.ID, prefix) {
			ids = append(ids, cobra.CompletionWithDesc(m.ID, line(senderName(m))))
		}
		if len(ids) == mostCompletions {
			return errors.New("enough")
		}
		return nil
	})
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// completeFilters completes the values that are known, and keeps file names
// away from the others.
func completeFilters(c *cobra.Command) {
	for _, name := range []string{
		"sender", "rcpt", "domain", "route", "older", "younger", "size-above", "size-below", "score-above", "score-below", "reason", "listener", "user", "max", "top",
	} {
		if f := c.Flags().Lookup(name); f != nil && f.Value.Type() != "bool" {
			_ = c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
		}
	}
	_ = c.RegisterFlagCompletionFunc("lane", cobra.FixedCompletions(console.Lanes(), cobra.ShellCompDirectiveNoFileComp))
}
