package milter

import (
	"net"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func stack() string { return string(debug.Stack()) }

// atOnce is how long a read waits in the kernel before its goroutine is parked.
const atOnce = 500 * time.Microsecond

// Waits counts the reads of those who share it. Only one that is alone waits so:
// it keeps a processor from the others, until the runtime takes it away.
type Waits struct{ reads atomic.Int32 }

// maxPassed is how many reads in a row are made without such a wait after waits
// in vain.
const maxPassed = 63

// quickConn is a connection to somebody who mostly answers at once, and a dozen
// times per message. To park a goroutine for that, and to wake up threads when
// the answer is there, costs more than the answer takes to come.
//
// It also acknowledges TCP segments at once. An MTA that was told not to wait for
// replies writes, writes, and reads: with delayed acknowledgements here and
// Nagle's algorithm there each message would stand still for 40 ms.
type quickConn struct {
	net.Conn
	waits *Waits // nil: no read waits so
	raw   syscall.RawConn
	tcp   bool

	ready  bool // there is something to read
	passed int  // reads since the last wait
	vain   int  // as many are to be made without one
	poll   func(fd uintptr)
	fds    [1]unix.PollFd
}

func newQuickConn(c net.Conn, waits *Waits) *quickConn {
	q := &quickConn{Conn: c, waits: waits}
	q.poll = q.pollOnce
	_, q.tcp = c.(*net.TCPConn)
	if s, ok := c.(syscall.Conn); ok && (q.tcp || waits != nil) {
		q.raw, _ = s.SyscallConn()
	}
	return q
}

func (q *quickConn) Read(b []byte) (int, error) {
	if q.waits != nil {
		q.waits.reads.Add(1)
		defer q.waits.reads.Add(-1)
	}
	if !q.ready {
		q.wait()
	}
	q.ready = false
	return q.Conn.Read(b)
}

// wait reports whether there is something to read now or in a moment; when it is
// not known it says no.
func (q *quickConn) wait() (ready bool) {
	q.ready = false
	if q.raw != nil {
		_ = q.raw.Control(q.poll)
	}
	return q.ready
}

func (q *quickConn) pollOnce(fd uintptr) {
	if q.tcp { // not for ever: the kernel takes the option back when it sees fit
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}
	if q.passed < q.vain {
		q.passed++
		return
	}
	if q.waits == nil || q.waits.reads.Load() > 1 {
		return
	}
	q.fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	n, _ := unix.Ppoll(q.fds[:], &unix.Timespec{Nsec: int64(atOnce)}, nil)
	q.ready, q.passed = n > 0, 0
	if q.vain = min(2*q.vain+1, maxPassed); q.ready {
		q.vain = 0
	}
}
