// Command milterbench measures what milters cost Postfix, in one run: without
// one, with Gatepost that has no filters, with go-milter's server that does
// nothing, with three of these, and with Gatepost that asks the same three, each
// over a unix socket and over TCP.
//
//	go run ./integration/milterbench -binary bin/gatepost
//
// It needs root and Debian's postfix.
package main

import (
	"errors"
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
		return bench{dir, next, *binary, *only}.all()
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

// filtered is Postfix with milters.
type filtered struct {
	*measure.Postfix
	milters []*measure.Process
	own     int // how many of them are stopped with it; the others are somebody else's
	against string
}

func (f filtered) CPU() time.Duration {
	sum := f.Postfix.CPU()
	for _, m := range f.milters {
		sum += m.CPU()
	}
	return sum
}

func (f filtered) PeakMemory() int64 { return f.milters[0].PeakMemory() }
func (f filtered) Against() string   { return f.against }

func (f filtered) Stop() {
	f.Postfix.Stop()
	for _, m := range f.milters[:f.own] {
		m.Stop()
	}
}

// bench starts the targets in dir. Their mail goes to next.
type bench struct{ dir, next, binary, only string }

func (b bench) all() ([]measure.Target, error) {
	alone, err := measure.StartPostfix(b.dir, "Postfix alone", b.next)
	if err != nil {
		return nil, err
	}
	all := []measure.Target{alone}
	for _, kind := range []string{"unix", "tcp"} {
		for _, group := range []struct {
			names []string
			start func(kind string) ([]measure.Target, error)
		}{
			{[]string{"Gatepost " + kind}, b.gatepost},
			{[]string{"go-milter " + kind}, b.goMilter},
			{[]string{"three in Postfix " + kind, "three behind Gatepost " + kind, "three tuned behind Gatepost " + kind}, b.three},
		} {
			if !strings.Contains(strings.Join(group.names, " "), b.only) {
				continue
			}
			more, err := group.start(kind)
			all = append(all, more...)
			if err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

func (b bench) gatepost(kind string) ([]measure.Target, error) {
	m, err := b.gateway("gatepost", kind, "")
	if err != nil {
		return nil, err
	}
	return b.filtered("Gatepost "+kind, "", 1, m)
}

func (b bench) goMilter(kind string) ([]measure.Target, error) {
	m, err := b.null("null", kind)
	if err != nil {
		return nil, err
	}
	return b.filtered("go-milter "+kind, "", 1, m)
}

// three starts the same milters once for Postfix, for Gatepost as it is, and for
// Gatepost that is told what these milters bear.
func (b bench) three(kind string) ([]measure.Target, error) {
	var nulls []milterAt
	var config, tuned string
	for i := range 3 {
		m, err := b.null(fmt.Sprintf("null%d", i+1), kind)
		if err != nil {
			return nil, errors.Join(err, stopAll(nulls))
		}
		nulls = append(nulls, m)
		section := fmt.Sprintf("[filter.null%d]\nkind = \"milter\"\naddress = %q\n", i+1, m.ours)
		config += section
		tuned += section + "pipeline = true\nreuse = true\nchanges = []\n"
	}
	all, err := b.filtered("three in Postfix "+kind, "", 3, nulls...)
	if err != nil {
		return nil, err
	}
	for _, g := range []struct{ name, short, config string }{
		{"three behind Gatepost", "three", config},
		{"three tuned behind Gatepost", "tuned", tuned},
	} {
		m, err := b.gateway(g.short, kind, g.config)
		if err != nil {
			return all, err
		}
		more, err := b.filtered(g.name+" "+kind, "three in Postfix "+kind, 1, append([]milterAt{m}, nulls...)...)
		all = append(all, more...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// milterAt is a milter that runs, and its socket in Postfix' spelling and ours.
type milterAt struct {
	*measure.Process
	socket, ours string
}

func stopAll(milters []milterAt) error {
	for _, m := range milters {
		m.Stop()
	}
	return nil
}

// filtered starts a Postfix with milters. Those that are its own are asked and
// stopped with it: with three of its own it asks three.
func (b bench) filtered(name, against string, own int, milters ...milterAt) ([]measure.Target, error) {
	var sockets []string
	var processes []*measure.Process
	for i, m := range milters {
		processes = append(processes, m.Process)
		if i < own {
			sockets = append(sockets, m.socket)
		}
	}
	p, err := measure.StartPostfix(b.dir, name, b.next, "smtpd_milters = "+strings.Join(sockets, ", "), "milter_default_action = tempfail")
	if err != nil {
		return nil, errors.Join(err, stopAll(milters[:own]))
	}
	return []measure.Target{filtered{p, processes, own, against}}, nil
}

// start starts a milter and waits until it takes connections.
func (b bench) start(name, kind string, start func(dir, socket string) (*measure.Process, error)) (milterAt, error) {
	own := filepath.Join(b.dir, "milter-"+name+"-"+kind)
	if err := os.Mkdir(own, 0o755); err != nil {
		return milterAt{}, err
	}
	network, address := "unix", filepath.Join(own, "socket")
	at := milterAt{socket: "unix:" + address, ours: "unix:" + address}
	if kind == "tcp" {
		port, err := measure.FreePort()
		if err != nil {
			return milterAt{}, err
		}
		network, address = "tcp", fmt.Sprintf("127.0.0.1:%d", port)
		at = milterAt{socket: "inet:" + address, ours: fmt.Sprintf("inet:%d@127.0.0.1", port)}
	}
	var err error
	if at.Process, err = start(own, at.socket); err != nil {
		return milterAt{}, err
	}
	if err := waitSocket(network, address); err != nil {
		at.Stop()
		return milterAt{}, fmt.Errorf("%s: %w\n%s", name, err, at.Log())
	}
	return at, nil
}

func (b bench) null(name, kind string) (milterAt, error) {
	return b.start(name, kind, func(dir, socket string) (*measure.Process, error) {
		return measure.StartProcess(filepath.Join(dir, "log"), os.Args[0], "-null-milter", socket)
	})
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

// gateway starts Gatepost with filters of that configuration.
func (b bench) gateway(name, kind, filters string) (milterAt, error) {
	return b.start(name, kind, func(dir, socket string) (*measure.Process, error) {
		conf := filepath.Join(dir, "gatepost.toml")
		text := fmt.Sprintf(`hostname = "gw.bench.test"
spool    = %q
control  = %q
[milter.main]
socket          = %q
mode            = "0666"
max_connections = 2000
`, filepath.Join(dir, "spool"), "unix:"+filepath.Join(dir, "control.sock"), socket) + filters
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return nil, err
		}
		return measure.StartProcess(filepath.Join(dir, "log"), b.binary, "serve", "-c", conf)
	})
}
