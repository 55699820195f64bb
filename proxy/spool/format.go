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
	formatVersion = 2
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

// checkFormat returns the version of the spool, and writes ours to a new one.
func checkFormat(top *dir) (version int, err error) {
	f, err := top.open(formatName, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return formatVersion, newFormat(top)
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, 100))
	if err != nil {
		return 0, err
	}
	number, ok := strings.CutPrefix(strings.TrimSpace(string(b)), formatPrefix)
	v, err := strconv.Atoi(number)
	switch {
	case !ok || err != nil || v < 1:
		return 0, fmt.Errorf("%s: not a spool of ours: %q", formatName, b)
	case v > formatVersion:
		return 0, fmt.Errorf("%s: version %d is newer than this program's %d", formatName, v, formatVersion)
	}
	return v, nil
}

// newFormat begins a new spool. One that has messages and no format is none.
func newFormat(top *dir) error {
	if _, err := top.root.Lstat(contentName); err == nil {
		return fmt.Errorf("%s: missing, but there is a directory %s", formatName, contentName)
	}
	return writeFormat(top)
}

// raiseFormat says that an older program can't read the spool any more: it is
// about to get a segment of ours. One that only looks leaves it as it is.
func (s *Spool) raiseFormat() error {
	s.raising.Lock()
	defer s.raising.Unlock()
	if s.format == formatVersion {
		return nil
	}
	if err := writeFormat(s.top); err != nil {
		return fmt.Errorf("%s: %w", formatName, err)
	}
	s.log.Info("spool: format raised, an older version can't read it any more", "from", s.format, "to", formatVersion)
	s.format = formatVersion
	return nil
}

func writeFormat(top *dir) error {
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
