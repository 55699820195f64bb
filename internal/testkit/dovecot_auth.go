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

// DovecotAuth is an instance of its own of the installed Dovecot, which only
// knows who may log in. It needs root.
type DovecotAuth struct {
	Socket string            // of "service auth" for clients
	Users  map[string]string // names and passwords; set before Start

	dir string
	process
}

// NewDovecotAuth prepares a Dovecot in dir, which other users must be able to
// enter.
func NewDovecotAuth(dir string, users map[string]string) *DovecotAuth {
	dir = filepath.Join(dir, "dovecot-auth")
	return &DovecotAuth{dir: dir, Users: users, Socket: filepath.Join(dir, "run", "auth-client")}
}

// Start starts Dovecot and waits for its socket.
func (d *DovecotAuth) Start() error {
	if err := d.prepare(); err != nil {
		return fmt.Errorf("testkit: dovecot: %w", err)
	}
	return d.start(func() error {
		c, err := net.DialTimeout("unix", d.Socket, time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// Stop ends Dovecot.
func (d *DovecotAuth) Stop() error { return d.stop() }

func (d *DovecotAuth) prepare() error {
	if os.Getuid() != 0 {
		return errors.New("an instance of its own needs root")
	}
	path, err := find("dovecot", "dovecot-core")
	if err != nil {
		return err
	}
	for _, sub := range []string{"run", "state"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o755); err != nil {
			return err
		}
	}
	var users strings.Builder
	for name, password := range d.Users {
		fmt.Fprintf(&users, "%s:{PLAIN}%s\n", name, password)
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

func (d *DovecotAuth) config() string {
	return fmt.Sprintf(`protocols =
base_dir = %s/run
state_dir = %[1]s/state
log_path = /dev/stderr
ssl = no
auth_mechanisms = plain login
auth_verbose = yes
auth_failure_delay = 1 secs
passdb {
  driver = passwd-file
  args = username_format=%%u %[1]s/users
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}
service auth {
  unix_listener auth-client {
    mode = 0666
  }
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
`, d.dir)
}
