package spool

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a disk of so many bytes.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755,"+options)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount: %v", err)
		}
		t.Skipf("a small disk needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return filepath.Join(dir, "spool")
}

func TestDiskFull(t *testing.T) {
	for _, size := range []int{5000, 300 << 10} { // in the log, and in its own file
		dir := smallDisk(t, "size=3m")
		o := Options{Dir: dir, Segment: 256 << 10}
		s := open(t, o)
		stop := run(t, s)
		var acked []string
		full := false
		for i := 0; i < 2000 && !full; i++ {
			id := testID(i)
			switch err := put(s, id, size); {
			case err == nil:
				acked = append(acked, id)
			case errors.Is(err, syscall.ENOSPC):
				full = true
			default:
				t.Fatalf("%s: %v", id, err)
			}
		}
		if !full || len(acked) < 3 {
			t.Fatalf("the disk took %d messages and is full: %v", len(acked), full)
		}
		wantIDs(t, s, acked...)

		// The queue can be emptied all the same, and that makes room.
		for _, id := range acked[1:] {
			check(t, s, id, size)
			if err := s.Remove(id); err != nil {
				t.Fatalf("remove on a full disk: %v", err)
			}
		}
		waitFor(t, func() bool {
			return s.Ready() == nil && put(s, "again", size) == nil
		})
		stop()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, o)
		wantIDs(t, s, acked[0], "again")
		check(t, s, acked[0], size)
		check(t, s, "again", size)
		if got := files(t, s, corruptName); len(got) > 0 {
			t.Errorf("set aside %v", got)
		}
		if got := len(files(t, s, largeName)); size > 128<<10 && got != 2 {
			t.Errorf("%d large files, want 2", got)
		}
	}
}

func TestMinFree(t *testing.T) {
	dir := smallDisk(t, "size=2m")
	s := open(t, Options{Dir: dir, Segment: 64 << 10, MinFree: 1 << 20})
	if err := s.Ready(); err != nil {
		t.Fatalf("ready: %v", err)
	}
	ballast := filepath.Join(filepath.Dir(dir), "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Ready on a disk nearly full: %v", err)
	}
	mustPut(t, s, "A", 5000) // what was begun is still taken
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("Ready afterwards: %v", err)
	}
}

func TestNoInodes(t *testing.T) {
	dir := smallDisk(t, "size=8m,nr_inodes=12")
	s := open(t, Options{Dir: dir, Segment: 64 << 10, MinFree: 1})
	mustPut(t, s, "A", 5000)
	var err error
	for i := 0; i < 10 && err == nil; i++ {
		err = put(s, testID(i), 200<<10)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("commit without inodes: %v", err)
	}
	if err := s.Ready(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Ready without inodes: %v", err)
	}
	before := ids(s)
	s = reopen(t, s)
	wantIDs(t, s, before...)
}

func TestSecondOpen(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	if _, err := Open(Options{Dir: s.opts.Dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Dir: s.opts.Dir})
}

func TestBadDirectory(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, dir string) error
		want string
	}{
		{"symbolic link", func(t *testing.T, dir string) error { return os.Symlink(t.TempDir(), dir) }, "symbolic link"},
		{"a file", func(t *testing.T, dir string) error { return os.WriteFile(dir, nil, 0o600) }, "not a directory"},
		{"group may write", func(t *testing.T, dir string) error { return mkdir(dir, 0o770) }, "others may write"},
		{"everybody may write", func(t *testing.T, dir string) error { return mkdir(dir, 0o702) }, "others may write"},
		{"parent that everybody may write", func(t *testing.T, dir string) error { return os.Chmod(filepath.Dir(dir), 0o777) }, "everybody may write"},
		{"no parent", func(t *testing.T, dir string) error { return os.Remove(filepath.Dir(dir)) }, "no such file"},
		{"somebody else's", func(t *testing.T, dir string) error {
			if os.Geteuid() != 0 {
				t.Skip("only root can give a directory away")
			}
			return errors.Join(mkdir(dir, 0o700), os.Chown(dir, 12345, 12345))
		}, "belongs to user 12345"},
		{"content is a link", func(t *testing.T, dir string) error {
			s, err := Open(Options{Dir: dir})
			if err != nil {
				return err
			}
			_ = s.Close()
			return errors.Join(os.Rename(filepath.Join(dir, contentName), filepath.Join(dir, "x")), os.Symlink("x", filepath.Join(dir, contentName)))
		}, "symbolic link"},
		{"lock is a FIFO", func(t *testing.T, dir string) error {
			return errors.Join(mkdir(dir, 0o700), unix.Mkfifo(filepath.Join(dir, lockName), 0o600))
		}, "not a file of ours"},
		{"lock is a link", func(t *testing.T, dir string) error {
			return errors.Join(mkdir(dir, 0o700), os.Symlink("/etc/passwd", filepath.Join(dir, lockName)))
		}, "not a file of ours"},
		{"newer format", func(t *testing.T, dir string) error {
			return errors.Join(mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, formatName), []byte("gatepost spool 3\n"), 0o600))
		}, "newer"},
		{"other format", func(t *testing.T, dir string) error {
			return errors.Join(mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, formatName), []byte("postfix"), 0o600))
		}, "not a spool of ours"},
		{"format lost", func(t *testing.T, dir string) error {
			return errors.Join(mkdir(dir, 0o700), mkdir(filepath.Join(dir, contentName), 0o700))
		}, "missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parent := filepath.Join(t.TempDir(), "parent")
			if err := os.Mkdir(parent, 0o755); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(parent, "spool")
			if err := tt.make(t, dir); err != nil {
				t.Fatal(err)
			}
			s, err := Open(Options{Dir: dir})
			if err == nil {
				_ = s.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want %q in it", err, tt.want)
			}
		})
	}
}

// mkdir is os.Mkdir without umask.
func mkdir(dir string, mode os.FileMode) error {
	return errors.Join(os.Mkdir(dir, mode), os.Chmod(dir, mode))
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	old := unix.Umask(0)
	defer unix.Umask(old)
	s := open(t, Options{Dir: dir, Segment: tiny})
	mustPut(t, s, "A", 100)
	mustPut(t, s, "L", 200<<10)
	if err := s.Remove("A"); err != nil {
		t.Fatal(err)
	}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestClosed(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	mustPut(t, s, "A", 100)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, getErr := s.Get("A")
	_, openErr := s.Open("A")
	errs := map[string]error{
		"Commit": put(s, "B", 100),
		"Save":   s.Save("A", Progress{State: Queue}),
		"Remove": s.Remove("A"),
		"Get":    getErr,
		"Open":   openErr,
	}
	for name, err := range errs {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	if got := slices.Collect(s.All()); len(got) > 0 {
		t.Errorf("All after Close: %v", got)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
