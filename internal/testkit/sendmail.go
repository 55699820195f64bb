package testkit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Sendmail is a real sendmail beside the installed MTA. It takes mail for
// example.com from loopback and passes it on to Next. It needs root and m4.
type Sendmail struct {
	Addr    string   // host:port
	Addr6   string   // the same port on ::1; "" where there is no IPv6
	Next    string   // host:port that all mail goes to
	Filters []string // INPUT_MAIL_FILTER lines; set before Start
	Config  []string // more lines for sendmail.mc; set before Start

	dir, root string
	process
}

// NewSendmail prepares a sendmail in dir that asks one milter, named gatepost:
// filter is the second argument of INPUT_MAIL_FILTER,
// "S=unix:/path, F=T, T=R:1m". "" is none.
func NewSendmail(dir, next, filter string) *Sendmail {
	s := &Sendmail{dir: filepath.Join(dir, "sendmail"), Next: next}
	if filter != "" {
		s.Filters = []string{fmt.Sprintf("INPUT_MAIL_FILTER(`gatepost', `%s')dnl", filter)}
	}
	return s
}

// Start starts sendmail and waits for its greeting.
func (s *Sendmail) Start() error {
	if s.Addr == "" {
		if err := s.prepare(); err != nil {
			return fmt.Errorf("testkit: sendmail: %w", err)
		}
	}
	return s.start(func() error { return listens(s.Addr) })
}

// Stop ends sendmail.
func (s *Sendmail) Stop() error { return s.stop() }

// Kill ends sendmail with SIGKILL.
func (s *Sendmail) Kill() { s.kill() }

// Log is what was said over SMTP and what sendmail complained of: there is no
// syslogd.
func (s *Sendmail) Log() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "traffic"))
	return s.process.Log() + string(b)
}

// Address is host:port.
func (s *Sendmail) Address() string { return s.Addr }

// Address6 is the same port on ::1, "" where there is no IPv6.
func (s *Sendmail) Address6() string { return s.Addr6 }

// Held counts the messages in the quarantine.
func (s *Sendmail) Held() (int, error) {
	reasons, err := s.Quarantined()
	return len(reasons), err
}

// Quarantined returns the reasons of the messages that wait in the quarantine
// (queue files hf*, line q).
func (s *Sendmail) Quarantined() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "queue", "hf*"))
	if err != nil {
		return nil, err
	}
	var reasons []string
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			if reason, ok := strings.CutPrefix(line, "q"); ok {
				reasons = append(reasons, strings.TrimSpace(reason))
			}
		}
	}
	slices.Sort(reasons)
	return reasons, nil
}

// ReleaseAll takes all messages out of the quarantine and delivers them.
func (s *Sendmail) ReleaseAll() error {
	for _, args := range [][]string{{"-qQ", "-Q"}, {"-q"}} {
		cmd := exec.Command("unshare", s.command(args...)...)
		cmd.Env = append(os.Environ(), s.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("testkit: sendmail %v: %w\n%s", args, err, out)
		}
	}
	return nil
}

// command is the arguments of unshare that run sendmail under a host name with a
// dot: without one it waits a minute for a better one.
func (s *Sendmail) command(args ...string) []string {
	program := filepath.Join(s.root, "usr/libexec/sendmail/sendmail")
	return append([]string{"--uts", "sh", "-c", `hostname sm.test && exec "$0" "$@"`, program, "-C", s.file("sendmail.cf")}, args...)
}

func (s *Sendmail) file(name string) string { return filepath.Join(s.dir, name) }

