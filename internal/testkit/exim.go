package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Exim is a real exim4 beside the installed MTA. It takes mail for example.com
// and passes it on to Next. It needs root.
type Exim struct {
	Addr        string // host:port
	Next        string // host:port that all mail goes to
	Certificate *Certificate
	Gone, Late  []string // recipients that are refused with 550, and with 451; read at each Start

	dir string
	process
}

// NewExim prepares an exim in dir, which other users must be able to enter.
func NewExim(dir, next string, c *Certificate) *Exim {
	return &Exim{dir: filepath.Join(dir, "exim"), Next: next, Certificate: c}
}

// Start starts exim and waits for its greeting.
func (e *Exim) Start() error {
	if e.Addr == "" {
		if err := e.prepare(); err != nil {
			return fmt.Errorf("testkit: exim: %w", err)
		}
	}
	if err := e.writeConfig(); err != nil {
		return err
	}
	return e.start(func() error { return greets(e.Addr) })
}

// Stop ends exim.
func (e *Exim) Stop() error { return e.stop() }

// Address is host:port.
func (e *Exim) Address() string { return e.Addr }

// Refuse sets what happens to recipients from the next Start on.
func (e *Exim) Refuse(gone, late []string) error {
	e.Gone, e.Late = gone, late
	return nil
}

// Log is exim's own log, and what it said before that was open.
func (e *Exim) Log() string {
	text := e.process.Log()
	for _, name := range []string{"mainlog", "paniclog"} {
		b, _ := os.ReadFile(e.file(name))
		text += string(b)
	}
	return text
}

func (e *Exim) file(name string) string { return filepath.Join(e.dir, name) }

const (
	eximUser    = "Debian-exim" // compiled in
	eximProgram = unpackedAt + "/usr/sbin/exim4"
)

func (e *Exim) prepare() error {
	if os.Getuid() != 0 {
		return errors.New("an instance of its own needs root")
	}
	if _, err := find("unshare", "util-linux"); err != nil {
		return err
	}
	root, err := unpacked("exim4", "usr/sbin/exim4", unpackExim)
	if err != nil {
		return err
	}
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	uid := namespaceID(0)
	if id, _, err := ids(eximUser); err == nil { // installed after all
		uid = id
	}
	if err := os.MkdirAll(e.file("spool"), 0o755); err != nil {
		return err
	}
	// It gives up root, and reads the key again.
	key, err := os.ReadFile(e.Certificate.Key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(e.file("key.pem"), key, 0o600); err != nil {
		return err
	}
	for _, name := range []string{"", "spool", "key.pem"} {
		if err := os.Chown(e.file(name), uid, uid); err != nil {
			return err
		}
	}
	args, err := inNamespace(e.dir, root, []string{eximUser}, nil, eximProgram, "-C", e.file("exim.conf"), "-bdf", "-q1m")
	if err != nil {
		return err
	}
	e.process = process{path: "unshare", args: args, log: e.file("log"), env: unpackedEnv()}
	e.Addr = addr
	return nil
}

func unpackExim(dir string) error {
	// The libraries that libgnutls-dane0 and libnsl2 want beside what is there anyway.
	others := []string{"exim4-base", "libunbound8", "libtirpc3"}
	if err := unpackPackages(dir, "exim4-daemon-light", others, []string{"libgnutls-dane0", "libidn12", "libnsl2"}); err != nil {
		return err
	}
	// Set-user-ID it would not look at LD_LIBRARY_PATH.
	return os.Chmod(filepath.Join(dir, "root/usr/sbin/exim4"), 0o755)
}

func (e *Exim) writeConfig() error {
	acl := func(verb, text string, locals []string) string {
		if len(locals) == 0 {
			return ""
		}
		return fmt.Sprintf("  %s\n    message = %s\n    local_parts = %s\n", verb, text, strings.Join(locals, " : "))
	}
	return os.WriteFile(e.file("exim.conf"), fmt.Appendf(nil, `exim_path = %s
keep_environment = LD_LIBRARY_PATH
spool_directory = %s/spool
log_file_path = %[2]s/%%slog
pid_file_path = %[2]s/pid
primary_hostname = next.test
deliver_drop_privilege = true
local_interfaces = 127.0.0.1
daemon_smtp_ports = %[3]s
tls_advertise_hosts = *
tls_certificate = %[4]s
tls_privatekey = %[2]s/key.pem
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
host_lookup =
rfc1413_query_timeout = 0s
message_size_limit = 200M
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
begin acl
rcpt:
%[5]s%[6]s  accept domains = example.com
  deny message = relay not permitted
begin routers
out:
  driver = manualroute
  transport = out
  route_list = * 127.0.0.1
  self = send
begin transports
out:
  driver = smtp
  port = %[7]s
begin retry
* * F,1h,1m
`, eximProgram, e.dir, Port(e.Addr), e.Certificate.Cert,
		acl("deny", "5.1.1 nobody of that name", e.Gone), acl("defer", "4.2.0 come again", e.Late), Port(e.Next)), 0o644)
}
