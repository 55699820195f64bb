package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	lockName      = "lock"
	formatName    = "format"
	formatTmp     = "format.tmp"
	formatPrefix  = "gatepost spool "
	formatVersion = 1
)

// takeLock makes the spool ours alone until the file is closed.
func takeLock(top *dir) (*os.File, error) {
	f, err := top.create(lockName)
	if errors.Is(err, fs.ErrExist) {
		f, err = top.open(lockName, os.O_RDWR)
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}

// checkFormat reads the version of the spool, or writes ours to a new one.
func checkFormat(top *dir) error {
	f, err := top.open(formatName, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return writeFormat(top)
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, 100))
	if err != nil {
		return err
	}
	number, ok := strings.CutPrefix(strings.TrimSpace(string(b)), formatPrefix)
	v, err := strconv.Atoi(number)
	switch {
	case !ok || err != nil || v < 1:
		return fmt.Errorf("%s: not a spool of ours: %q", formatName, b)
	case v > formatVersion:
		return fmt.Errorf("%s: version %d is newer than this program's %d", formatName, v, formatVersion)
	}
	return nil
}

// writeFormat begins a new spool. One that has messages and no format is none.
func writeFormat(top *dir) error {
	if _, err := top.root.Lstat(contentName); err == nil {
		return fmt.Errorf("%s: missing, but there is a directory %s", formatName, contentName)
	}
	if err := top.root.Remove(formatTmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := top.create(formatTmp)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s%d\n", formatPrefix, formatVersion)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := top.root.Rename(formatTmp, formatName); err != nil {
		return err
	}
	return top.sync()
}
