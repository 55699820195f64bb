package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gatepost/internal/console"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the configuration as it is in effect",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.configShow())
	return cmd
}

func (a *app) configShow() *cobra.Command {
	var own bool
	cmd := &cobra.Command{
		Use:   "show [KEY...]",
		Short: "Show each key with its value and where that was set",
		Long: `Shows all keys of the configuration file: those that it sets with their lines, those
that it does not with their defaults. Passwords and the like are not shown. A KEY
shows itself and all below it: "listener.mx", "queue".

What is read is the file. The gateway that runs may have read it before it was
changed: "gatepost status" tells when.`,
		Example: "  gatepost config show -n\n  gatepost config show queue listener.mx.limits",
		RunE:    func(_ *cobra.Command, args []string) error { return a.showConfig(own, args) },
	}
	cmd.Flags().BoolVarP(&own, "non-default", "n", false, "only what the file sets")
	return cmd
}

func (a *app) showConfig(own bool, keys []string) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	section, shown := "", 0
	for _, s := range settingsOf(cfg) {
		if own && s.File == "" || !below(s.Key, keys) {
			continue
		}
		shown++
		if a.json {
			if err := a.printJSON(s); err != nil {
				return err
			}
			continue
		}
		in, key := s.Split()
		if in != section {
			if section = in; shown > 1 {
				fmt.Fprintln(a.out)
			}
			fmt.Fprintf(a.out, "[%s]\n", line(in))
		}
		fmt.Fprintln(a.out, settingLine(key, s))
	}
	if shown == 0 && len(keys) > 0 && !own {
		return exit(exitUsage, "no such key: %s", strings.Join(keys, ", "))
	}
	return nil
}

// settingLine is one key as the file could have it, with a comment on where it is
// from.
func settingLine(key string, s console.Setting) string {
	from := "default"
	if s.File != "" {
		from = fmt.Sprintf("%s:%d", s.File, s.Line)
	}
	return fmt.Sprintf("%-40s # %s", line(key+" = "+s.Value), line(from))
}

// below reports whether a key is one of those that are named, or below one.
func below(key string, names []string) bool {
	for _, name := range names {
		if key == name || strings.HasPrefix(key, name+".") {
			return true
		}
	}
	return len(names) == 0
}
