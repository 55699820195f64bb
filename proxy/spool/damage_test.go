package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// copyDir copies a spool as it lies on disk, as a crash would leave it.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := copyTree(from, to); err != nil {
		t.Fatal(err)
	}
	return to
}

func copyTree(from, to string) error {
	return filepath.Walk(from, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		if info.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
}

// batch commits messages together, in one batch.
func batch(t *testing.T, s *Spool, size int, ids ...string) {
	t.Helper()
	s.content.mu.Lock()
	errs := make(chan error, len(ids))
	for i, id := range ids {
		go func() { errs <- put(s, id, size) }()
		waitFor(t, func() bool {
			s.committer.mu.Lock()
			defer s.committer.mu.Unlock()
			return len(s.committer.waiting) == i+1
		})
	}
	s.content.mu.Unlock()
	for range ids {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
		time.Sleep(time.Millisecond)
	}
}

// where returns the place of a message's record.
func where(s *Spool, id string) (file string, at, end int64) {
	rec := s.index.entries[id].rec
	return filepath.Join(contentName, rec.seg.name), int64(rec.at), int64(rec.at) + int64(rec.size)
}

const tiny = 4 * block // the smallest segment

func TestTornTail(t *testing.T) {
	how := map[string]func(b []byte, at int64) []byte{
		"truncated": func(b []byte, at int64) []byte { return b[:at] },
		"zeros": func(b []byte, at int64) []byte {
			return append(bytes.Clone(b[:at]), make([]byte, len(b)-int(at))...)
		},
		"old bytes": func(b []byte, at int64) []byte {
			return append(bytes.Clone(b[:at]), testBody("old", len(b)-int(at))...)
		},
	}
	for _, together := range []bool{false, true} {
		s := open(t, Options{Dir: t.TempDir(), Segment: tiny})
		if together {
			batch(t, s, 50, "A", "B")
		} else {
			mustPut(t, s, "A", 50)
			mustPut(t, s, "B", 50)
		}
		file, at, end := where(s, "B")
		dir := copyDir(t, s.opts.Dir)
		whole, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		for name, tear := range how {
			t.Run(fmt.Sprintf("%s, together %v", name, together), func(t *testing.T) {
				for cut := at; cut <= end; cut++ {
					if err := os.WriteFile(filepath.Join(dir, file), tear(whole, cut), 0o600); err != nil {
						t.Fatal(err)
					}
					checkTorn(t, dir, cut, cut >= end-trailerSize)
				}
			})
		}
	}
}

// checkTorn opens a spool whose last record B was torn at cut.
func checkTorn(t *testing.T, dir string, cut int64, whole bool) {
	t.Helper()
	s, err := Open(Options{Dir: dir, Segment: tiny})
	if err != nil {
		t.Fatalf("cut at %d: %v", cut, err)
	}
	defer s.Close()
	want := []string{"A"}
	if whole {
		want = append(want, "B")
		check(t, s, "B", 50)
	}
	wantIDs(t, s, want...)
	check(t, s, "A", 50)
	if got := files(t, s, corruptName); len(got) > 0 {
		t.Fatalf("cut at %d: set aside %v", cut, got)
	}
}

func TestBitFlips(t *testing.T) {
	for _, together := range []bool{false, true} {
		t.Run(fmt.Sprintf("together %v", together), func(t *testing.T) {
			s := open(t, Options{Dir: t.TempDir(), Segment: tiny})
			if together {
				batch(t, s, 50, "A", "B", "C")
			} else {
				for _, id := range []string{"A", "B", "C"} {
					mustPut(t, s, id, 50)
				}
			}
			file, at, end := where(s, "B")
			dir := copyDir(t, s.opts.Dir)
			for i := at; i < end; i++ {
				flip(t, filepath.Join(dir, file), i)
				checkFlip(t, dir, i, i >= end-trailerSize)
				flip(t, filepath.Join(dir, file), i)
			}
		})
	}
}

func flip(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << (at % 8)
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func checkFlip(t *testing.T, dir string, at int64, trailer bool) {
	t.Helper()
	defer os.RemoveAll(filepath.Join(dir, corruptName))
	var log bytes.Buffer
	s, err := Open(Options{Dir: dir, Segment: tiny, Log: logTo(&log)})
	if err != nil {
		t.Fatalf("flip at %d: %v", at, err)
	}
	defer s.Close()
	check(t, s, "A", 50)
	check(t, s, "C", 50)
	if trailer { // it says nothing of a record whose sums are right
		check(t, s, "B", 50)
		return
	}
	wantIDs(t, s, "A", "C")
	aside := files(t, s, corruptName)
	if len(aside) != 1 || !strings.Contains(log.String(), "level=ERROR") {
		t.Fatalf("flip at %d: set aside %v\n%s", at, aside, log.String())
	}
	got, err := os.ReadFile(filepath.Join(dir, corruptName, aside[0]))
	if err != nil || !bytes.Contains(got, testBody("B", 50)[:8]) && !bytes.Contains(got, testBody("B", 50)[40:]) {
		t.Fatalf("flip at %d: what was set aside is not B (%v)", at, err)
	}
}

// A flip in the last record must not pass for a torn write: it was answered.
func TestBitFlipInTheLastRecord(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Segment: tiny})
	mustPut(t, s, "A", 50)
	file, at, end := where(s, "A")
	dir := copyDir(t, s.opts.Dir)
	for i := at; i < end-trailerSize; i++ {
		flip(t, filepath.Join(dir, file), i)
		damaged := open(t, Options{Dir: dir, Segment: tiny})
		if got := files(t, damaged, corruptName); len(got) != 1 {
			t.Fatalf("flip at %d: set aside %v", i, got)
		}
		_ = damaged.Close()
		_ = os.RemoveAll(filepath.Join(dir, corruptName))
		flip(t, filepath.Join(dir, file), i)
	}
}

