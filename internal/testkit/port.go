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

// FreeAddr returns an address of loopback with a port that nothing listens on.
func FreeAddr() (string, error) {
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort))
		if free(addr) {
			return addr, nil
		}
	}
	return "", fmt.Errorf("testkit: no free port from %d to %d", firstPort, lastPort)
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
