package forward

import (
	"bufio"
	"net"
	"syscall"
	"time"

	"gatepost/internal/mail"
)

// link is a connection on which commands are sent and replies read. Every
// operation has a deadline.
type link struct {
	raw      net.Conn // TCP, or a unix socket
	conn     net.Conn // raw, or TLS over it
	in       *bufio.Reader
	remote   string // "name[address]:port"
	tls      string // version, "" in clear
	ext      extensions
	patience time.Duration // for each write
}

// say writes commands. There is nothing to be read when a command is sent: a
// reply that nobody asked for would be taken for the answer to it.
func (l *link) say(b []byte) error {
	if l.in.Buffered() > 0 {
		return protocolError("a reply to nothing")
	}
	return l.write(b)
}

func (l *link) write(b []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(l.patience)); err != nil {
		return err
	}
	_, err := l.conn.Write(b)
	return err
}

// reply reads one reply, whole, within a time.
func (l *link) reply(within time.Duration) (mail.Reply, error) {
	if err := l.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return mail.Reply{}, err
	}
	return readReply(l.in)
}

// ask sends one command and reads its reply.
func (l *link) ask(command string, within time.Duration) (mail.Reply, error) {
	if err := l.say([]byte(command + "\r\n")); err != nil {
		return mail.Reply{}, err
	}
	return l.reply(within)
}

// quiet reports whether there is nothing to be read, no end of the connection
// either: it asks the kernel and does not wait.
func (l *link) quiet() bool {
	if l.in.Buffered() > 0 {
		return false
	}
	sc, ok := l.raw.(syscall.Conn)
	if !ok {
		return true
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = rc.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN
	})
	return err == nil && quiet
}

// abort ends the connection at once and so that the peer can't take it for a
// regular end: with a reset instead of a FIN.
func (l *link) abort() {
	if tcp, ok := l.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = l.raw.Close()
}

// quitTimeout is all the time there is for a polite end.
const quitTimeout = 2 * time.Second

// quit says good-bye and closes.
func (l *link) quit() {
	_ = l.conn.SetDeadline(time.Now().Add(quitTimeout))
	if _, err := l.conn.Write([]byte("QUIT\r\n")); err == nil {
		_, _ = readReply(l.in)
	}
	_ = l.conn.Close()
}

// newReader has room for one line of a reply.
func newReader(c net.Conn) *bufio.Reader { return bufio.NewReaderSize(c, maxReplyLine) }
