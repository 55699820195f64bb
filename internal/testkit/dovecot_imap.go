package testkit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// DovecotIMAP is an instance of its own of the installed Dovecot, where users
// read their mail and a script runs after each login. It needs root.
type DovecotIMAP struct {
	Addr   string            // host:port
	Users  map[string]string // names and passwords; set before Start
	Script string            // runs after each login

	dir string
	process
}

// NewDovecotIMAP prepares a Dovecot in dir, which other users must be able to
// enter.
func NewDovecotIMAP(dir, script string, users map[string]string) *DovecotIMAP {
	return &DovecotIMAP{dir: filepath.Join(dir, "dovecot-imap"), Script: script, Users: users}
}

// Start starts Dovecot and waits for its port.
func (d *DovecotIMAP) Start() error {
	if err := d.prepare(); err != nil {
		return fmt.Errorf("testkit: dovecot: %w", err)
	}
	return d.start(func() error {
		c, err := net.DialTimeout("tcp", d.Addr, time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// Stop ends Dovecot.
func (d *DovecotIMAP) Stop() error { return d.stop() }

func (d *DovecotIMAP) prepare() error {
	if os.Getuid() != 0 {
		return errors.New("an instance of its own needs root")
	}
	path, err := find("dovecot", "dovecot-imapd")
	if err != nil {
		return err
	}
	if _, err := os.Stat("/usr/lib/dovecot/imap"); err != nil {
		return &MissingError{"imap", "dovecot-imapd"}
	}
	if d.Addr, err = FreeAddr(); err != nil {
		return err
	}
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
	for name, password := range d.Users {
		fmt.Fprintf(&users, "%s:{PLAIN}%s:%d:%d::%s/mail/%[1]s::\n", name, password, uid, gid, d.dir)
	}
	conf := filepath.Join(d.dir, "dovecot.conf")
	for name, text := range map[string]string{filepath.Join(d.dir, "users"): users.String(), conf: d.config()} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	d.process = process{path: path, args: []string{"-F", "-c", conf}, log: filepath.Join(d.dir, "log")}
	return nil
}

func (d *DovecotIMAP) config() string {
	return fmt.Sprintf(`protocols = imap
base_dir = %s/run
state_dir = %[1]s/state
log_path = /dev/stderr
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:~
passdb {
  driver = passwd-file
  args = %[1]s/users
}
userdb {
  driver = passwd-file
  args = %[1]s/users
}
service imap-login {
  chroot =
  inet_listener imap {
    address = 127.0.0.1
    port = %[2]s
  }
  inet_listener imaps {
    port = 0
  }
}
service imap {
  executable = imap imap-postlogin
}
service imap-postlogin {
  executable = script-login %[3]s
  user = root
  unix_listener imap-postlogin {
  }
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
`, d.dir, Port(d.Addr), d.Script)
}
