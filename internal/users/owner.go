package users

import (
	"io/fs"
	"os"
	"syscall"
)

// sameGroup gives a file the group of a directory, where we may.
func sameGroup(dir fs.FileInfo) func(*os.File) error {
	return func(f *os.File) error {
		if st, ok := dir.Sys().(*syscall.Stat_t); ok {
			_ = f.Chown(-1, int(st.Gid)) // who may not keeps his own
		}
		return nil
	}
}

// sameOwner gives a file the owner of another one.
func sameOwner(info fs.FileInfo) func(*os.File) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return func(*os.File) error { return nil }
	}
	return func(f *os.File) error { return f.Chown(int(st.Uid), int(st.Gid)) }
}
