package spool

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A spool that version 1 wrote: all of it is read, a look changes nothing, and
// the first write says that version 1 can't read it any more.
func TestSpoolOfVersion1(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	if err := os.CopyFS(dir, os.DirFS("testdata/v1")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		mode := fs.FileMode(0o600)
		if err == nil && d.IsDir() {
			mode = 0o700
		}
		return os.Chmod(name, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
	options := Options{Dir: dir, Segment: 4 * block, Large: 4096}
	format := func() string {
		b, err := os.ReadFile(filepath.Join(dir, formatName))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	open := func() *Spool {
		s, err := Open(options)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	for id, size := range map[string]int{"TRIED": 300, "HELD": 300, "FRESH": 300, "LARGE": 6000} {
		m, err := s.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject != "message "+id || m.Score != 1.5 || m.User != "" || m.Age != 0 || len(m.Envelope.Recipients) != 2 {
			t.Errorf("%s: %+v", id, m)
		}
		check(t, s, id, size)
	}
	if m, _ := s.Get("TRIED"); m.Attempts != 7 || m.Recipients[0].Reply.Text != "mailbox full" || m.Progress.State != Queue {
		t.Errorf("progress: %+v", m.Progress)
	}
	if m, _ := s.Get("HELD"); m.Progress.State != Hold || m.Progress.Reason != "because" {
		t.Errorf("progress: %+v", m.Progress)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := format(); got != "gatepost spool 1" {
		t.Errorf("after a look: %q", got)
	}
	s = open()
	m, err := s.Get("TRIED")
	if err != nil {
		t.Fatal(err)
	}
	m.Age = time.Hour
	if err := s.Save("TRIED", m.Progress); err != nil {
		t.Fatal(err)
	}
	if got := format(); got != "gatepost spool 2" {
		t.Errorf("after a write: %q", got)
	}
	if err := put(s, "NEW", 300); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	check(t, s, "NEW", 300)
	if m, err := s.Get("TRIED"); err != nil || m.Age != time.Hour || m.Attempts != 7 {
		t.Errorf("%+v, %v", m, err)
	}
}