// A damaged mark must not cost what is in the segment.
func TestBitFlipInTheMark(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Segment: tiny})
	mustPut(t, s, "A", 50)
	file, _, _ := where(s, "A")
	dir := copyDir(t, s.opts.Dir)
	for i := range int64(markSize) {
		flip(t, filepath.Join(dir, file), i)
		damaged := open(t, Options{Dir: dir, Segment: tiny})
		wantIDs(t, damaged, "A")
		check(t, damaged, "A", 50)
		_ = damaged.Close()
		flip(t, filepath.Join(dir, file), i)
	}
}

func TestDamagedProgress(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Segment: tiny})
	for _, id := range []string{"A", "B"} {
		mustPut(t, s, id, 50)
	}
	p := Progress{State: Hold, Reason: "first", Recipients: make([]Recipient, 2)}
	if err := s.Save("A", p); err != nil {
		t.Fatal(err)
	}
	p.Reason = "second"
	if err := s.Save("A", p); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("B"); err != nil {
		t.Fatal(err)
	}
	last := s.index.entries["A"].progress
	dir := copyDir(t, s.opts.Dir)
	for i := int64(last.at); i < int64(last.at+last.size)-trailerSize; i++ {
		name := filepath.Join(dir, progressName, last.seg.name)
		flip(t, name, i)
		d := open(t, Options{Dir: dir, Segment: tiny})
		wantIDs(t, d, "A")
		m, err := d.Get("A")
		if err != nil || m.Progress.Reason != "first" {
			t.Fatalf("flip at %d: %v, progress %+v", i, err, m)
		}
		if got := files(t, d, corruptName); len(got) != 1 {
			t.Fatalf("flip at %d: set aside %v", i, got)
		}
		_ = d.Close()
		_ = os.RemoveAll(filepath.Join(dir, corruptName))
		flip(t, name, i)
	}
}

