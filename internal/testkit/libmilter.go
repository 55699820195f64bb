package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// LibMilter is a filter on sendmail's own libmilter, compiled of C source.
type LibMilter struct {
	Source string // of the program: PROGRAM SOCKET
	Addr   string // host:port

	dir string
	process
}

// NewLibMilter prepares a filter in dir.
func NewLibMilter(dir, source string) *LibMilter {
	return &LibMilter{dir: filepath.Join(dir, "libmilter"), Source: source}
}

// Start compiles the filter, starts it and waits until it takes connections.
func (m *LibMilter) Start() error {
	if m.Addr == "" {
		if err := m.prepare(); err != nil {
			return fmt.Errorf("testkit: libmilter: %w", err)
		}
	}
	return m.start(func() error { return takes("tcp", m.Addr) })
}

// Stop ends the filter, which has nothing to put away; libmilter would heed SIGTERM
// after up to five seconds.
func (m *LibMilter) Stop() error {
	m.kill()
	return nil
}

// Socket is where it listens, in libmilter's spelling.
func (m *LibMilter) Socket() string { return "inet:" + Port(m.Addr) + "@127.0.0.1" }

func (m *LibMilter) prepare() error {
	cc, err := find("cc", "gcc libc6-dev")
	if err != nil {
		return err
	}
	if _, err := os.Stat("/usr/include/libmilter/mfapi.h"); errors.Is(err, os.ErrNotExist) {
		return &MissingError{"libmilter/mfapi.h", "libmilter-dev"}
	}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(m.dir, "filter.c"), []byte(m.Source), 0o644); err != nil {
		return err
	}
	if _, err := output(m.dir, cc, "-Wall", "-o", "filter", "filter.c", "-lmilter", "-lpthread"); err != nil {
		return err
	}
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	m.process = process{path: filepath.Join(m.dir, "filter"), args: []string{"inet:" + Port(addr) + "@127.0.0.1"}, log: filepath.Join(m.dir, "log")}
	m.Addr = addr
	return nil
}
