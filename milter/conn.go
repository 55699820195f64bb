package milter

import (
	"net"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

func stack() string { return string(debug.Stack()) }

// quickAck answers TCP segments at once. An MTA that was told not to wait for
// replies writes, writes, and reads: with delayed acknowledgements here and
// Nagle's algorithm there each message would stand still for 40 ms.
type quickAck struct {
	net.Conn
	raw interface {
		Control(func(fd uintptr)) error
	}
}

func newQuickAck(c net.Conn) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	return &quickAck{Conn: c, raw: raw}
}

func (q *quickAck) Read(b []byte) (int, error) {
	// Not for ever: the kernel takes the option back when it sees fit.
	_ = q.raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	})
	return q.Conn.Read(b)
}
