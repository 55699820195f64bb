package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gatepost/internal/config"
	"gatepost/internal/console"
	"gatepost/internal/users"
)

// The files of users where the configuration names none.
const (
	defaultUsers        = "/etc/gatepost/users"
	defaultConsoleUsers = "/etc/gatepost/console-users"
)

func (a *app) userCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Look after the file of those who may log in",
		Long: `Adds, changes and removes users in the file of a section [auth.NAME] with
kind = "file", or in that of the console, [console] users. A gateway that runs
reads it with the next "systemctl reload gatepost", or SIGHUP.

Passwords are asked for on the terminal, or read as one line from standard input;
never given on the command line, where everybody can see them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	file := ""
	cmd.PersistentFlags().StringVar(&file, "file", "", "the `file` of users; default that of the configuration, or "+defaultUsers)
	cmd.AddCommand(a.userAdd(&file), a.userPasswd(&file), a.userRemove(&file), a.userList(&file))
	return cmd
}

func (a *app) userAdd(file *string) *cobra.Command {
	var account users.Account
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a user",
		Long: `Adds a user. --senders lists the addresses, and domains as @example.com, that may
stand in MAIL FROM; they count where a listener says sender_login. A name that is an
address may always be its own sender.

--role lets the user into the console, where console.users names this file: admin,
security (rules, quarantine), helpdesk (mail for --domain), or viewer.`,
		Example: "  gatepost user add alice@example.com\n  gatepost user add printer --senders printer@example.com,scans@example.com\n  gatepost user add carol --role helpdesk --domain example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := a.usersFile(*file, account.Role != "")
			if err != nil {
				return err
			}
			if _, err := users.AccountOf(path, args[0]); err == nil {
				return exit(exitData, "user %s is there already; \"gatepost user passwd\" changes the password", args[0])
			}
			return a.setUser(path, args[0], account)
		},
	}
	accountFlags(cmd, &account)
	return cmd
}

// accountFlags are what is said of a user beside the password.
func accountFlags(cmd *cobra.Command, account *users.Account) {
	cmd.Flags().StringSliceVar(&account.Senders, "senders", nil, "the `addresses` that the user may send from")
	cmd.Flags().StringVar(&account.Role, "role", "", "the `role` in the console: admin, security, helpdesk, viewer")
	cmd.Flags().StringSliceVar(&account.Domains, "domain", nil, "the `domains` whose mail the user sees in the console")
}

func (a *app) userPasswd(file *string) *cobra.Command {
	var account users.Account
	cmd := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Change the password of a user",
		Long:  `Changes the password, and what is given beside it; the rest stays.`,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := a.usersFile(*file, account.Role != "")
			if err != nil {
				return err
			}
			old, err := users.AccountOf(path, args[0])
			if err != nil {
				return userError(err)
			}
			for flag, keep := range map[string]func(){
				"senders": func() { account.Senders = old.Senders },
				"role":    func() { account.Role = old.Role },
				"domain":  func() { account.Domains = old.Domains },
			} {
				if !cmd.Flags().Changed(flag) {
					keep()
				}
			}
			return a.setUser(path, args[0], account)
		},
	}
	accountFlags(cmd, &account)
	return cmd
}

func (a *app) setUser(path, name string, account users.Account) error {
	if account.Role != "" {
		if err := console.Role(account.Role).Validate(); err != nil {
			return exit(exitUsage, "%w", err)
		}
	}
	if console.Role(account.Role) == console.Helpdesk && len(account.Domains) == 0 {
		return exit(exitUsage, "a helpdesk sees the mail of its domains: give them with --domain")
	}
	password, err := a.askPassword(name)
	if err != nil {
		return because(err)
	}
	if err := users.Set(path, name, password, account); err != nil {
		return userError(err)
	}
	fmt.Fprintf(a.out, "%s: %s is set\n", path, strings.ToLower(name))
	return nil
}

func (a *app) userRemove(file *string) *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Aliases: []string{"delete"},
		Short:   "Remove a user",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := a.usersFile(*file, false)
			if err == nil {
				err = userError(users.Remove(path, args[0]))
			}
			if err == nil {
				fmt.Fprintf(a.out, "%s: %s is removed\n", path, strings.ToLower(args[0]))
			}
			return err
		},
	}
}

func (a *app) userList(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the users and their senders",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path, err := a.usersFile(*file, false)
			if err != nil {
				return err
			}
			names, err := users.Names(path)
			if err != nil {
				return userError(err)
			}
			for _, name := range names {
				account, err := users.AccountOf(path, name)
				if err != nil {
					return userError(err)
				}
				if a.json {
					err = a.printJSON(struct {
						Name    string   `json:"name"`
						Senders []string `json:"senders,omitempty"`
						Role    string   `json:"role,omitempty"`
						Domains []string `json:"domains,omitempty"`
					}{name, account.Senders, account.Role, account.Domains})
				} else {
					role := strings.TrimSpace(account.Role + " " + strings.Join(account.Domains, ","))
					_, err = fmt.Fprintln(a.out, strings.Join(slices.DeleteFunc([]string{name, strings.Join(account.Senders, ","), role}, isEmpty), " "))
				}
				if err != nil {
					return because(err)
				}
			}
			return nil
		},
	}
}

func isEmpty(s string) bool { return s == "" }

// usersFile finds the file. The configuration may be without it still, and
// wrong for that reason.
func (a *app) usersFile(given string, forConsole bool) (string, error) {
	if given != "" {
		return given, nil
	}
	files := config.UserFiles(a.file, forConsole)
	if len(files) > 1 {
		return "", exit(exitUsage, "the configuration names %d files of users: give one with --file", len(files))
	}
	if forConsole {
		return cmp.Or(strings.Join(files, ""), defaultConsoleUsers), nil
	}
	return cmp.Or(strings.Join(files, ""), defaultUsers), nil
}

func userError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, users.ErrUnknown):
		return exit(exitNoInput, "%w", err)
	case codeOf(err) == exitSystem:
		return exit(exitData, "%w", err)
	}
	return because(err)
}

// askPassword reads a password twice from a terminal, or once from a pipe.
func (a *app) askPassword(name string) (string, error) {
	f, ok := a.in.(*os.File)
	if !ok || !isTerminal(f) {
		return oneLine(a.in)
	}
	show, err := hideInput(f)
	if err != nil {
		return "", err
	}
	defer show()
	r := bufio.NewReader(f)
	var both [2]string
	for i, prompt := range []string{"Password for " + name + ": ", "Once more: "} {
		fmt.Fprint(a.err, visible(prompt))
		line, err := r.ReadString('\n')
		fmt.Fprintln(a.err)
		if err != nil {
			return "", err
		}
		both[i] = strings.TrimSuffix(line, "\n")
	}
	if both[0] != both[1] {
		return "", exit(exitData, "the two are not the same")
	}
	return both[0], nil
}

// longestPassword is more than users takes, so that it can say so.
const longestPassword = 4096

func oneLine(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, longestPassword))
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}
