package measure

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Postfix is an instance of its own.
type Postfix struct {
	name, etc, listen string
	master            int
}

// services are those that a relay needs, with the process limits of "tuned".
const services = `%d inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// StartPostfix starts an instance of its own, with what a careful admin would
// change for a fast relay: no input delay, 200 processes, no look-up of client
// names, 20 deliveries at once from the start, cached connections. more is
// further lines for main.cf.
func StartPostfix(dir, name, next string, more ...string) (*Postfix, error) {
	if _, err := exec.LookPath("postfix"); err != nil {
		return nil, fmt.Errorf("%w: apt-get install postfix", err)
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	host, nextPort, _ := strings.Cut(next, ":")
	hop := fmt.Sprintf("[%s]:%s", host, nextPort)
	d := filepath.Join(dir, strings.ReplaceAll(strings.ToLower(name), " ", "-"))
	for _, sub := range []string{"", "etc", "spool", "data"} {
		if err := os.Mkdir(filepath.Join(d, sub), 0o755); err != nil {
			return nil, err
		}
	}
	if out, err := exec.Command("chown", "postfix:postfix", filepath.Join(d, "data")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	p := &Postfix{name: name, etc: filepath.Join(d, "etc"), listen: fmt.Sprintf("127.0.0.1:%d", port)}
	var conf bytes.Buffer
	for k, v := range map[string]string{
		"compatibility_level": "3.6", "queue_directory": d + "/spool", "data_directory": d + "/data",
		"myhostname": "pf.bench.test", "mydestination": "", "local_recipient_maps": "", "alias_maps": "", "alias_database": "",
		"mynetworks": "127.0.0.0/8", "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4", "relayhost": hop,
		"smtp_dns_support_level": "disabled", "smtp_host_lookup": "native", "smtpd_relay_restrictions": "permit_mynetworks, reject",
		"multi_instance_wrapper": "", "message_size_limit": "104857600",
		"maillog_file": d + "/log", "maillog_file_prefixes": "/var/tmp",
		"in_flow_delay": "0", "default_process_limit": "200", "smtpd_peername_lookup": "no",
		"default_destination_concurrency_limit": "20", "initial_destination_concurrency": "20",
		"smtp_connection_cache_destinations": hop, "smtp_tls_security_level": "none", "smtpd_client_connection_count_limit": "0",
	} {
		fmt.Fprintf(&conf, "%s = %s\n", k, v)
	}
	for _, line := range more {
		fmt.Fprintln(&conf, line)
	}
	if err := os.WriteFile(filepath.Join(p.etc, "main.cf"), conf.Bytes(), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(p.etc, "master.cf"), fmt.Appendf(nil, services, port), 0o644); err != nil {
		return nil, err
	}
	if out, err := exec.Command("postfix", "-c", p.etc, "start").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("postfix start: %w: %s", err, out)
	}
	if err := WaitBanner(p.listen); err != nil {
		p.Stop()
		return nil, err
	}
	pid, err := os.ReadFile(filepath.Join(d, "spool/pid/master.pid"))
	if err != nil {
		p.Stop()
		return nil, err
	}
	_, err = fmt.Sscan(string(pid), &p.master)
	return p, err
}

// Name is how the table calls it.
func (p *Postfix) Name() string { return p.name }

// Addr is where it listens.
func (p *Postfix) Addr() string { return p.listen }

// CPU is what all its processes used so far.
func (p *Postfix) CPU() time.Duration { return treeCPU(p.master) }

// PeakMemory can't be told.
func (p *Postfix) PeakMemory() int64 { return 0 }

// Stop ends it.
func (p *Postfix) Stop() { _ = exec.Command("postfix", "-c", p.etc, "stop").Run() }
