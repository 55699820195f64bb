package filtertest

import (
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// Serve is a daemon for a test: serve has each connection to it, "unix" or "tcp".
// When the test ends all connections are closed, and serve is waited for.
func Serve(t testing.TB, network string, serve func(net.Conn)) (address string) {
	t.Helper()
	address = "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "daemon")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		served.Wait()
	})
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			served.Go(func() { serve(c) })
		}
	})
	return network + ":" + l.Addr().String()
}
