package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Spamd is a real spamd that judges by its local rules alone. It listens on a
// unix socket and on TCP.
type Spamd struct {
	Socket string   // path
	Addr   string   // host:port
	Rules  []string // more lines for local.cf; set before Start
	Args   []string // more arguments: "--allow-tell"; set before Start

	dir string
	process
}

// NewSpamd prepares a spamd in dir, which other users must be able to enter.
func NewSpamd(dir string, rules ...string) *Spamd {
	return &Spamd{dir: filepath.Join(dir, "spamd"), Rules: rules}
}

// Start starts spamd and waits until it answers a PING on both addresses.
func (s *Spamd) Start() error {
	if s.Addr == "" {
		if err := s.prepare(); err != nil {
			return fmt.Errorf("testkit: spamd: %w", err)
		}
	}
	return s.start(func() error {
		const ping, pong = "PING SPAMC/1.5\r\n\r\n", "SPAMD/1.5 0 PONG"
		if err := ask("unix", s.Socket, ping, pong); err != nil {
			return err
		}
		return ask("tcp", s.Addr, ping, pong)
	})
}

// Stop ends spamd with SIGTERM.
func (s *Spamd) Stop() error { return s.stop() }

// Kill ends spamd and its children with SIGKILL.
func (s *Spamd) Kill() { s.kill() }

func (s *Spamd) prepare() error {
	path, err := find("spamd", "spamd spamassassin")
	if err != nil {
		return err
	}
	site, home := filepath.Join(s.dir, "site"), filepath.Join(s.dir, "home")
	for _, d := range []string{site, home} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(home, 0o777); err != nil {
		return err
	}
	if err := copyPlugins(site); err != nil {
		return err
	}
	rules := append([]string{"use_bayes 0", "skip_rbl_checks 1", "dns_available no"}, s.Rules...)
	if err := os.WriteFile(filepath.Join(site, "local.cf"), []byte(strings.Join(rules, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	s.Socket = filepath.Join(s.dir, "spamd.sock")
	s.process = process{path: path, log: filepath.Join(s.dir, "log"), args: []string{
		"-L", "-x", "--listen", addr, "--listen", s.Socket, "--allowed-ips", "127.0.0.1",
		"--max-children", "4", "--min-children", "2", "--min-spare", "1", "--max-spare", "2",
		"--siteconfigpath=" + site, "--pidfile", filepath.Join(s.dir, "pid"), "-s", "stderr",
		"--helper-home-dir=" + home,
	}}
	s.args = append(s.args, s.Args...)
	if os.Getuid() == 0 {
		s.args = append(s.args, "-u", "nobody")
	}
	s.Addr = addr
	return nil
}

// copyPlugins takes over Debian's list of plug-ins. With a site directory that
// has none spamd dies: "no loaded plugin implements check_main".
func copyPlugins(site string) error {
	pre, err := filepath.Glob("/etc/spamassassin/*.pre")
	if err != nil {
		return err
	}
	if len(pre) == 0 {
		return &MissingError{"/etc/spamassassin/*.pre", "spamassassin"}
	}
	for _, name := range pre {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(site, filepath.Base(name)), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
