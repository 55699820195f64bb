package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// dir is a directory that belongs to us alone. Everything in it is reached
// through its handle, never through a path from outside.
type dir struct {
	name   string
	root   *os.Root
	handle *os.File // to sync it
}

// openTop opens the spool directory, and makes it where it is missing. It
// refuses what somebody else could have put there or could change.
func openTop(path string) (*dir, error) {
	path = filepath.Clean(path)
	if err := os.Mkdir(path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	parent, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if parent.Mode()&0o002 != 0 && parent.Mode()&fs.ModeSticky == 0 {
		return nil, fmt.Errorf("%s: everybody may write to it", filepath.Dir(path))
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return newDir(path, root, info)
}

// sub opens a directory in d, and makes it where it is missing.
func (d *dir) sub(name string) (*dir, error) {
	if err := d.root.Mkdir(name, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return newDir(filepath.Join(d.name, name), root, info)
}

// newDir checks that root is what info, from lstat, says, and that it is ours.
func newDir(name string, root *os.Root, info fs.FileInfo) (*dir, error) {
	handle, err := root.Open(".")
	if err == nil {
		err = checkDir(handle, info)
	}
	if err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &dir{name: name, root: root, handle: handle}, nil
}

func checkDir(handle *os.File, info fs.FileInfo) error {
	if !info.IsDir() {
		return errors.New("not a directory, or a symbolic link to one")
	}
	now, err := handle.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(info, now) {
		return errors.New("replaced while it was opened")
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(handle.Fd()), &st); err != nil {
		return err
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("belongs to user %d, not to %d", st.Uid, os.Geteuid())
	}
	if st.Mode&0o022 != 0 {
		return fmt.Errorf("others may write to it (mode %04o)", st.Mode&0o7777)
	}
	if st.Mode&0o777 != dirMode {
		return handle.Chmod(dirMode)
	}
	return nil
}

// sync makes names in d durable.
func (d *dir) sync() error { return d.handle.Sync() }

func (d *dir) close() error { return errors.Join(d.handle.Close(), d.root.Close()) }

// create makes a new file.
func (d *dir) create(name string) (*os.File, error) {
	return d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, fileMode)
}

var errForeign = errors.New("not a file of ours")

// open opens a file of ours: regular and nobody else's. A FIFO would block us.
func (d *dir) open(name string, flag int) (*os.File, error) {
	before, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: %v", name, errForeign, before.Mode())
	}
	f, err := d.root.OpenFile(name, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := checkFile(f, before); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func checkFile(f *os.File, before fs.FileInfo) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	switch {
	case !os.SameFile(before, now):
		return fmt.Errorf("%w: replaced while it was opened", errForeign)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%w: belongs to user %d", errForeign, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%w: others may write to it", errForeign)
	}
	return nil
}

// shared reports whether f has other names, in somebody's backup: it may be
// read and unlinked, but never be written again.
func shared(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) != nil || st.Nlink != 1
}

func (d *dir) list() ([]fs.DirEntry, error) {
	// A handle of its own: reading moves the position.
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return f.ReadDir(-1)
}

// free returns the bytes that we may still write, and whether inodes are left.
func (d *dir) free() (int64, bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.handle.Fd()), &st); err != nil {
		return 0, false, err
	}
	return int64(st.Bavail) * int64(st.Bsize), st.Files == 0 || st.Ffree > 0, nil
}
