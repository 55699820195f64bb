package console

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gatepost/internal/unixsocket"
)

// listenUnix opens a socket that only root and our own user may use.
func listenUnix(path string) (net.Listener, error) {
	if err := os.Mkdir(filepath.Dir(path), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := unixsocket.RemoveStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// The check of the peer's user keeps others out in between, too.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	return &bounded{Listener: own{l}, slots: make(chan struct{}, maxConnections)}, nil
}

// own is a listener that closes connections of other users.
type own struct{ *net.UnixListener }

func (l own) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peer(c)
		if err == nil && allowed(uid, os.Geteuid()) {
			return c, nil
		}
		_ = c.Close()
	}
}

// allowed says which users may control a gateway that runs as user self.
func allowed(uid uint32, self int) bool { return uid == 0 || int64(uid) == int64(self) }

// peer is the user at the other end.
func peer(c *net.UnixConn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return cred.Uid, nil
}
