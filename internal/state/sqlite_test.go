package state

import (
	"path/filepath"
	"testing"
	"time"
)

func openSQLite(t *testing.T, path string, o Options) *SQLite {
	t.Helper()
	o.Timeout = 10 * time.Second
	s := NewSQLite(path, o)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSQLite(t *testing.T) {
	conform(t, func(t *testing.T) bench {
		c := newClock()
		s := openSQLite(t, filepath.Join(t.TempDir(), "new", "state ?#%.db"), Options{Now: c.now})
		return bench{Store: s, forward: c.forward}
	})
}
