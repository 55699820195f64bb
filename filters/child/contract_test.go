package child_test

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/child"
	"gatepost/filters/filtertest"
)

func TestContract(t *testing.T) {
	with := func(answer func(string) []byte) func(*testing.T) filters.Step {
		return func(t *testing.T) filters.Step {
			cfg := newScript(t, answer).config()
			cfg.Timeout = 30 * time.Second
			return step(t, cfg)
		}
	}
	filtertest.Run(t, filtertest.Subject{
		New:    with(nil),
		Silent: func(t *testing.T) filters.Step { return step(t, configFor(silent(t))) },
		Broken: map[string]func(*testing.T) filters.Step{
			"nobody there": func(t *testing.T) filters.Step { return step(t, configFor("unix:/nonexistent")) },
			"hangs up":     with(func(string) []byte { return closing }),
		},
	})
}

// silent takes connections and never says a word.
func silent(t *testing.T) (socket string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.sock")
	l, err := net.Listen("unix", path) // the kernel takes them
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "unix:" + path
}

func step(t *testing.T, cfg child.Config) filters.Step {
	t.Helper()
	f, err := child.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f.Step()
}
