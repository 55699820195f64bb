// Command bench measures Gatepost as a relay against Postfix on the same
// machine, in one run: accept, make durable, forward to a sink.
//
//	go run ./integration/bench -binary bin/gatepost
//
// It needs root and Debian's postfix.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"gatepost/integration/bench/measure"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	binary := flag.String("binary", "bin/gatepost", "the gateway to measure")
	o, err := measure.ParseFlags()
	if err != nil {
		return err
	}
	return measure.Run("Relay", o, func(dir, next string) ([]measure.Target, error) {
		p, err := measure.StartPostfix(dir, "Postfix tuned", next)
		if err != nil {
			return nil, err
		}
		g, err := startGateway(dir, *binary, next)
		if err != nil {
			return []measure.Target{p}, err
		}
		return []measure.Target{p, g}, nil
	})
}

// gateway is Gatepost as a relay.
type gateway struct {
	*measure.Process
	listen string
}

func (g *gateway) Name() string { return "Gatepost" }
func (g *gateway) Addr() string { return g.listen }

func startGateway(dir, binary, next string) (*gateway, error) {
	port, err := measure.FreePort()
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
	if g.Process, err = measure.StartProcess(filepath.Join(d, "log"), binary, "serve", "-c", conf); err != nil {
		return nil, err
	}
	if err := measure.WaitBanner(g.listen); err != nil {
		g.Stop()
		return nil, fmt.Errorf("%w\n%s", err, g.Log())
	}
	return g, nil
}
