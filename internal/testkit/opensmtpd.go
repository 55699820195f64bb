package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// OpenSMTPD is a real one beside the installed MTA. It takes mail for
// example.com and passes it on to Next. It needs root.
//
// Debian 12's 6.8.0 offers STARTTLS and then fails each handshake ("missing
// private key": its private key engine does not work with OpenSSL 3), so it is
// also a next hop whose TLS is broken.
type OpenSMTPD struct {
	Addr        string // host:port
	Next        string // host:port that all mail goes to
	Certificate *Certificate
	Gone, Late  []string // recipients that are refused with 550, and with 451; read at each Start

	dir string
	process
}

// NewOpenSMTPD prepares an OpenSMTPD in dir, which other users must be able to
// enter.
func NewOpenSMTPD(dir, next string, c *Certificate) *OpenSMTPD {
	return &OpenSMTPD{dir: filepath.Join(dir, "opensmtpd"), Next: next, Certificate: c}
}

// Start starts OpenSMTPD and waits for its greeting.
func (o *OpenSMTPD) Start() error {
	if o.Addr == "" {
		if err := o.prepare(); err != nil {
			return fmt.Errorf("testkit: opensmtpd: %w", err)
		}
	}
	if err := o.writeConfig(); err != nil {
		return err
	}
	return o.start(func() error { return greets(o.Addr) })
}

// Stop ends OpenSMTPD.
func (o *OpenSMTPD) Stop() error { return o.stop() }

// Address is host:port.
func (o *OpenSMTPD) Address() string { return o.Addr }

// Refuse sets what happens to recipients from the next Start on.
func (o *OpenSMTPD) Refuse(gone, late []string) error {
	o.Gone, o.Late = gone, late
	return nil
}

func (o *OpenSMTPD) file(name string) string { return filepath.Join(o.dir, name) }

func (o *OpenSMTPD) prepare() error {
	if os.Getuid() != 0 {
		return errors.New("an instance of its own needs root")
	}
	if _, err := find("unshare", "util-linux"); err != nil {
		return err
	}
	root, err := unpacked("opensmtpd", "usr/sbin/smtpd", func(dir string) error {
		return unpackPackages(dir, "opensmtpd", nil, []string{"libevent-2.1-7"})
	})
	if err != nil {
		return err
	}
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	// Its chroot, its queue and its socket are where Debian compiled them in.
	const dirs = `mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd && chmod 711 /var/lib/opensmtpd/empty /var/spool/smtpd && exec "$0" "$@"`
	args, err := inNamespace(o.dir, root, []string{"opensmtpd", "opensmtpq"}, []string{"/var/lib", "/var/spool", "/run"},
		"sh", "-c", dirs, unpackedAt+"/usr/sbin/smtpd", "-d", "-f", o.file("smtpd.conf"))
	if err != nil {
		return err
	}
	o.process = process{path: "unshare", args: args, log: o.file("log"), env: unpackedEnv()}
	o.Addr = addr
	return nil
}

func (o *OpenSMTPD) writeConfig() error {
	table := func(locals []string) string {
		if len(locals) == 0 {
			return `"nobody@nowhere.test"` // an empty table is an error
		}
		return `"` + strings.Join(locals, `@example.com", "`) + `@example.com"`
	}
	return os.WriteFile(o.file("smtpd.conf"), fmt.Appendf(nil, `pki next.test cert "%s"
pki next.test key "%s"
smtp max-message-size 200M
table gone { %s }
table late { %s }
filter gone phase rcpt-to match rcpt-to <gone> reject "550 5.1.1 nobody of that name"
filter late phase rcpt-to match rcpt-to <late> reject "451 4.2.0 come again"
filter both chain { gone, late }
listen on 127.0.0.1 port %s hostname next.test tls pki next.test filter both
action "out" relay host "smtp://%s"
match from any for domain "example.com" action "out"
`, o.Certificate.Cert, o.Certificate.Key, table(o.Gone), table(o.Late), Port(o.Addr), o.Next), 0o600)
}
