package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/config"
	"gatepost/internal/sign"
)

func (a *app) dkimCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dkim",
		Short: "Make keys that sign mail, and see whether the DNS has them",
		Long: `Signatures show receivers that mail is from your domain. The private key is a
file that [dkim.key.NAME] names; the public one is a TXT record in the DNS.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.dkimKeygen(), a.dkimCheck(), a.dkimList())
	return cmd
}

func (a *app) dkimList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys of the configuration",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, keys, err := a.signingKeys(nil)
			if err != nil {
				return err
			}
			return a.printKeys(keys)
		},
	}
}

// listedKey is a line of "dkim list".
type listedKey struct {
	Name       string `json:"name"`
	Domain     string `json:"domain"`
	Selector   string `json:"selector"`
	Type       string `json:"type"`
	Now        string `json:"now"` // what it does today
	From       string `json:"from,omitempty"`
	Until      string `json:"until,omitempty"`
	Subdomains bool   `json:"subdomains"`
	File       string `json:"file"`
}

// keyring is the keys of the configuration with what they do today.
type keyring struct {
	all  *sign.Keys
	some []sign.LoadedKey
	now  time.Time
}

// signingKeys reads the keys that names name, all where there is none.
func (a *app) signingKeys(names []string) (*config.Config, keyring, error) {
	cfg, err := a.load()
	if err != nil {
		return nil, keyring{}, err
	}
	all, err := sign.LoadKeys(cfg.Sign.DKIM.Key)
	if err != nil {
		return nil, keyring{}, exit(exitConfig, "%w", err)
	}
	k := keyring{all: all, some: all.All(), now: time.Now()}
	if len(names) == 0 {
		return cfg, k, nil
	}
	k.some = nil
	for _, name := range names {
		one, ok := all.Named(name)
		if !ok {
			return nil, keyring{}, exit(exitUsage, "there is no [dkim.key.%s]", line(name))
		}
		k.some = append(k.some, one)
	}
	return cfg, k, nil
}

// does says what a key does today.
func (k keyring) does(key sign.LoadedKey) string {
	switch {
	case key.Use == sign.UsePublish:
		return "published only"
	case k.all.Signs(key, k.now):
		return "signs"
	case k.now.Before(key.From.Time):
		return "waits for its day"
	case !key.Until.IsZero() && !k.now.Before(key.Until.Time):
		return "is over"
	}
	return "another signs"
}

func (a *app) printKeys(keys keyring) error {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	if !a.json && len(keys.some) > 0 {
		fmt.Fprintln(w, "KEY\tDOMAIN\tSELECTOR\tTYPE\tNOW\tFROM\tUNTIL\tFILE")
	}
	for _, k := range keys.some {
		l := listedKey{
			Name: k.Name, Domain: k.Signing.Domain, Selector: k.Signing.Selector, Type: string(k.Signing.Type()), Now: keys.does(k),
			From: k.From.String(), Until: k.Until.String(), Subdomains: k.Subdomains, File: k.File,
		}
		if a.json {
			if err := a.printJSON(l); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", cell(l.Name), cell(l.Domain), cell(l.Selector), l.Type, l.Now, cell(l.From), cell(l.Until), cell(l.File))
	}
	if err := w.Flush(); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}
