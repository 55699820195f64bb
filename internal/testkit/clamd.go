package testkit

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Clamd is a real clamd that knows one virus, EICAR. It listens on a unix
// socket and on TCP.
type Clamd struct {
	Socket string   // path
	Addr   string   // host:port
	Config []string // more lines for clamd.conf: "AlertEncrypted yes"; set before Start

	dir string
	process
}

// NewClamd prepares a clamd in dir, which other users must be able to enter.
func NewClamd(dir string, config ...string) *Clamd {
	return &Clamd{dir: filepath.Join(dir, "clamd"), Config: config}
}

// Start starts clamd and waits until it answers a PING on both addresses.
func (c *Clamd) Start() error {
	if c.Addr == "" {
		if err := c.prepare(); err != nil {
			return fmt.Errorf("testkit: clamd: %w", err)
		}
	}
	return c.start(func() error {
		if err := ask("unix", c.Socket, "zPING\x00", "PONG\x00"); err != nil {
			return err
		}
		return ask("tcp", c.Addr, "zPING\x00", "PONG\x00")
	})
}

// Stop ends clamd with SIGTERM.
func (c *Clamd) Stop() error { return c.stop() }

// Kill ends clamd with SIGKILL.
func (c *Clamd) Kill() { c.kill() }

func (c *Clamd) prepare() error {
	path, err := find("clamd", "clamav-daemon")
	if err != nil {
		return err
	}
	db, tmp := filepath.Join(c.dir, "db"), filepath.Join(c.dir, "tmp")
	for _, d := range []string{db, tmp} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	// A body signature: it is also found inside archives and MIME parts.
	sig := "Eicar-Local:0:*:" + hex.EncodeToString([]byte(EICAR())) + "\n"
	if err := os.WriteFile(filepath.Join(db, "local.ndb"), []byte(sig), 0o644); err != nil {
		return err
	}
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	c.Socket = filepath.Join(c.dir, "clamd.sock")
	conf := filepath.Join(c.dir, "clamd.conf")
	// Of two lines for one option clamd takes the first.
	lines := append(slices.Clone(c.Config),
		"Foreground yes", "DatabaseDirectory "+db, "TemporaryDirectory "+tmp, "LocalSocket "+c.Socket,
		"TCPAddr 127.0.0.1", "TCPSocket "+Port(addr), "MaxThreads 4", "StreamMaxLength 100M",
	)
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	c.process = process{path: path, args: []string{"-c", conf}, log: filepath.Join(c.dir, "log")}
	c.Addr = addr
	return nil
}

// ask sends a question to a server and wants exactly this at the beginning of
// its answer.
func ask(network, addr, question, answer string) error {
	conn, err := net.DialTimeout(network, addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, question); err != nil {
		return err
	}
	got := make([]byte, len(answer))
	if _, err := io.ReadFull(conn, got); err != nil {
		return fmt.Errorf("%s %s: %w", network, addr, err)
	}
	if string(got) != answer {
		return fmt.Errorf("%s %s answers %q, want %q", network, addr, got, answer)
	}
	return nil
}
