// Command milterbench measures what a milter costs Postfix, in one run: without
// one, with Gatepost that has no filters, and with go-milter's server that does
// nothing, each over a unix socket and over TCP.
//
//	go run ./integration/milterbench -binary bin/gatepost
//
// It needs root and Debian's postfix.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gatepost/integration/bench/measure"

	"github.com/emersion/go-milter"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "milterbench:", err)
		os.Exit(1)
	}
}

func run() error {
	binary := flag.String("binary", "bin/gatepost", "the gateway to measure")
	null := flag.String("null-milter", "", "be a milter that does nothing: unix:/path or inet:host:port")
	only := flag.String("only", "", "measure only targets whose name has this in it, and Postfix alone")
	o, err := measure.ParseFlags()
	if err != nil {
		return err
	}
	if *null != "" {
		return serveNull(*null)
	}
	return measure.Run("Milters of Postfix", o, func(dir, next string) ([]measure.Target, error) {
		return startAll(dir, next, *binary, *only)
	})
}

// serveNull is go-milter's server as its users have it: all events, all answers.
func serveNull(socket string) error {
	network, address, _ := strings.Cut(socket, ":")
	if network == "inet" {
		network = "tcp"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	if network == "unix" {
		if err := os.Chmod(address, 0o666); err != nil {
			return err
		}
	}
	s := milter.Server{NewMilter: func() milter.Milter { return milter.NoOpMilter{} }}
	return s.Serve(l)
}

// filtered is Postfix with a milter.
type filtered struct {
	*measure.Postfix
	milter *measure.Process
}

func (f filtered) CPU() time.Duration { return f.Postfix.CPU() + f.milter.CPU() }
func (f filtered) PeakMemory() int64  { return f.milter.PeakMemory() }
func (f filtered) Stop() {
	f.Postfix.Stop()
	f.milter.Stop()
}

func startAll(dir, next, binary, only string) ([]measure.Target, error) {
	alone, err := measure.StartPostfix(dir, "Postfix alone", next)
	if err != nil {
		return nil, err
	}
	all := []measure.Target{alone}
	for _, kind := range []string{"unix", "tcp"} {
		for _, m := range []struct {
			name  string
			start func(dir, socket string) (*measure.Process, error)
		}{
			{"Gatepost " + kind, func(dir, socket string) (*measure.Process, error) { return startGateway(dir, socket, binary) }},
			{"go-milter " + kind, func(dir, socket string) (*measure.Process, error) {
				return measure.StartProcess(filepath.Join(dir, "log"), os.Args[0], "-null-milter", socket)
			}},
		} {
			if !strings.Contains(m.name, only) {
				continue
			}
			t, err := startFiltered(dir, next, m.name, kind, m.start)
			if err != nil {
				return all, err
			}
			all = append(all, t)
		}
	}
	return all, nil
}

func startFiltered(dir, next, name, kind string, start func(dir, socket string) (*measure.Process, error)) (measure.Target, error) {
	own := filepath.Join(dir, "milter-of-"+strings.ReplaceAll(name, " ", "-"))
	if err := os.Mkdir(own, 0o755); err != nil {
		return nil, err
	}
	network, address := "unix", filepath.Join(own, "socket")
	socket := "unix:" + address
	if kind == "tcp" {
		port, err := measure.FreePort()
		if err != nil {
			return nil, err
		}
		network, address = "tcp", fmt.Sprintf("127.0.0.1:%d", port)
		socket = "inet:" + address
	}
	m, err := start(own, socket)
	if err != nil {
		return nil, err
	}
	if err := waitSocket(network, address); err != nil {
		m.Stop()
		return nil, fmt.Errorf("%s: %w\n%s", name, err, m.Log())
	}
	p, err := measure.StartPostfix(dir, name, next, "smtpd_milters = "+socket, "milter_default_action = tempfail")
	if err != nil {
		m.Stop()
		return nil, err
	}
	return filtered{p, m}, nil
}

func waitSocket(network, address string) error {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial(network, address)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			return err
		}
	}
}

func startGateway(dir, socket, binary string) (*measure.Process, error) {
	conf := filepath.Join(dir, "gatepost.toml")
	text := fmt.Sprintf(`hostname = "gw.bench.test"
spool    = %q
control  = %q
[milter.main]
socket          = %q
mode            = "0666"
max_connections = 2000
`, filepath.Join(dir, "spool"), "unix:"+filepath.Join(dir, "control.sock"), socket)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return measure.StartProcess(filepath.Join(dir, "log"), binary, "serve", "-c", conf)
}
