package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// OpenDKIMTools are opendkim and opendkim-testkey, asking a name server of ours.
type OpenDKIMTools struct {
	dir, conf, filter, testkey string
}

// NewOpenDKIMTools prepares them in dir; dns is a server that is asked as a
// resolver.
func NewOpenDKIMTools(dir string, dns *DNS) (*OpenDKIMTools, error) {
	o := &OpenDKIMTools{dir: filepath.Join(dir, "opendkim-tools")}
	var err error
	if o.filter, err = find("opendkim", "opendkim"); err != nil {
		return nil, err
	}
	if o.testkey, err = find("opendkim-testkey", "opendkim-tools"); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return nil, err
	}
	host, port, _ := strings.Cut(dns.Addr, ":")
	unbound := filepath.Join(o.dir, "unbound.conf")
	o.conf = filepath.Join(o.dir, "opendkim.conf")
	for path, text := range map[string]string{
		unbound: "server:\n\tdo-not-query-localhost: no\n\tmodule-config: \"iterator\"\nforward-zone:\n\tname: \".\"\n\tforward-addr: " + host + "@" + port + "\n",
		o.conf:  "Mode v\nSocket inet:0@127.0.0.1\nSyslog no\nDNSTimeout 30\nRequireSafeKeys no\nResolverConfiguration " + unbound + "\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// Verify returns an error unless opendkim takes a signature of the message.
func (o *OpenDKIMTools) Verify(message []byte) error {
	path := filepath.Join(o.dir, "message")
	if err := os.WriteFile(path, message, 0o644); err != nil {
		return err
	}
	out, err := exec.Command(o.filter, "-x", o.conf, "-v", "-t", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "succeeded") {
		return fmt.Errorf("opendkim: %v\n%s", err, out)
	}
	return nil
}

// TestKey returns an error unless opendkim-testkey finds that the DNS has the
// public half of a key.
func (o *OpenDKIMTools) TestKey(domain, selector, file string) error {
	out, err := exec.Command(o.testkey, "-x", o.conf, "-d", domain, "-s", selector, "-k", file, "-vvv").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "key OK") {
		return fmt.Errorf("opendkim-testkey: %v\n%s", err, out)
	}
	return nil
}
