package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// target is a relay that is measured.
type target interface {
	name() string
	addr() string
	cpu() time.Duration // used so far, with all its processes
	peakMemory() int64  // bytes; 0 where it can't be told
	stop()
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func waitBanner(addr string) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			continue
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		b := make([]byte, 3)
		_, err = c.Read(b)
		_, _ = c.Write([]byte("QUIT\r\n"))
		c.Close()
		if err == nil && string(b) == "220" {
			return nil
		}
	}
	return fmt.Errorf("nothing answers at %s", addr)
}

// ---- Gatepost

type gateway struct {
	cmd    *exec.Cmd
	listen string
}

func startGateway(dir, binary, next string) (target, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	g := &gateway{listen: fmt.Sprintf("127.0.0.1:%d", port)}
	d := filepath.Join(dir, "gatepost")
	if err := os.Mkdir(d, 0o700); err != nil {
		return nil, err
	}
	conf := filepath.Join(d, "gatepost.toml")
	text := fmt.Sprintf(`hostname = "gw.bench.test"
spool    = %q
control  = %q
[relay]
domains = ["example.com"]
[listener.mx]
address = %q
role    = "mx"
[listener.mx.limits]
max_connections            = 2000
max_connections_per_client = 2000
[route."example.com"]
to = ["smtp://%s"]
`, filepath.Join(d, "spool"), "unix:"+filepath.Join(d, "control.sock"), g.listen, next)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(d, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	g.cmd = exec.Command(binary, "serve", "-c", conf)
	g.cmd.Stderr = log
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	if err := waitBanner(g.listen); err != nil {
		g.stop()
		out, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return g, nil
}

func (g *gateway) name() string       { return "Gatepost" }
func (g *gateway) addr() string       { return g.listen }
func (g *gateway) cpu() time.Duration { return treeCPU(g.cmd.Process.Pid) }
func (g *gateway) peakMemory() int64  { return statusBytes(g.cmd.Process.Pid, "VmHWM:") }

func (g *gateway) stop() {
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	_ = g.cmd.Wait()
}

// ---- Postfix

type postfix struct {
	etc, listen string
	master      int
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

// startPostfix starts an instance of its own, with what a careful admin would
// change for a fast relay: no input delay, 200 processes, no look-up of client
// names, 20 deliveries at once from the start, cached connections.
func startPostfix(dir, next string) (target, error) {
	if _, err := exec.LookPath("postfix"); err != nil {
		return nil, fmt.Errorf("%w: apt-get install postfix", err)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	host, nextPort, _ := strings.Cut(next, ":")
	hop := fmt.Sprintf("[%s]:%s", host, nextPort)
	d := filepath.Join(dir, "postfix")
	for _, sub := range []string{"", "etc", "spool", "data"} {
		if err := os.Mkdir(filepath.Join(d, sub), 0o755); err != nil {
			return nil, err
		}
	}
	if out, err := exec.Command("chown", "postfix:postfix", filepath.Join(d, "data")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	p := &postfix{etc: filepath.Join(d, "etc"), listen: fmt.Sprintf("127.0.0.1:%d", port)}
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
	if err := os.WriteFile(filepath.Join(p.etc, "main.cf"), conf.Bytes(), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(p.etc, "master.cf"), fmt.Appendf(nil, services, port), 0o644); err != nil {
		return nil, err
	}
	if out, err := exec.Command("postfix", "-c", p.etc, "start").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("postfix start: %w: %s", err, out)
	}
	if err := waitBanner(p.listen); err != nil {
		p.stop()
		return nil, err
	}
	pid, err := os.ReadFile(filepath.Join(d, "spool/pid/master.pid"))
	if err != nil {
		p.stop()
		return nil, err
	}
	_, err = fmt.Sscan(string(pid), &p.master)
	return p, err
}

func (p *postfix) name() string       { return "Postfix tuned" }
func (p *postfix) addr() string       { return p.listen }
func (p *postfix) cpu() time.Duration { return treeCPU(p.master) }
func (p *postfix) peakMemory() int64  { return 0 }
func (p *postfix) stop()              { _ = exec.Command("postfix", "-c", p.etc, "stop").Run() }
