package testkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// BuildOptions of the gateway's binary.
type BuildOptions struct {
	Race bool
	Tags string // "failpoint"
}

// Build builds the gateway into dir and returns the path of the binary.
func Build(dir string, o BuildOptions) (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "gatepost")
	args := []string{"build", "-buildvcs=false", "-o", binary}
	if o.Race {
		binary += "-race"
		args = []string{"build", "-buildvcs=false", "-race", "-o", binary}
	}
	if o.Tags != "" {
		binary += "-" + o.Tags
		args[len(args)-1] = binary
		args = append(args, "-tags", o.Tags)
	}
	cmd := exec.Command("go", append(args, "./cmd/gatepost")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("testkit: go %s: %w\n%s", strings.Join(cmd.Args[1:], " "), err, out)
	}
	return binary, nil
}

// ModuleRoot is the folder of go.mod, at or above the working directory.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("testkit: no go.mod above the working directory")
		}
		dir = up
	}
}

// Gateway is the product as a process, with its configuration and its spool in
// one directory.
type Gateway struct {
	Binary  string
	Dir     string
	File    string // the configuration
	Addr    string // SMTP listener "mx"
	Console string // health and metrics
	Spool   string
	Config  Config
	Env     []string // more environment

	process
}

// NewGateway prepares a gateway that passes mail for example.com on to next
// ("host:port", several in order). Clients on 127.0.0.9 may relay anywhere.
// Config can be changed before Start.
func NewGateway(dir, binary string, next ...string) (*Gateway, error) {
	g := &Gateway{Binary: binary, Dir: filepath.Join(dir, "gatepost")}
	if err := os.MkdirAll(g.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("testkit: gateway: %w", err)
	}
	var err error
	if g.Addr, err = FreeAddr(); err != nil {
		return nil, err
	}
	if g.Console, err = FreeAddr(); err != nil {
		return nil, err
	}
	g.File, g.Spool = filepath.Join(g.Dir, "gatepost.toml"), filepath.Join(g.Dir, "spool")
	c := &g.Config
	c.Set("", "hostname", `"mx1.example.com"`)
	c.Set("", "spool", quote(g.Spool))
	c.Set("", "state", quote("sqlite:"+filepath.Join(g.Dir, "state.db")))
	c.Set("", "history", quote("sqlite:"+filepath.Join(g.Dir, "history.db")))
	c.Set("", "control", quote("unix:"+filepath.Join(g.Dir, "control.sock")))
	c.Set("console", "address", quote(g.Console))
	c.Set("relay", "domains", `["example.com"]`)
	c.Set("relay", "networks", `["127.0.0.9/32"]`)
	c.Set("listener.mx", "address", quote(g.Addr))
	c.Set("listener.mx", "role", `"mx"`)
	var hosts []string
	for _, n := range next {
		hosts = append(hosts, quote("smtp://"+n))
	}
	c.Set(`route."example.com"`, "to", "["+strings.Join(hosts, ", ")+"]")
	return g, nil
}

// UseClamd makes the gateway ask clamd at "unix:/path" or "tcp:host:port".
func (g *Gateway) UseClamd(address, onError string) {
	g.Config.Set("filter.clamav", "address", "["+quote(address)+"]")
	g.Config.Set("filter.clamav", "timeout", `"20s"`)
	g.Config.Set("filter.clamav", "on_error", quote(onError))
}

// UseSpamd makes the gateway ask spamd at "unix:/path" or "tcp:host:port".
func (g *Gateway) UseSpamd(address, onError string) {
	g.Config.Set("filter.spamassassin", "address", "["+quote(address)+"]")
	g.Config.Set("filter.spamassassin", "max_size", `"1MB"`)
	g.Config.Set("filter.spamassassin", "on_error", quote(onError))
}

// WriteConfig writes the configuration file as Config has it.
func (g *Gateway) WriteConfig() error {
	return os.WriteFile(g.File, []byte(g.Config.Text()), 0o644)
}

