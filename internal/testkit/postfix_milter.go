package testkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// MilterMTA is a mail server that asks milters.
type MilterMTA interface {
	Address() string    // host:port
	Address6() string   // the same port on ::1; "" where there is no IPv6
	Held() (int, error) // messages in the quarantine
	ReleaseAll() error  // delivers them
}

// MilterPostfix is a Postfix that passes its mail on instead of delivering it,
// and asks milters about it. A client on loopback may say with XCLIENT who it is.
type MilterPostfix struct {
	*Postfix
	Addr6    string // the same port on ::1; "" where there is no IPv6
	Chroot   bool   // run smtpd below the queue directory, as Debian does; set before Start
	Reinject string // host:port of one more smtpd, for loopback alone, that asks no milter; set before Start
	Doors    []Door // more smtpd, each with a milter and a next hop of its own; set before Start
}

// Door is a port of a Postfix whose mail one milter is asked about, and all of
// which goes to one next hop.
type Door struct{ Addr, Milter, Next string }

// NewMilterPostfix prepares a Postfix in dir that asks the milters given
// (value of smtpd_milters) and passes mail for example.com on to next. config
// is more lines for main.cf, of which the last of a name counts.
func NewMilterPostfix(dir, next, milters string, config ...string) *MilterPostfix {
	lines := []string{
		"myhostname = pf.test", "virtual_mailbox_domains =", "relay_domains = example.com", "relay_recipient_maps =",
		"inet_interfaces = 127.0.0.1, [::1]", "inet_protocols = all",
		fmt.Sprintf("transport_maps = inline:{ { example.com = smtp:[127.0.0.1]:%s } }", Port(next)),
		"smtp_dns_support_level = disabled", "smtp_host_lookup = native", "smtp_tls_security_level = none",
		"smtpd_milters = " + milters, "smtpd_authorized_xclient_hosts = 127.0.0.0/8",
		"minimal_backoff_time = 1s", "maximal_backoff_time = 2s", "queue_run_delay = 1s",
	}
	p := NewPostfix(dir, append(lines, config...)...)
	mp := &MilterPostfix{Postfix: p}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		mp.Addr6 = l.Addr().String()
		_ = l.Close()
	} else {
		p.Config = append(p.Config, "inet_interfaces = 127.0.0.1", "inet_protocols = ipv4")
	}
	return mp
}

var notChrooted = regexp.MustCompile(`(?m)^(\d+ inet n - )n( - - smtpd)$`)

// Start starts Postfix and waits until it answers at all: without its milter
// it may say 4xx.
func (p *MilterPostfix) Start() error {
	if p.Addr == "" {
		if err := p.prepare(); err != nil {
			return fmt.Errorf("testkit: postfix: %w", err)
		}
		if p.Addr6 != "" {
			p.Addr6 = net.JoinHostPort("::1", Port(p.Addr))
		}
		if err := errors.Join(p.lastCounts(), p.changeServices()); err != nil {
			return fmt.Errorf("testkit: postfix: %w", err)
		}
	}
	return p.start(func() error { return listens(p.Addr) })
}

// lastCounts leaves one line of each name in main.cf. Postfix would take the
// last one, too, but warn of every other; and its log daemon, which logs to
// itself as it starts, gets stuck when these are more than its socket holds.
func (p *MilterPostfix) lastCounts() error {
	name := filepath.Join(p.etc, "main.cf")
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var names []string
	lines := map[string]string{}
	for line := range strings.Lines(string(b)) {
		key, _, _ := strings.Cut(line, " =")
		if _, known := lines[key]; !known {
			names = append(names, key)
		}
		lines[key] = line
	}
	var out strings.Builder
	for _, key := range names {
		out.WriteString(lines[key])
	}
	return os.WriteFile(name, []byte(out.String()), 0o644)
}

// changeServices writes into master.cf what Chroot, Reinject and Doors want.
func (p *MilterPostfix) changeServices() error {
	name := filepath.Join(p.etc, "master.cf")
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if p.Chroot {
		if !notChrooted.Match(b) {
			return errors.New("no smtpd in master.cf")
		}
		b = notChrooted.ReplaceAll(b, []byte("${1}y${2}"))
	}
	if p.Reinject != "" {
		b = append(b, p.Reinject+" inet n - n - - smtpd\n    -o smtpd_milters=\n"+
			"    -o smtpd_recipient_restrictions=permit_mynetworks,reject\n    -o mynetworks=127.0.0.0/8\n"...)
	}
	for _, d := range p.Doors {
		b = fmt.Appendf(b, "%s inet n - n - - smtpd\n    -o smtpd_milters=%s\n    -o content_filter=smtp:[127.0.0.1]:%s\n", Port(d.Addr), d.Milter, Port(d.Next))
	}
	return os.WriteFile(name, b, 0o644)
}

// QueueDir is the directory that a chrooted smtpd sees as its root.
func (p *MilterPostfix) QueueDir() string { return filepath.Join(p.dir, "spool") }

// Queued is a message in Postfix's queue.
type Queued struct {
	ID     string `json:"queue_id"`
	Queue  string `json:"queue_name"` // "hold", "deferred", …
	Sender string `json:"sender"`
}

// Queue lists what Postfix has.
func (p *MilterPostfix) Queue() ([]Queued, error) {
	out, err := exec.Command("postqueue", "-c", p.etc, "-j").Output()
	if err != nil {
		return nil, fmt.Errorf("testkit: postqueue: %w", err)
	}
	var all []Queued
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var q Queued
		if err := d.Decode(&q); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("testkit: postqueue: %w", err)
		}
		all = append(all, q)
	}
}

// Address is host:port.
func (p *MilterPostfix) Address() string { return p.Addr }

// Address6 is the same port on ::1, "" where there is no IPv6.
func (p *MilterPostfix) Address6() string { return p.Addr6 }

// Held counts the messages in the hold queue.
func (p *MilterPostfix) Held() (int, error) {
	all, err := p.Queue()
	n := 0
	for _, q := range all {
		if q.Queue == "hold" {
			n++
		}
	}
	return n, err
}

// ReleaseAll takes all messages out of the hold queue.
func (p *MilterPostfix) ReleaseAll() error {
	out, err := exec.Command("postsuper", "-c", p.etc, "-H", "ALL", "hold").CombinedOutput()
	if err != nil {
		return fmt.Errorf("testkit: postsuper: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
