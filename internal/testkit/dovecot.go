package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Dovecot is an instance of its own of the installed Dovecot, as an LMTP server
// that keeps the mail of some users. It needs root.
type Dovecot struct {
	Addr  string            // host:port of LMTP
	Users map[string]string // addresses and their quotas ("10k"; "" is none); set before Start

	dir string
	process
}

// NewDovecot prepares a Dovecot in dir, which other users must be able to enter.
func NewDovecot(dir string, users map[string]string) *Dovecot {
	return &Dovecot{dir: filepath.Join(dir, "dovecot"), Users: users}
}

// Start starts Dovecot and waits for its greeting.
func (d *Dovecot) Start() error {
	if d.Addr == "" {
		if err := d.prepare(); err != nil {
			return fmt.Errorf("testkit: dovecot: %w", err)
		}
	}
	return d.start(func() error { return greets(d.Addr) })
}

// Stop ends Dovecot.
func (d *Dovecot) Stop() error { return d.stop() }

// Maildir is where the mail of a user is.
func (d *Dovecot) Maildir(user string) string { return filepath.Join(d.dir, "mail", user) }

// Delivered returns the messages of a user, with LF alone at the ends of lines.
func (d *Dovecot) Delivered(user string) ([][]byte, error) {
	names, err := filepath.Glob(filepath.Join(d.Maildir(user), "new", "*"))
	if err != nil {
		return nil, err
	}
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

func (d *Dovecot) prepare() error {
	if os.Getuid() != 0 {
		return errors.New("an instance of its own needs root")
	}
	path, err := find("dovecot", "dovecot-core dovecot-lmtpd")
	if err != nil {
		return err
	}
	if _, err := os.Stat("/usr/lib/dovecot/lmtp"); err != nil {
		return &MissingError{"lmtp", "dovecot-lmtpd"}
	}
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	// It takes mail for users other than root only.
	uid, gid, err := ids("nobody")
	if err != nil {
		return err
	}
	for _, sub := range []string{"run", "state", "mail"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chown(filepath.Join(d.dir, "mail"), uid, gid); err != nil {
		return err
	}
	var users strings.Builder
	for name, quota := range d.Users {
		rule := ""
		if quota != "" {
			rule = "userdb_quota_rule=*:storage=" + quota
		}
		fmt.Fprintf(&users, "%s::%d:%d::%s::%s\n", name, uid, gid, d.Maildir(name), rule)
	}
	conf := filepath.Join(d.dir, "dovecot.conf")
	for name, text := range map[string]string{filepath.Join(d.dir, "users"): users.String(), conf: d.config(addr)} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	d.process = process{path: path, args: []string{"-F", "-c", conf}, log: filepath.Join(d.dir, "log")}
	d.Addr = addr
	return nil
}

func (d *Dovecot) config(addr string) string {
	return fmt.Sprintf(`protocols = lmtp
base_dir = %s/run
state_dir = %[1]s/state
log_path = /dev/stderr
ssl = no
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:~
mail_plugins = quota
plugin {
  quota = count:User quota
  quota_vsizes = yes
  quota_grace = 0
}
passdb {
  driver = passwd-file
  args = %[1]s/users
}
userdb {
  driver = passwd-file
  args = %[1]s/users
}
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = %[2]s
  }
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
protocol lmtp {
  mail_plugins = quota
  postmaster_address = postmaster@example.com
}
`, d.dir, Port(addr))
}
