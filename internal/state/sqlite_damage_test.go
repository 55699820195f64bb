package state

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func aside(t *testing.T, path string) []string {
	t.Helper()
	found, err := filepath.Glob(path + ".damaged-*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A damaged file is set aside, wherever the damage is and whenever it is found;
// work goes on.
func TestSQLiteDamage(t *testing.T) {
	fill := func(t *testing.T, path string) {
		s := NewSQLite(path, Options{Timeout: 10 * time.Second})
		for i := range 2000 {
			if err := s.Put(t.Context(), Blocked, fmt.Sprint("key", i), strings.Repeat("v", 50), time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	overwrite := func(offset int64, n int) func([]byte) []byte {
		return func(b []byte) []byte {
			for i := range n {
				if at := int(offset) + i; at < len(b) {
					b[at] = 0xa5
				}
			}
			return b
		}
	}
	for name, damage := range map[string]func([]byte) []byte{
		"no database":  func([]byte) []byte { return bytes.Repeat([]byte("mail "), 5000) },
		"header":       overwrite(0, 100),
		"schema":       overwrite(100, 3900),
		"pages":        overwrite(4096, 1<<20),
		"cut":          func(b []byte) []byte { return b[:5000] },
		"cut in front": func(b []byte) []byte { return b[:50] },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			fill(t, path)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			var log logged
			s := openSQLite(t, path, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			x := bench{Store: s}
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					x.put(t, Windows, fmt.Sprint("new", i), "v", time.Hour)
					must[[]Entry](t)(x.List(t.Context(), Blocked, "", 5000))
					must[Grey](t)(x.Grey(t.Context(), policy))
				})
			}
			wg.Wait()
			x.put(t, Windows, "last", "v", time.Hour)
			x.wants(t, Windows, "last=v", "last")
			if n := len(aside(t, path)); n == 0 || n != log.count("level=ERROR") {
				t.Errorf("%d files aside, log:\n%s", n, log.b.String())
			}
		})
	}
}

// Damage while the file is open.
func TestSQLiteDamageInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openSQLite(t, path, Options{})
	x := bench{Store: s}
	for i := range 2000 {
		x.put(t, Blocked, fmt.Sprint("key", i), strings.Repeat("v", 50), time.Hour)
	}
	if _, err := s.file.end.Exec(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 1<<20), 4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	must[[]Entry](t)(x.List(t.Context(), Blocked, "", 5000)) // another connection, without a cache
	x.put(t, Blocked, "new", "v", time.Hour)
	x.wants(t, Blocked, "new=v", "new")
	if n := len(aside(t, path)); n != 1 {
		t.Errorf("%d files aside", n)
	}
}

// What can't be opened is no damage: it stays, and the store is away.
func TestSQLiteNotOpened(t *testing.T) {
	dir := t.TempDir()
	later := filepath.Join(dir, "later.db")
	s := openSQLite(t, later, Options{})
	bench{Store: s}.put(t, Blocked, "k", "v", time.Hour)
	if _, err := s.file.write.Exec("PRAGMA user_version = 9"); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"a folder": dir, "below a file": filepath.Join(later, "state.db"), "of a later version": later} {
		s := openSQLite(t, path, Options{})
		if err := s.Put(t.Context(), Blocked, "k", "v", time.Hour); !errors.Is(err, ErrAway) {
			t.Errorf("%s: %v", name, err)
		}
		if n := len(aside(t, path)); n != 0 {
			t.Errorf("%s: set aside", name)
		}
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if err := s.Put(t.Context(), Blocked, "k", "v", time.Hour); !errors.Is(err, ErrAway) {
		t.Errorf("closed: %v", err)
	}
}

// Another process that holds the file is waited for, and not for ever.
func TestSQLiteBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	holder := openSQLite(t, path, Options{})
	bench{Store: holder}.put(t, Blocked, "k", "v", time.Hour)
	tx, err := holder.file.write.Begin()
	if err != nil {
		t.Fatal(err)
	}
	s := NewSQLite(path, Options{Timeout: 100 * time.Millisecond})
	begun := time.Now()
	if err := s.Put(t.Context(), Blocked, "k", "w", time.Hour); !errors.Is(err, ErrBusy) || !errors.Is(err, ErrAway) || time.Since(begun) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), Blocked, "k", "w", time.Hour); err != nil {
		t.Error(err)
	}
	bench{Store: holder}.wants(t, Blocked, "k=w", "k")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

const childVariable = "GATEPOST_TEST_STATE"

