package proxy

import (
	"errors"
	"net"
	"syscall"
)

// isGone looks, without waiting, whether the other end of a connection has
// closed it. Nothing is read.
func isGone(c net.Conn) bool {
	_, gone := peek(c)
	return gone
}

// peek looks, without waiting, whether there is something to read, and whether
// the other end is gone.
func peek(c net.Conn) (pending, gone bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, true
	}
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		waits := errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
		pending, gone = n > 0, n <= 0 && !waits
	})
	return pending, gone || err != nil
}
