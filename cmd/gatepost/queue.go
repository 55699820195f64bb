package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gatepost/internal/console"
	"gatepost/proxy/spool"
)

// admin is the queue, of the gateway that runs or of a spool at rest.
type admin interface {
	List(ctx context.Context, f console.Filter, yield func(console.Message) error) error
	Shape(ctx context.Context, req console.ShapeRequest) (console.Shape, error)
	Show(ctx context.Context, id string) (console.Message, error)
	Content(ctx context.Context, id string, w io.Writer) error
	Apply(ctx context.Context, a console.Action, req console.Request) (console.Result, error)
	DryRun(ctx context.Context, a console.Action, req console.Request, yield func(console.Message) error) (console.Result, error)
	ListHeld(ctx context.Context, f console.Filter, yield func(console.Message) error) error
	ApplyHeld(ctx context.Context, v console.HeldVerb, req console.HeldRequest) (console.Result, error)
}

func (a *app) queueCommand() *cobra.Command {
	list := a.queueListCommand()
	queue := &cobra.Command{
		Use:   "queue",
		Short: "Look at the queue and act on messages in it",
		Long: `Looks at the accepted messages that are not delivered yet, quarantine included,
and acts on them. Without a sub-command it lists them, and takes the flags of
"list".

A message is in one of four lanes:
  fresh   it was not tried yet
  retry   it was put off, and is tried again
  slow    it was put off for long; it is tried less often, in nobody's way
  hold    it is not tried until somebody decides: a verdict holds it
          (quarantine), or an operator

A gateway that runs is asked over its control socket; when none runs, the
spool is opened directly, with the same result.`,
		Example: `  gatepost queue                           what waits, the oldest first
  gatepost queue shape                     for which domains, and how long
  gatepost queue list -j --older 4h        as JSON lines, with postqueue's keys
  gatepost queue flush --domain example.com
  gatepost queue delete --sender @spam.example --dry-run`,
		Args: cobra.NoArgs,
		RunE: list.RunE,
	}
	list.Flags().VisitAll(func(f *pflag.Flag) { // here they would hide the commands
		hidden := *f
		hidden.Hidden = true
		queue.Flags().AddFlag(&hidden)
	})
	queue.AddCommand(a.queueListCommand(), a.queueShapeCommand(), a.queueShowCommand(), a.queueCatCommand())
	queue.AddCommand(a.queueCleanCommand())
	for _, v := range verbs() {
		queue.AddCommand(a.queueActCommand(v))
	}
	return queue
}

// queueError gives the refusal of a queue its exit code.
func queueError(err error) error {
	var refused *console.Refusal
	switch {
	case err == nil:
		return nil
	case errors.Is(err, console.ErrTooMany):
		return &exitError{exitUsage, fmt.Errorf("%w; look at them with --dry-run, then add --yes", err)}
	case errors.Is(err, spool.ErrNotFound):
		return &exitError{exitNoInput, err}
	case errors.As(err, &refused):
		return &exitError{exitData, err}
	}
	return because(err)
}
