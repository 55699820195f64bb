package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// SendmailRules is sendmail's own rule engine over tables of the test
// (sendmail -bt). Nothing of it runs but while it is asked.
type SendmailRules struct {
	Access string   // the access map as text; makemap makes it
	Local  []string // class w, beside localhost
	Relay  []string // class R
	Config []string // more lines for sendmail.mc: the features

	sendmail *Sendmail
}

// NewSendmailRules prepares a rule engine in dir. It needs root and m4, and
// unpacks sendmail as NewSendmail does.
func NewSendmailRules(dir string) *SendmailRules {
	return &SendmailRules{sendmail: NewSendmail(dir, "127.0.0.1:9", "")}
}

// Make writes the configuration and the tables.
func (r *SendmailRules) Make() error {
	s := r.sendmail
	if os.Getuid() != 0 {
		return errors.New("testkit: sendmail: a host name of its own needs root")
	}
	for _, need := range [][2]string{{"m4", "m4"}, {"unshare", "util-linux"}} {
		if _, err := find(need[0], need[1]); err != nil {
			return err
		}
	}
	var err error
	if s.root, err = unpackedSendmail(); err != nil {
		return fmt.Errorf("testkit: sendmail: %w", err)
	}
	s.env = []string{"LD_LIBRARY_PATH=" + filepath.Join(s.root, "usr/lib/x86_64-linux-gnu")}
	if err := os.MkdirAll(s.file("queue"), 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"sendmail.mc": r.mc(), "access": r.Access, "aliases": "",
		"switch": "hosts files\naliases files\n",
		"names":  strings.Join(r.Local, "\n") + "\n",
		"relay":  strings.Join(r.Relay, "\n") + "\n",
	} {
		if err := os.WriteFile(s.file(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	cf, err := exec.Command("m4", "-I", s.cf(), s.file("sendmail.mc")).Output()
	if err != nil {
		return fmt.Errorf("testkit: m4: %w", err)
	}
	if err := os.WriteFile(s.file("sendmail.cf"), cf, 0o644); err != nil {
		return err
	}
	return s.makemap("access")
}

func (r *SendmailRules) mc() string {
	s := r.sendmail
	define := func(name, value string) string { return fmt.Sprintf("define(`%s', `%s')dnl", name, value) }
	lines := []string{
		"divert(-1)",
		define("_CF_DIR_", s.cf()),
		"include(`" + s.cf() + "m4/cf.m4')",
		"divert(0)dnl",
		"OSTYPE(`linux')dnl",
		define("confDOMAIN_NAME", "mx1.sm.test"),
		define("QUEUE_DIR", s.file("queue")),
		define("ALIAS_FILE", s.file("aliases")),
		define("confCW_FILE", s.file("names")),
		define("confSERVICE_SWITCH_FILE", s.file("switch")),
		define("confDONT_BLAME_SENDMAIL", "MapInUnsafeDirPath,ClassFileInUnsafeDirPath"),
		define("confLOG_LEVEL", "0"),
		"FEATURE(`use_cw_file')dnl",
		"FEATURE(`nocanonify')dnl",
		"FEATURE(`accept_unresolvable_domains')dnl",
		"RELAY_DOMAIN_FILE(`" + s.file("relay") + "')dnl",
	}
	for _, line := range r.Config {
		lines = append(lines, strings.ReplaceAll(line, "ACCESS", s.file("access")))
	}
	return strings.Join(append(lines,
		"MAILER(`smtp')dnl",
		// Rulesets with two parameters are called through this one.
		"LOCAL_RULESETS", "SStart", "R$* $$| $*\t\t$: $1 $| $2", ""), "\n")
}

// Ask puts lines of a test session to the engine: ".D{macro}value", or
// "ruleset address". The answers are what each ruleset returned, in order.
func (r *SendmailRules) Ask(lines []string) ([]string, error) {
	out, err := r.sendmail.Run([]byte(strings.Join(lines, "\n")+"\n"), "-bt")
	if err != nil {
		return nil, err
	}
	var answers []string
	open := false
	for line := range strings.Lines(out) {
		text, prompt := line, false
		for strings.HasPrefix(text, "> ") {
			text, prompt = text[2:], true
		}
		if prompt && strings.Contains(text, " input: ") {
			answers = append(answers, "")
			open = true
		}
		if _, returned, ok := strings.Cut(text, " returns: "); ok && open {
			answers[len(answers)-1] = strings.TrimSpace(returned) // the outermost is the last
		}
	}
	return answers, nil
}
