// Command gatepost is a mail-filtering gateway: it takes mail over SMTP, judges
// it, keeps what it accepted until it is delivered, and lets its operator look
// into all of that.
package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	os.Exit(a.main(os.Args[1:]))
}

// app is one run of the command line.
type app struct {
	in       io.Reader
	out, err io.Writer

	file string // the configuration
	json bool
}

// main runs the command that args name and returns the exit code.
func (a *app) main(args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	return a.report(root.Execute())
}

const defaultFile = "/etc/gatepost/gatepost.toml"

func (a *app) root() *cobra.Command {
	cobra.EnableCommandSorting = false // in the order in which they are needed
	root := &cobra.Command{
		Use:   "gatepost",
		Short: "A mail gateway: takes mail, judges it, passes it on",
		Long: `Gatepost stands between the Internet and your mail servers. It takes mail over
SMTP, finds out who sent it and what is in it, has it judged by ClamAV,
SpamAssassin and your own rules, refuses what is unwanted while the sender still
listens, and passes the rest on.

Exit codes are those of sysexits.h: 64 usage, 65 bad data, 66 no such input,
69 service not available, 73 can't create, 75 try again later, 76 protocol,
77 no permission, 78 configuration.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVarP(&a.file, "config", "c", defaultFile, "the configuration `file`")
	root.PersistentFlags().BoolVarP(&a.json, "json", "j", false, "print JSON")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(a.serveCommand(), a.checkCommand(), a.configCommand(), a.scanCommand(), a.learnCommand(), a.accessCommand(), a.rulesCommand(), a.queueCommand(), a.quarantineCommand(), a.digestCommand(), a.stateCommand(), a.statusCommand(), a.topCommand(), a.tailCommand(), a.doctorCommand(), a.explainCommand(), a.traceCommand(), a.listCommand(), a.huntCommand(), a.reportCommand(), a.milterCommand(), a.userCommand(), a.auditCommand(), a.dkimCommand(), a.versionCommand())
	addFailpoints(a, root)
	return root
}
