// Package unixsocket opens unix sockets that have their owner and mode from the
// first moment on, in the place of what a dead process left.
package unixsocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// Listen opens a socket at path. own sets owner and mode of the file that it is
// given.
//
// bind(2) takes the mode from the umask, which belongs to the whole process. So
// the socket is made under another name in the same directory, which nobody
// looks for, and renamed when it is as it should be.
func Listen(path string, own func(file string) error) (net.Listener, error) {
	if err := RemoveStale(path); err != nil {
		return nil, err
	}
	made := path + ".new"
	_ = os.Remove(made)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = own(made); err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		l.Close()
		_ = os.Remove(made)
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return &listener{UnixListener: l, path: path}, nil
}

// listener removes its file when it is closed.
type listener struct {
	*net.UnixListener
	path string
}

func (l *listener) Close() error {
	return errors.Join(os.Remove(l.path), l.UnixListener.Close())
}

// RemoveStale removes the socket of a process that is gone, and nothing else: no
// file, no symbolic link, no socket that answers or might.
func RemoveStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("socket %s: something that is no socket stands there; move it away", path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("socket %s: another program listens on it", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("socket %s: is anybody listening? %w", path, err)
	}
	return os.Remove(path)
}
