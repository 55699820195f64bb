package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"gatepost/internal/dns"
	"gatepost/internal/sign"
)

func (a *app) dkimCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check [NAME…]",
		Short: "Ask the DNS for the keys, and say whether it has ours",
		Long: `Asks the DNS for the record of each key of the configuration and compares it
with the private key. The exit code is 0 when all fit, 65 when a record is missing
or another, 75 when the DNS does not answer.`,
		RunE: func(_ *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return a.checkKeys(ctx, args)
		},
	}
}

// checkedKey is what "dkim check" tells of one key.
type checkedKey struct {
	Key    string `json:"key"`
	Record string `json:"record"` // its name in the DNS
	Now    string `json:"now"`    // what the key does today
	Result string `json:"result"` // "ok", "wrong", "unknown"
	Why    string `json:"why,omitempty"`
}

func (a *app) checkKeys(ctx context.Context, names []string) error {
	cfg, keys, err := a.signingKeys(names)
	if err != nil {
		return err
	}
	client, err := dns.NewClient(cfg.DNS)
	if err != nil {
		return because(err)
	}
	if len(keys.some) == 0 {
		return exit(exitConfig, "there is no [dkim.key.NAME] in %s", line(a.file))
	}
	code := exitOK
	for _, k := range keys.some {
		c := compareKey(ctx, client, k)
		c.Now = keys.does(k)
		switch {
		case c.Result == "wrong":
			code = exitData
		case c.Result == "unknown" && code == exitOK:
			code = exitTemporary
		}
		if err := a.printChecked(c); err != nil {
			return err
		}
	}
	if code != exitOK {
		return silent(code)
	}
	return nil
}

// compareKey asks the DNS for one key.
func compareKey(ctx context.Context, client *dns.Client, k sign.LoadedKey) checkedKey {
	c := checkedKey{Key: k.Name, Record: k.Signing.Name(), Result: "ok"}
	texts, _, err := client.LookupTXT(ctx, c.Record)
	if err != nil && !errors.Is(err, dns.ErrNoName) {
		c.Result, c.Why = "unknown", "the DNS does not answer: "+err.Error()
		return c
	}
	wrong, hint := k.Signing.Compare(texts)
	if c.Why = hint; wrong != "" {
		c.Result, c.Why = "wrong", wrong
	}
	return c
}

func (a *app) printChecked(c checkedKey) error {
	if a.json {
		return a.printJSON(c)
	}
	words := map[string]string{"ok": "the DNS has it", "wrong": "NOT in order", "unknown": "not known"}[c.Result]
	if c.Why != "" {
		words += ": " + c.Why
	}
	if _, err := fmt.Fprintf(a.out, "%s (%s, %s): %s\n", line(c.Key), line(c.Record), c.Now, line(words)); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}
