package testkit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"time"
)

// Ports are taken from below the range that the kernel uses for outgoing
// connections (32768 and up): a server that is started again would sometimes
// find its port taken by a client of another.
const firstPort, lastPort = 12000, 32000

// FreeAddr returns an address of loopback with a port that nothing listens on,
// and that no other test gets while this process lives.
func FreeAddr() (string, error) {
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if reserve(port) && free(addr) {
			return addr, nil
		}
	}
	return "", fmt.Errorf("testkit: no free port from %d to %d", firstPort, lastPort)
}

// reserve takes a port that nobody has to listen on yet. A name of an abstract
// socket is taken once, and free again when its process has ended.
func reserve(port int) bool {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: fmt.Sprintf("@gatepost-port-%d", port)}); err != nil {
		_ = syscall.Close(fd)
		return false
	}
	return true
}

// free reports whether nothing listens there. A program that is started at the
// same time would keep the listener open until it runs, so none is.
func free(addr string) bool {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	l, err := net.Listen("tcp", addr)
	return err == nil && l.Close() == nil
}

// listen listens, even where a listener of ours that was just closed lives on
// for a moment in a program that is being started.
func listen(addr string) (l net.Listener, err error) {
	poll(2*time.Second, func() bool {
		l, err = net.Listen("tcp", addr)
		return !errors.Is(err, syscall.EADDRINUSE)
	})
	return l, err
}

// Port is the port of an address.
func Port(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return port
}
