package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken from below the range that the kernel uses for outgoing
// connections (32768 and up): a server that is started again would sometimes
// find its port taken by a client of another.
const firstPort, lastPort = 12000, 32000

// FreeAddr returns an address of loopback with a port that nothing listens on.
func FreeAddr() (string, error) {
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort))
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("testkit: no free port from %d to %d", firstPort, lastPort)
}

// Port is the port of an address.
func Port(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return port
}
