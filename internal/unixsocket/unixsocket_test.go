package unixsocket

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func mode(file string) error { return os.Chmod(file, 0o640) }

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, mode)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", info, err)
	}
	if _, err := Listen(path, mode); err == nil {
		t.Error("a socket in use was taken away")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

func TestStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err := Listen(path, mode)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()

	link := filepath.Join(t.TempDir(), "link")
	for name, make := range map[string]func() error{
		"a file": func() error { return os.WriteFile(link, []byte("x"), 0o600) },
		"a link": func() error { return os.Symlink(path, link) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(link, mode); err == nil {
			t.Errorf("%s was taken away", name)
		}
		if err := os.Remove(link); err != nil {
			t.Error(err)
		}
	}
}

// What can't be made as it should be is not there at all.
func TestOwnFails(t *testing.T) {
	dir := t.TempDir()
	if _, err := Listen(filepath.Join(dir, "s"), func(string) error { return os.ErrPermission }); !errors.Is(err, os.ErrPermission) {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}