func (s *Sendmail) prepare() error {
	if os.Getuid() != 0 {
		return errors.New("an instance of its own needs root")
	}
	for _, need := range [][2]string{{"m4", "m4"}, {"unshare", "util-linux"}} {
		if _, err := find(need[0], need[1]); err != nil {
			return err
		}
	}
	var err error
	if s.root, err = unpackedSendmail(); err != nil {
		return err
	}
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	for _, d := range []string{s.dir, s.file("queue")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if l, err := net.Listen("tcp", "[::1]:"+Port(addr)); err == nil {
		s.Addr6 = l.Addr().String()
		_ = l.Close()
	}
	s.env = []string{"LD_LIBRARY_PATH=" + filepath.Join(s.root, "usr/lib/x86_64-linux-gnu")}
	if err := s.writeConfig(addr); err != nil {
		return err
	}
	s.process = process{path: "unshare", env: s.env, log: s.file("log"), args: s.command("-X", s.file("traffic"), "-bD", "-q1m")}
	s.Addr = addr
	return nil
}

func (s *Sendmail) writeConfig(addr string) error {
	mc := s.mc(addr)
	for name, text := range map[string]string{
		"sendmail.mc": mc,
		"access":      "To:example.com\tRELAY\n",
		"mailertable": "example.com\tesmtp:[127.0.0.1]\n",
		"switch":      "hosts files\naliases files\n",
		"aliases":     "",
		"names":       "",
	} {
		if err := os.WriteFile(s.file(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	cf, err := exec.Command("m4", "-I", s.cf(), s.file("sendmail.mc")).Output()
	if err != nil {
		return fmt.Errorf("m4: %w", err)
	}
	if err := os.WriteFile(s.file("sendmail.cf"), cf, 0o644); err != nil {
		return err
	}
	for _, table := range []string{"access", "mailertable"} {
		if err := s.makemap(table); err != nil {
			return err
		}
	}
	return nil
}

// makemap makes a table of a text. It wants a configuration, or it ends with 66.
func (s *Sendmail) makemap(table string) error {
	in, err := os.Open(s.file(table))
	if err != nil {
		return err
	}
	defer in.Close()
	cmd := exec.Command(filepath.Join(s.root, "usr/libexec/sendmail/makemap"), "-C", s.file("sendmail.cf"), "hash", s.file(table)+".db")
	cmd.Stdin, cmd.Env = in, append(os.Environ(), s.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("makemap %s: %w\n%s", table, err, out)
	}
	return nil
}

func (s *Sendmail) cf() string { return filepath.Join(s.root, "usr/share/sendmail/cf") + "/" }

func (s *Sendmail) mc(addr string) string {
	define := func(name, value string) string { return fmt.Sprintf("define(`%s', `%s')dnl", name, value) }
	lines := []string{
		"divert(-1)",
		define("_CF_DIR_", s.cf()),
		"include(`" + s.cf() + "m4/cf.m4')",
		"divert(0)dnl",
		"OSTYPE(`linux')dnl",
		define("confDOMAIN_NAME", "sm.test"),
		define("QUEUE_DIR", s.file("queue")),
		define("confPID_FILE", s.file("pid")),
		define("STATUS_FILE", s.file("statistics")),
		define("HELP_FILE", s.file("helpfile")),
		define("ALIAS_FILE", s.file("aliases")),
		define("confCW_FILE", s.file("names")),
		define("confSERVICE_SWITCH_FILE", s.file("switch")),
		// The directories above may be written to by others (/tmp).
		define("confDONT_BLAME_SENDMAIL", "MapInUnsafeDirPath,ClassFileInUnsafeDirPath,FileDeliveryToHardLink"),
		define("confTO_IDENT", "0"),
		define("confDELIVERY_MODE", "background"),
		// On a busy machine it would take no mail, or leave it in the queue.
		define("confREFUSE_LA", "0"), define("confQUEUE_LA", "10000"), define("confDELAY_LA", "0"),
		define("confLOG_LEVEL", "0"), // there is no syslogd
		// On a busy machine it would take no connections, or no deliveries.
		define("confREFUSE_LA", "1000"),
		define("confQUEUE_LA", "1000"),
		"define(`ESMTP_MAILER_ARGS', `TCP $h " + Port(s.Next) + "')dnl",
		"FEATURE(`no_default_msa')dnl",
		"FEATURE(`nocanonify')dnl",
		"FEATURE(`accept_unresolvable_domains')dnl",
		"FEATURE(`access_db', `hash " + s.file("access") + "')dnl",
		"FEATURE(`mailertable', `hash " + s.file("mailertable") + "')dnl",
		"DAEMON_OPTIONS(`Name=MTA, Family=inet, Addr=127.0.0.1, Port=" + Port(addr) + "')dnl",
	}
	if s.Addr6 != "" {
		lines = append(lines, "DAEMON_OPTIONS(`Name=MTA6, Family=inet6, Addr=::1, Port="+Port(addr)+"')dnl")
	}
	lines = append(lines, s.Filters...)
	lines = append(lines, s.Config...)
	return strings.Join(append(lines, "MAILER(`smtp')dnl", ""), "\n")
}
