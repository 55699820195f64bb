package testkit

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// OpenDKIM is a real opendkim that signs mail from sender.test as a milter.
type OpenDKIM struct {
	Addr   string // host:port
	Record string // the public key, as the TXT record of Name
	Name   string // "s1._domainkey.sender.test"

	dir string
	process
}

// NewOpenDKIM prepares an opendkim in dir.
func NewOpenDKIM(dir string) *OpenDKIM { return &OpenDKIM{dir: filepath.Join(dir, "opendkim")} }

// Start starts opendkim and waits until it takes connections.
func (o *OpenDKIM) Start() error {
	if o.Addr == "" {
		if err := o.prepare(); err != nil {
			return fmt.Errorf("testkit: opendkim: %w", err)
		}
	}
	return o.start(func() error { return takes("tcp", o.Addr) })
}

// Stop ends opendkim, which has nothing to put away; libmilter would heed SIGTERM
// after up to five seconds.
func (o *OpenDKIM) Stop() error {
	o.kill()
	return nil
}

// Socket is where it listens, in libmilter's spelling.
func (o *OpenDKIM) Socket() string { return "inet:" + Port(o.Addr) + "@127.0.0.1" }

func (o *OpenDKIM) prepare() error {
	path, err := find("opendkim", "opendkim")
	if err != nil {
		return err
	}
	keygen, err := find("opendkim-genkey", "opendkim-tools")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	if _, err := output(o.dir, keygen, "-b", "2048", "-d", "sender.test", "-s", "s1", "-D", o.dir); err != nil {
		return err
	}
	if o.Record, err = publicKey(filepath.Join(o.dir, "s1.txt")); err != nil {
		return err
	}
	o.Name = "s1._domainkey.sender.test"
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	conf := filepath.Join(o.dir, "opendkim.conf")
	lines := []string{
		"Mode s", "Socket inet:" + Port(addr) + "@127.0.0.1", "Domain sender.test", "Selector s1", "KeyFile " + filepath.Join(o.dir, "s1.private"),
		"RequireSafeKeys no", "InternalHosts 127.0.0.1", "Canonicalization simple/simple", "LogWhy no", "Syslog no",
		// Its host name would be asked of DNS.
		"DNSTimeout 1",
	}
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	o.process = process{path: path, args: []string{"-f", "-x", conf}, log: filepath.Join(o.dir, "log")}
	o.Addr = addr
	return nil
}

// publicKey joins the quoted strings of a zone file's record.
func publicKey(zone string) (string, error) {
	b, err := os.ReadFile(zone)
	if err != nil {
		return "", err
	}
	var record strings.Builder
	for i, part := range strings.Split(string(b), `"`) {
		if i%2 == 1 {
			record.WriteString(part)
		}
	}
	return record.String(), nil
}

// takes reports whether somebody listens there.
func takes(network, addr string) error {
	c, err := net.DialTimeout(network, addr, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}