// TestSQLiteKilled kills a process that writes: what it was told is there, the
// file is whole.
func TestSQLiteKilled(t *testing.T) {
	if path := os.Getenv(childVariable); path != "" {
		writeForever(t, path)
	}
	path := filepath.Join(t.TempDir(), "state.db")
	for round := range 3 {
		c := exec.Command(os.Args[0], "-test.run", "^TestSQLiteKilled$")
		c.Env = append(os.Environ(), childVariable+"="+path)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		told := -1
		lines := bufio.NewScanner(out)
		for told < 150*(round+1) && lines.Scan() {
			if _, err := fmt.Sscan(lines.Text(), &told); err != nil {
				break
			}
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			_, _ = fmt.Sscan(lines.Text(), &told)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = c.Wait() // killed
		if told < 150 {
			t.Fatalf("told %d", told)
		}
		s := openSQLite(t, path, Options{})
		for i := range told + 1 {
			bench{Store: s}.wants(t, Blocked, fmt.Sprint("key", i, "=v"), fmt.Sprint("key", i))
		}
		var verdict string
		if err := s.file.read.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
			t.Errorf("%q, %v", verdict, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := len(aside(t, path)); n != 0 {
		t.Errorf("%d set aside", n)
	}
}

func writeForever(t *testing.T, path string) {
	s := NewSQLite(path, Options{Timeout: time.Minute})
	for i := 0; ; i++ {
		if err := s.Put(context.Background(), Blocked, fmt.Sprint("key", i), "v", time.Hour); err != nil {
			t.Fatal(err)
		}
		fmt.Println(i)
	}
}

// Counters and rates outlast a restart, what has ended goes, and a file has a
// largest size.
func TestSQLiteUpkeep(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "state.db"), newClock()
	s := openSQLite(t, path, Options{Now: c.now})
	ctx, r := t.Context(), Rate{Limit: 2, Period: time.Hour}
	for i := range rowsAtOnce + 10 {
		must[int](t)(s.Count(ctx, fmt.Sprint("n", i), 3, time.Hour))
		must[time.Duration](t)(s.Take(ctx, fmt.Sprint("r", i), r, 2))
	}
	must[int](t)(s.Count(ctx, "short", 3, time.Minute))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openSQLite(t, path, Options{Now: c.now})
	for _, i := range []int{0, rowsAtOnce, rowsAtOnce + 9} {
		if n := must[int](t)(s.Count(ctx, fmt.Sprint("n", i), 1, time.Hour)); n != 4 {
			t.Errorf("counter %d: %d, want 4", i, n)
		}
		if wait := must[time.Duration](t)(s.Take(ctx, fmt.Sprint("r", i), r, 1)); wait < 29*time.Minute {
			t.Errorf("rate %d: wait %v", i, wait)
		}
	}
	x := bench{Store: s}
	for i := range 3 * rowsAtOnce {
		x.put(t, Passed, fmt.Sprint("k", i), "", time.Minute+time.Duration(i)*time.Millisecond)
		tr := policy
		tr.Key = fmt.Sprint(i)
		must[Grey](t)(x.Grey(ctx, tr))
	}
	rows := func(table string) (n int) {
		if err := s.file.read.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := s.clean(ctx, 2*rowsAtOnce+7); err != nil {
		t.Fatal(err)
	}
	if e, m := rows("entry"), rows("met"); e != 2*rowsAtOnce+7 || m != e {
		t.Errorf("%d entries and %d triples are left", e, m)
	}
	x.wants(t, Passed, "", "k0") // the first to end
	x.wants(t, Passed, fmt.Sprint("k", 3*rowsAtOnce-1, "="), fmt.Sprint("k", 3*rowsAtOnce-1))
	c.forward(24 * time.Hour)
	if err := errors.Join(s.flush(ctx), s.clean(ctx, mostRows)); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"entry", "met", "tally", "rate"} {
		if n := rows(table); n != 0 {
			t.Errorf("%s: %d rows are left", table, n)
		}
	}
}

func BenchmarkSQLite(b *testing.B) {
	s := NewSQLite(filepath.Join(b.TempDir(), "state.db"), Options{Timeout: time.Minute})
	defer s.Close()
	benchStore(b, s)
}

func BenchmarkMemory(b *testing.B) { benchStore(b, NewMemory(nil)) }

func benchStore(b *testing.B, s Store) {
	ctx := b.Context()
	key := func(i int) string { return fmt.Sprint("192.0.", i/250%250, ".", i%250) }
	for name, do := range map[string]func(i int) error{
		"put":   func(i int) error { return s.Put(ctx, Blocked, key(i), "virus", time.Hour) },
		"get":   func(i int) error { _, _, err := s.Get(ctx, Blocked, key(i), "192.0.2"); return err },
		"count": func(i int) error { _, err := s.Count(ctx, key(i), 1, time.Hour); return err },
		"take":  func(i int) error { _, err := s.Take(ctx, key(i), Rate{100, time.Hour}, 1); return err },
		"grey, new": func(i int) error {
			_, err := s.Grey(ctx, Triple{Key: fmt.Sprint(i), Network: key(i), Delay: time.Minute, Window: time.Hour, Keep: time.Hour, Auto: 5})
			return err
		},
		"grey, known": func(i int) error {
			_, err := s.Grey(ctx, Triple{Key: "known", Network: "n", Window: time.Hour, Keep: time.Hour, Auto: 5})
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if err := do(i); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
