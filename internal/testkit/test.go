package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// T is what is used of a test. *testing.T has it.
type T interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(func())
	Failed() bool
}

// Server is what can be started and stopped, as often as wanted, always at the
// same address.
type Server interface {
	Start() error // returns when the server answers
	Stop() error  // in its own order; nil when it does not run
	Log() string  // what it said so far
}

// Up starts s for the length of the test. A Debian package that is missing
// skips the test; in CI (CI=true) it fails it.
func Up[S Server](t T, s S) S {
	t.Helper()
	Watch(t, s)
	if err := s.Start(); err != nil {
		Need(t, fmt.Errorf("start %T: %w", s, err))
	}
	return s
}

// Need ends a test that got an error: a Debian package that is missing skips it,
// but for CI; anything else fails it. nil is nothing.
func Need(t T, err error) {
	t.Helper()
	var missing *MissingError
	switch {
	case err == nil:
	case errors.As(err, &missing) && !CI():
		t.Skipf("%v", missing)
	default:
		t.Fatalf("%v", err)
	}
}

// Program returns the path of a program that a test needs.
func Program(t T, program, pkg string) string {
	t.Helper()
	path, err := find(program, pkg)
	Need(t, err)
	return path
}

// Watch stops s after the test, if it runs then, and shows its log when the
// test failed. That it does not end well, or has something to hide, fails the
// test.
func Watch(t T, s Server) {
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop %T: %v", s, err)
		}
		if h, ok := s.(interface{ Faults() error }); ok {
			if err := h.Faults(); err != nil {
				t.Errorf("%v", err)
			}
		}
		if t.Failed() {
			t.Logf("log of %T:\n%s", s, tail(s.Log(), 60))
		}
	})
}

// CI reports whether a missing package is a failure.
func CI() bool { return os.Getenv("CI") == "true" }

// MissingError says that a program is not installed.
type MissingError struct{ Program, Package string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is missing: apt-get install --no-install-recommends %s", e.Program, e.Package)
}

// find returns the path of a program.
func find(program, pkg string) (string, error) {
	for _, dir := range []string{"", "/usr/sbin/", "/usr/bin/"} {
		if path, err := exec.LookPath(dir + program); err == nil {
			return path, nil
		}
	}
	return "", &MissingError{program, pkg}
}

// Dir returns a new directory that other users may enter, which is removed
// after the test. t.TempDir is closed to the users that Debian's servers run as.
func Dir(t T) string {
	t.Helper()
	dir, err := TempDir()
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Logf("clean up: %v", err)
		}
	})
	return dir
}

// TempDir returns a new directory that other users may enter. The caller
// removes it.
func TempDir() (string, error) {
	dir, err := os.MkdirTemp("", "gatepost-")
	if err != nil {
		return "", fmt.Errorf("testkit: temporary directory: %w", err)
	}
	return dir, os.Chmod(dir, 0o755)
}

// Eventually polls until done, and fails the test after the time given. what
// tells what was waited for.
func Eventually(t T, within time.Duration, what string, done func() bool) {
	t.Helper()
	if !poll(within, done) {
		t.Fatalf("not within %v: %s", within, what)
	}
}

func poll(within time.Duration, done func() bool) bool {
	deadline := time.Now().Add(within)
	for {
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func tail(s string, lines int) string {
	all := strings.SplitAfter(s, "\n")
	if len(all) > lines {
		all = append([]string{fmt.Sprintf("… %d lines before\n", len(all)-lines)}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "")
}
