package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gatepost/internal/testkit"
)

// Where things listen, when nothing else does.
const (
	gatewayAddr  = "127.0.0.1:2525"
	consoleAddr  = "127.0.0.1:8025"
	deliveryAddr = "127.0.0.1:2526"
)

// systemClamd is where Debian's clamd listens.
const systemClamd = "/run/clamav/clamd.ctl"

// site is all that runs.
type site struct {
	gateway *testkit.Gateway
	next    *testkit.Sink
	mailbox *maildir
	clamd   *testkit.Clamd // nil when the system's own is used
	spamd   *testkit.Spamd
	dns     *testkit.DNS
	binary  string   // as it was given
	without []string // what is not judged, and why

	operator operator
}

func build(dir, binary, rules string) (*site, error) {
	path, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	if rules, err = filepath.Abs(rules); err != nil {
		return nil, err
	}
	s := &site{binary: binary, mailbox: newMaildir(filepath.Join(dir, "inbox")), next: testkit.NewSink(), spamd: testkit.NewSpamd(dir)}
	if s.next.Addr, err = preferred(deliveryAddr); err != nil {
		return nil, err
	}
	s.next.Each = s.mailbox.deliver
	if s.dns, err = newDNS(); err != nil {
		return nil, err
	}
	if s.gateway, err = testkit.NewGateway(dir, path, s.next.Addr); err != nil {
		return nil, err
	}
	if s.gateway.Addr, err = preferred(gatewayAddr); err != nil {
		return nil, err
	}
	if s.gateway.Console, err = preferred(consoleAddr); err != nil {
		return nil, err
	}
	c := &s.gateway.Config
	c.Set("listener.mx", "address", fmt.Sprintf("%q", s.gateway.Addr))
	c.Set("console", "address", fmt.Sprintf("%q", s.gateway.Console))
	c.Set("log", "format", `"json"`) // for us to read what was decided
	c.Set("", "spool_min_free", `"1MB"`)
	s.lookInside(rules)
	if !listensUnix(systemClamd) {
		s.clamd = testkit.NewClamd(dir)
	}
	return s, nil
}

// start starts everything in order, and tells.
func (s *site) start(ctx context.Context) error {
	if err := s.mailbox.create(); err != nil {
		return err
	}
	if err := s.next.Start(); err != nil {
		return err
	}
	says("next hop", "a mailbox behind its own SMTP port, "+s.next.Addr)
	if err := s.startClamd(); err != nil {
		return err
	}
	if err := s.startSpamd(ctx); err != nil {
		return err
	}
	s.startDNS()
	if err := s.addOperator(); err != nil {
		return err
	}
	if err := s.gateway.Start(); err != nil {
		return err
	}
	says("gatepost", "listening on "+s.gateway.Addr+", its console on "+s.gateway.Console)
	return nil
}

func (s *site) startClamd() error {
	if s.clamd == nil {
		s.gateway.UseClamd("unix:"+systemClamd, "tempfail")
		says("clamd", "the one that runs here, with its own database")
		return nil
	}
	err := s.clamd.Start()
	if s.missing(err, "clamd", "viruses") {
		return nil
	}
	if err == nil {
		s.gateway.UseClamd("unix:"+s.clamd.Socket, "tempfail")
		says("clamd", "started, with one local signature: EICAR")
	}
	return err
}

func (s *site) startSpamd(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err := s.spamd.Start()
	if s.missing(err, "spamd", "spam") {
		return nil
	}
	if err == nil {
		s.gateway.UseSpamd("tcp:"+s.spamd.Addr, "tempfail")
		says("spamd", "started, with local rules only")
	}
	return err
}

// missing notes what a program that is not installed would have judged.
func (s *site) missing(err error, name, what string) bool {
	var m *testkit.MissingError
	if !errors.As(err, &m) {
		return false
	}
	says(name, "not installed: going on without it")
	s.without = append(s.without, fmt.Sprintf("%s: %s is not installed (apt-get install --no-install-recommends %s)", what, m.Program, m.Package))
	return true
}

// stop stops what runs, the gateway first. What does not end well is said, and
// the rest is stopped all the same.
func (s *site) stop() {
	servers := []testkit.Server{s.gateway, s.next, s.spamd, s.dns}
	if s.clamd != nil {
		servers = append(servers, s.clamd)
	}
	for _, server := range servers {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "tryout:", err)
		}
	}
}

// explain says what this machine could not judge.
func (s *site) explain(w io.Writer) {
	if len(s.without) == 0 {
		return
	}
	fmt.Fprintln(w, "\nNot judged here:")
	for _, n := range s.without {
		fmt.Fprintln(w, "  -", n)
	}
}

// invite shows how to go on.
func (s *site) invite(w io.Writer, rows []row) {
	things := [][2]string{
		{"console", "http://" + s.gateway.Console + "/   user " + s.operator.name + ", password " + s.operator.password + " (for this run)"},
		{"why it is held", s.command("explain", explainable(rows))},
		{"send mail to", "smtp://" + s.gateway.Addr + "   (for anyone at example.com)"},
		{"arrives in", s.mailbox.dir + "/new"},
		{"health, metrics", "http://" + s.gateway.Console + "/readyz   http://" + s.gateway.Console + "/metrics"},
		{"configuration", s.gateway.File},
		{"log", filepath.Join(s.gateway.Dir, "log")},
		{"judge a file", s.command("scan", "FILE")},
		{"look at the queue", s.command("queue", "list")},
	}
	fmt.Fprintln(w, "\nIt stays up for you to play with:")
	for _, t := range things {
		fmt.Fprintf(w, "  %-18s %s\n", t[0], t[1])
	}
	fmt.Fprintln(w, "\nCtrl-C stops everything and removes "+filepath.Dir(s.gateway.Dir)+".")
}

func says(who, what string) {
	fmt.Printf("  %s %s %s\n", who, strings.Repeat(".", 14-len(who)), what)
}

// preferred is the address, or one with a free port when that is taken.
func preferred(addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return testkit.FreeAddr()
	}
	return addr, l.Close()
}

func listensUnix(path string) bool {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
