package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"gatepost/internal/console"
)

func (a *app) digestCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "digest", Short: "Look at the mails that tell recipients of held mail, and send them", Args: cobra.NoArgs,
		Long: `A gateway that runs sends digests as [digest] says. docs/quarantine.md describes
them.`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var rcpt string
	preview := &cobra.Command{
		Use: "preview --rcpt ADDRESS", Short: "Print the digest that a recipient would get now", Args: cobra.NoArgs,
		Long: "Prints a message with all that is held for a recipient. Its links lead nowhere.",
		RunE: func(*cobra.Command, []string) error {
			return a.withDigests(func(ctx context.Context, c *console.Client) error {
				m, err := c.PreviewDigest(ctx, rcpt)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(console.DigestMail{Message: m})
				}
				if _, err := a.screen().Write(m); err != nil {
					return exit(exitSystem, "writing: %w", err)
				}
				return nil
			})
		},
	}
	preview.Flags().StringVar(&rcpt, "rcpt", "", "the recipient's `address`")
	_ = preview.MarkFlagRequired("rcpt")
	var now bool
	send := &cobra.Command{
		Use: "send --now", Short: "Send what is new at once, to all who are to be told", Args: cobra.NoArgs,
		Long: "Sends digests with what is new since the last ones. The next ones come at their\ntime all the same, where there is something new.",
		RunE: func(*cobra.Command, []string) error {
			return a.withDigests(func(ctx context.Context, c *console.Client) error {
				n, err := c.SendDigests(ctx)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(map[string]int{"sent": n})
				}
				fmt.Fprintf(a.out, "Sent %s\n", count(n, "digest"))
				return nil
			})
		},
	}
	send.Flags().BoolVar(&now, "now", false, "yes, at once")
	_ = send.MarkFlagRequired("now")
	c.AddCommand(preview, send)
	return c
}

// withDigests asks the gateway that runs: nobody else has the keys of links.
func (a *app) withDigests(do func(ctx context.Context, c *console.Client) error) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	err = do(context.Background(), console.NewClient(cfg.Control))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return exit(exitPermission, "%s: only root and the user of the gateway may use it: %w", cfg.Control, fs.ErrPermission)
	case nobodyThere(err):
		return exit(exitUnavailable, "no gateway answers on %s: %w", cfg.Control, err)
	}
	return queueError(err)
}
