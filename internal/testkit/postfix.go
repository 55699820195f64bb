package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"
)

// Postfix is an instance of its own of the installed Postfix. It takes mail for
// example.com and delivers all of it into one Maildir. It needs root.
type Postfix struct {
	Addr    string   // host:port
	Maildir string   // where the mail arrives
	Config  []string // more lines for main.cf; set before Start

	dir, etc string
	process
}

// NewPostfix prepares a Postfix in dir, which other users must be able to
// enter.
func NewPostfix(dir string, config ...string) *Postfix {
	return &Postfix{dir: filepath.Join(dir, "postfix"), Config: config}
}

// Start starts Postfix and waits for its greeting.
func (p *Postfix) Start() error {
	if p.Addr == "" {
		if err := p.prepare(); err != nil {
			return fmt.Errorf("testkit: postfix: %w", err)
		}
	}
	return p.start(func() error { return greets(p.Addr) })
}

// Stop ends Postfix.
func (p *Postfix) Stop() error { return p.stop() }

// Kill ends Postfix with SIGKILL.
func (p *Postfix) Kill() { p.kill() }

// Log is Postfix's own log, and what it said before that was open.
func (p *Postfix) Log() string {
	b, _ := os.ReadFile(filepath.Join(p.dir, "maillog"))
	return p.process.Log() + string(b)
}

// Delivered returns the messages in the Maildir, oldest first, with the line
// ends that Postfix stores: LF alone.
func (p *Postfix) Delivered() ([][]byte, error) {
	names, err := filepath.Glob(filepath.Join(p.Maildir, "new", "*"))
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	var all [][]byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

func (p *Postfix) prepare() error {
	if os.Getuid() != 0 {
		return errors.New("an instance of its own needs root")
	}
	path, err := find("postfix", "postfix")
	if err != nil {
		return err
	}
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	p.etc, p.Maildir = filepath.Join(p.dir, "etc"), filepath.Join(p.dir, "mail", "inbox")
	for _, d := range []string{p.etc, filepath.Join(p.dir, "spool"), filepath.Join(p.dir, "data"), filepath.Dir(p.Maildir)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	uid, gid, err := ids("postfix")
	if err != nil {
		return err
	}
	if err := os.Chown(filepath.Join(p.dir, "data"), uid, gid); err != nil {
		return err
	}
	if err := os.Chown(filepath.Dir(p.Maildir), uid, gid); err != nil {
		return err
	}
	if err := p.writeConfig(addr, uid, gid); err != nil {
		return err
	}
	if out, err := exec.Command(path, "-c", p.etc, "check").CombinedOutput(); err != nil {
		return fmt.Errorf("postfix check: %w\n%s", err, out)
	}
	// The master itself, with -d: "postfix start" would put it, and what it
	// starts, out of our process group.
	p.process = process{path: "/usr/lib/postfix/sbin/master", args: []string{"-c", p.etc, "-d"}, log: filepath.Join(p.dir, "log")}
	p.Addr = addr
	return nil
}

func (p *Postfix) writeConfig(addr string, uid, gid int) error {
	main := append([]string{
		"compatibility_level = 3.6", "queue_directory = " + p.dir + "/spool", "data_directory = " + p.dir + "/data",
		"command_directory = /usr/sbin", "daemon_directory = /usr/lib/postfix/sbin", "mail_owner = postfix",
		"setgid_group = postdrop", "myhostname = next.test", "mydestination =", "inet_interfaces = 127.0.0.1",
		"inet_protocols = ipv4", "alias_maps =", "alias_database =", "local_recipient_maps =", "mynetworks = 127.0.0.0/8",
		"smtpd_relay_restrictions = permit_auth_destination, reject", "smtpd_peername_lookup = no",
		"message_size_limit = 200000000", "mailbox_size_limit = 0", "virtual_mailbox_limit = 0",
		"virtual_mailbox_domains = example.com", "virtual_mailbox_base = " + filepath.Dir(p.Maildir),
		"virtual_mailbox_maps = static:" + filepath.Base(p.Maildir) + "/",
		fmt.Sprintf("virtual_uid_maps = static:%d", uid), fmt.Sprintf("virtual_gid_maps = static:%d", gid),
		"virtual_minimum_uid = 1", "maillog_file = " + p.dir + "/maillog", "maillog_file_prefixes = " + filepath.Dir(p.dir),
		"enable_long_queue_ids = yes", "max_idle = 5s", "smtpd_client_connection_count_limit = 0",
	}, p.Config...)
	if err := os.WriteFile(filepath.Join(p.etc, "main.cf"), []byte(strings.Join(main, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	master, err := os.ReadFile("/etc/postfix/master.cf")
	if errors.Is(err, os.ErrNotExist) {
		// Installed but never configured, as in an unattended installation.
		master, err = os.ReadFile("/usr/share/postfix/master.cf.dist")
	}
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(p.etc, "master.cf"), services(master, Port(addr)), 0o644); err != nil {
		return err
	}
	files, err := filepath.Glob("/etc/postfix/postfix-files*")
	if err != nil {
		return err
	}
	for _, name := range append(files, "/etc/postfix/dynamicmaps.cf") {
		if err := copyTree(name, filepath.Join(p.etc, filepath.Base(name))); err != nil {
			return err
		}
	}
	return nil
}

var (
	smtpService = regexp.MustCompile(`(?m)^smtp( +)inet.*$`)
	chrooted    = regexp.MustCompile(`(?m)^([a-z]+ +(?:unix|fifo|inet|unix-dgram) +[-yn] +[-yn] +)y`)
	comment     = regexp.MustCompile(`(?m)^#.*\n`)
)

// services makes our master.cf of Debian's: another port, no chroot.
func services(master []byte, port string) []byte {
	b := comment.ReplaceAll(master, nil)
	b = smtpService.ReplaceAll(b, []byte(port+" inet n - n - - smtpd"))
	b = chrooted.ReplaceAll(b, []byte("${1}n"))
	if !bytes.Contains(b, []byte("\npostlog")) {
		b = append(b, "postlog unix-dgram n - n - 1 postlogd\n"...)
	}
	return b
}

func copyTree(from, to string) error {
	info, err := os.Stat(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}

func ids(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(u.Uid+" "+u.Gid, &uid, &gid); err != nil {
		return 0, 0, err
	}
	return uid, gid, nil
}

// greets reports whether an SMTP server at addr says 220.
func greets(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	b := make([]byte, 512)
	n, err := conn.Read(b)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(b[:n], []byte("220")) {
		return fmt.Errorf("%s greets with %q", addr, b[:n])
	}
	_, err = conn.Write([]byte("QUIT\r\n"))
	return err
}
