package testkit

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Redis is a real redis-server, or a Sentinel.
type Redis struct {
	Addr string // host:port

	dir, conf string
	sentinel  bool
	process
}

// NewRedis prepares a server in dir, which keeps its data there from one start
// to the next. Lines are added to its configuration: "requirepass x",
// "cluster-enabled yes".
func NewRedis(dir string, lines ...string) *Redis {
	return &Redis{dir: filepath.Join(dir, "redis"), conf: strings.Join(lines, "\n") + "\n"}
}

// NewSentinel prepares a Sentinel in dir. Its lines say what it watches:
// "sentinel monitor main 127.0.0.1 12345 2".
func NewSentinel(dir string, lines ...string) *Redis {
	r := NewRedis(dir, lines...)
	r.dir, r.sentinel = filepath.Join(dir, "sentinel"), true
	return r
}

// Prepare finds an address for the server, before it is started.
func (r *Redis) Prepare() error {
	if r.Addr != "" {
		return nil
	}
	path, err := find("redis-server", "redis-server")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	conf := filepath.Join(r.dir, "redis.conf")
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\n", Port(addr), r.dir)
	if strings.Contains(r.conf, "cluster-enabled yes") {
		bus, err := FreeAddr() // the usual one is not known to be free
		if err != nil {
			return err
		}
		text += "cluster-port " + Port(bus) + "\n"
	}
	args := []string{conf}
	if r.sentinel {
		args = append(args, "--sentinel")
	} else {
		// What was answered is in the file before: Kill loses nothing.
		text += "appendonly yes\nappendfsync everysec\nsave \"\"\nrepl-diskless-sync-delay 0\nshutdown-timeout 0\n"
	}
	if err := os.WriteFile(conf, []byte(text+r.conf), 0o644); err != nil {
		return err
	}
	r.process = process{path: path, args: args, log: filepath.Join(r.dir, "log")}
	r.Addr = addr
	return nil
}

// Start starts the server and waits until it answers.
func (r *Redis) Start() error {
	if err := r.Prepare(); err != nil {
		return fmt.Errorf("testkit: redis: %w", err)
	}
	return r.start(func() error {
		answer, err := r.Ask("PING")
		if err == nil && answer != "+PONG\r\n" && !strings.HasPrefix(answer, "-NOAUTH") {
			err = fmt.Errorf("answered %q", answer)
		}
		return err
	})
}

// Stop ends the server. It writes what it knows before.
func (r *Redis) Stop() error { return r.stop() }

// Kill ends the server as a crash would.
func (r *Redis) Kill() { r.kill() }

// Pause lets the server hang until Resume.
func (r *Redis) Pause() error { return r.signal(syscall.SIGSTOP) }

// Resume ends Pause.
func (r *Redis) Resume() error { return r.signal(syscall.SIGCONT) }

// Ask sends one command, of words without quotes, and returns the answer as it
// came.
func (r *Redis) Ask(command string) (string, error) {
	c, err := net.DialTimeout("tcp", r.Addr, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, command+"\r\n"); err != nil {
		return "", err
	}
	var answer strings.Builder
	err = readAnswer(bufio.NewReader(c), &answer)
	return answer.String(), err
}

func readAnswer(from *bufio.Reader, to *strings.Builder) error {
	line, err := from.ReadString('\n')
	if err != nil {
		return err
	}
	to.WriteString(line)
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	switch line[0] {
	case '$':
		if n >= 0 {
			_, err = io.CopyN(to, from, int64(n)+2)
		}
	case '*':
		for ; n > 0 && err == nil; n-- {
			err = readAnswer(from, to)
		}
	}
	return err
}

// MakeCluster makes one Cluster of servers with "cluster-enabled yes" that run.
func MakeCluster(servers ...*Redis) error {
	path, err := find("redis-cli", "redis-tools")
	if err != nil {
		return err
	}
	args := []string{"--cluster", "create"}
	for _, r := range servers {
		args = append(args, r.Addr)
	}
	if out, err := exec.Command(path, append(args, "--cluster-yes")...).CombinedOutput(); err != nil {
		return fmt.Errorf("testkit: redis-cli --cluster create: %w\n%s", err, tail(string(out), 20))
	}
	return nil
}