// What lies in the directories and is not ours, or not as it should be.
func TestForeignFiles(t *testing.T) {
	tests := []struct {
		name  string
		plant func(t *testing.T, dir string) error
		log   string
		gone  bool // message L can't be there
		aside int
	}{
		{"empty segment", func(t *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, contentName, "00000099.log"), nil, 0o600)
		}, "", false, 0},
		{"zero segment", func(t *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, contentName, "00000099.log"), make([]byte, 9000), 0o600)
		}, "", false, 0},
		{"segment of garbage", func(t *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, contentName, "00000099.log"), testBody("g", 9000), 0o600)
		}, "no segment of ours", false, 1},
		{"segment that is a FIFO", func(t *testing.T, dir string) error {
			return unix.Mkfifo(filepath.Join(dir, contentName, "00000099.log"), 0o600)
		}, "not a file of ours", false, 0},
		{"segment that is a symbolic link", func(t *testing.T, dir string) error {
			return os.Symlink("00000000.log", filepath.Join(dir, contentName, "00000099.log"))
		}, "not a file of ours", false, 0},
		{"progress that is a symbolic link out", func(t *testing.T, dir string) error {
			return os.Symlink("/etc/passwd", filepath.Join(dir, progressName, "00000099.log"))
		}, "not a file of ours", false, 0},
		{"segment of somebody else", func(t *testing.T, dir string) error {
			name := filepath.Join(dir, contentName, "00000099.log")
			if err := os.WriteFile(name, testBody("g", 9000), 0o600); err != nil {
				return err
			}
			if os.Geteuid() != 0 {
				t.Skip("only root can give a file away")
			}
			return os.Chown(name, 12345, 12345)
		}, "belongs to user 12345", false, 0},
		{"segment that others may write", func(t *testing.T, dir string) error {
			name := filepath.Join(dir, contentName, "00000099.log")
			_ = os.WriteFile(name, testBody("g", 9000), 0o600)
			return os.Chmod(name, 0o666)
		}, "others may write", false, 0},
		{"hard link to a segment", func(t *testing.T, dir string) error {
			return os.Link(filepath.Join(dir, contentName, "00000000.log"), filepath.Join(dir, "backup"))
		}, "", false, 0},
		{"second copy of a segment", func(t *testing.T, dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, contentName, "00000000.log"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, contentName, "00000098.log"), b, 0o600)
		}, "", false, 0},
		{"other file", func(t *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, contentName, "README"), []byte("hello"), 0o600)
		}, "foreign file", false, 0},
		{"directory among large files", func(t *testing.T, dir string) error {
			return os.Mkdir(filepath.Join(dir, largeName, "x"), 0o700)
		}, "foreign file", false, 0},
		{"large file without a message", func(t *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, largeName, "orphan"), []byte("hello"), 0o600)
		}, "file without a message removed", false, 0},
		{"large file missing", func(t *testing.T, dir string) error {
			return os.Remove(filepath.Join(dir, largeName, "L"))
		}, "no such file", true, 1},
		{"large file too short", func(t *testing.T, dir string) error {
			return os.Truncate(filepath.Join(dir, largeName, "L"), 1000)
		}, "1000 of", true, 2},
		{"large file is a link", func(t *testing.T, dir string) error {
			if err := os.Rename(filepath.Join(dir, largeName, "L"), filepath.Join(dir, "L")); err != nil {
				return err
			}
			return os.Symlink("../L", filepath.Join(dir, largeName, "L"))
		}, "not a file of ours", true, 1},
	}
	s := open(t, Options{Dir: t.TempDir(), Segment: 64 << 10})
	mustPut(t, s, "A", 50)
	mustPut(t, s, "L", 200<<10)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := copyDir(t, s.opts.Dir)
			if err := tt.plant(t, dir); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			s := open(t, Options{Dir: dir, Segment: 64 << 10, Log: logTo(&log)})
			if !strings.Contains(log.String(), tt.log) {
				t.Errorf("log says nothing of %q:\n%s", tt.log, log.String())
			}
			want := []string{"A", "L"}
			if tt.gone {
				want = want[:1]
			} else {
				check(t, s, "L", 200<<10)
			}
			check(t, s, "A", 50)
			wantIDs(t, s, want...)
			if got := files(t, s, corruptName); len(got) != tt.aside {
				t.Errorf("set aside %v, want %d", got, tt.aside)
			}
			stop := run(t, s)
			mustPut(t, s, "N", 60)
			stop()
			s = reopen(t, s)
			wantIDs(t, s, append(want, "N")...)
		})
	}
}

// A large file whose record is damaged may be all that is left of a message.
func TestDamagedRecordKeepsItsFile(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Segment: tiny})
	mustPut(t, s, "L", 200<<10)
	file, at, _ := where(s, "L")
	dir := copyDir(t, s.opts.Dir)
	flip(t, filepath.Join(dir, file), at+frameSize+3)
	s = open(t, Options{Dir: dir, Segment: tiny})
	if got := files(t, s, corruptName); len(got) != 2 {
		t.Errorf("set aside %v, want the record and the file", got)
	}
}

// Reading that fails half way must never look like the end of the message.
func TestUnreadableContent(t *testing.T) {
	const size = 1 << 20
	for _, tt := range []struct {
		name   string
		break_ func(dir string) error
	}{
		{"changed", func(dir string) error {
			f, err := os.OpenFile(filepath.Join(dir, largeName, "L"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("X"), size/2)
			return err
		}},
		{"truncated", func(dir string) error { return os.Truncate(filepath.Join(dir, largeName, "L"), size/2) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, Options{Dir: t.TempDir()})
			mustPut(t, s, "L", size)
			c, err := s.Open("L")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := tt.break_(s.opts.Dir); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			n, err := c.WriteTo(&b)
			if err == nil || n >= c.Size() {
				t.Errorf("WriteTo = %d of %d, %v", n, c.Size(), err)
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	fail := false
	s := open(t, Options{Dir: t.TempDir(), Failpoint: func(step string) error {
		if fail && step == stepRead {
			return syscall.EIO
		}
		return nil
	}})
	mustPut(t, s, "A", 50)
	mustPut(t, s, "L", 1<<20)
	for _, id := range []string{"A", "L"} {
		fail = false
		c, err := s.Open(id)
		if err != nil {
			t.Fatal(err)
		}
		fail = true
		if _, err := c.ReadAt(make([]byte, 10), 0); err == nil {
			t.Errorf("%s: ReadAt passed", id)
		}
		if _, err := c.WriteTo(&bytes.Buffer{}); err == nil {
			t.Errorf("%s: WriteTo passed", id)
		}
		_ = c.Close()
	}
}
