package proxy

import (
	"io"
	"log/slog"
	"net"
	"runtime"
	"testing"
)

// An idle connection is cheap: a small buffer and a goroutine. The clients'
// half of the sockets is counted, too.
func TestIdleConnections(t *testing.T) {
	const n = 500
	g := start(t, func(_ *Config, g *gate) { g.level = slog.LevelInfo })
	g.hello().do("MAIL FROM:<s@a.example>", "250") // what is allocated once
	before := memory()
	b := make([]byte, 1024)
	for range n {
		conn, err := net.Dial("tcp", g.srv.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		for _, send := range []string{"", "EHLO c.example\r\n"} {
			if _, err := io.WriteString(conn, send); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	per := (memory() - before) / n
	t.Logf("%d bytes for an idle connection", per)
	if per > idleLimit {
		t.Errorf("%d bytes for an idle connection, want at most %d", per, idleLimit)
	}
}

// idleLimit is half for the stack, which has 8 kB as soon as a handler was asked
// anything, and half for what we keep.
const idleLimit = 16 << 10

func memory() int64 {
	runtime.GC()
	runtime.GC() // the first may leave stacks to be shrunk
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