// Start writes the configuration, starts the gateway and waits for its
// greeting.
func (g *Gateway) Start() error {
	if err := g.WriteConfig(); err != nil {
		return err
	}
	g.path, g.args, g.env = g.Binary, []string{"serve", "-c", g.File}, g.environment()
	g.log = filepath.Join(g.Dir, "log")
	return g.start(func() error { return listens(g.Addr) })
}

// Stop ends the gateway with SIGTERM and wants it to end well.
func (g *Gateway) Stop() error {
	if !g.running() {
		return nil
	}
	if err := g.stop(); err != nil {
		return err
	}
	if g.err != nil {
		return fmt.Errorf("testkit: gateway ended with %w", g.err)
	}
	return nil
}

// Kill ends the gateway with SIGKILL.
func (g *Gateway) Kill() { g.kill() }

// Signal sends a signal: SIGHUP to reload, SIGTERM to drain.
func (g *Gateway) Signal(sig syscall.Signal) error { return g.signal(sig) }

// Exited reports whether the gateway ended within that time.
func (g *Gateway) Exited(within time.Duration) bool { return g.wait(within) }

// environment is what the binary gets beside ours. One with the race detector
// would wait a second at its end.
func (g *Gateway) environment() []string {
	return append([]string{"GORACE=atexit_sleep_ms=0"}, g.Env...)
}

// Faults reports data races and panics that are in the log.
func (g *Gateway) Faults() error {
	log := g.Log()
	for _, mark := range []string{"WARNING: DATA RACE", "panic"} {
		if i := strings.Index(log, mark); i >= 0 {
			return fmt.Errorf("testkit: gateway: %s\n%s", mark, around(log, i))
		}
	}
	return nil
}

// around is a piece of the log around a place.
func around(log string, i int) string {
	begin := strings.LastIndexByte(log[:i], '\n') + 1
	return log[begin:min(len(log), begin+4000)]
}

// CLIResult is what a command said.
type CLIResult struct {
	Stdout, Stderr string
	Code           int
}

// Run runs a sub-command of the gateway's binary with its configuration.
func (g *Gateway) Run(args ...string) (CLIResult, error) {
	return g.RunInput(nil, append(args, "-c", g.File)...)
}

// RunInput runs the binary with these arguments, and nothing added.
func (g *Gateway) RunInput(stdin io.Reader, args ...string) (CLIResult, error) {
	var out, errOut bytes.Buffer
	cmd := exec.Command(g.Binary, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errOut
	cmd.Env = append(os.Environ(), g.environment()...)
	err := cmd.Start()
	if err != nil {
		return CLIResult{}, fmt.Errorf("testkit: gateway: %w", err)
	}
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	timer.Stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return CLIResult{}, fmt.Errorf("testkit: gateway %v: %w", args, err)
	}
	return CLIResult{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}, nil
}

// Queue is the list of `queue list --json`, one object per message.
func (g *Gateway) Queue() ([]map[string]any, error) {
	res, err := g.Run("queue", "list", "--json")
	if err != nil {
		return nil, err
	}
	if res.Code != 0 {
		return nil, fmt.Errorf("testkit: gateway queue list: exit %d: %s", res.Code, res.Stderr)
	}
	var all []map[string]any
	for d := json.NewDecoder(strings.NewReader(res.Stdout)); ; {
		var m map[string]any
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("testkit: gateway queue list: %w\n%s", err, res.Stdout)
		}
		all = append(all, m)
	}
}

// Get reads a page of the console's listener.
func (g *Gateway) Get(path string) (status int, body string, err error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + g.Console + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func quote(s string) string { return fmt.Sprintf("%q", s) }

// listens reports whether an SMTP server at addr greets at all: a gateway whose
// scanner is down may well say 421.
func listens(addr string) error {
	c, err := Dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.Timeout = 5 * time.Second
	_, err = c.Read()
	return err
}
