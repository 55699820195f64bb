package forward

import (
	"net"
	"time"
)

// guard stands between go-smtp's client and the connection: the client sets no
// deadline while it writes a message, reads a reply of any length, and takes a
// reply that it did not ask for as the answer to its next command.
type guard struct {
	net.Conn
	read, patience time.Duration // for a reply, for each write

	first string    // to be read before all else
	until time.Time // when the reply that is read must be complete
	owed  int       // replies that were asked for and did not come yet
	body  bool      // what is written is the message, not commands
	reply replyScan
}

// replyScan follows the form of a reply.
type replyScan struct {
	size, lines, column int
	more                bool // this line is not the last
}

// Read reads part of a reply.
func (g *guard) Read(p []byte) (int, error) {
	var n int
	var err error
	if g.first != "" {
		n = copy(p, g.first)
		g.first = g.first[n:]
	} else {
		if g.until.IsZero() {
			g.until = time.Now().Add(g.read)
		}
		if err := g.Conn.SetReadDeadline(g.until); err != nil {
			return 0, err
		}
		n, err = g.Conn.Read(p)
	}
	for _, c := range p[:n] {
		if g.reply.scan(c) {
			g.owed--
			g.until = time.Time{}
		}
	}
	if g.reply.size > maxReplySize || g.reply.lines >= maxReplyLines {
		return 0, protocolError("an endless reply")
	}
	return n, err
}

// scan takes the next byte, and reports whether it ends a reply.
func (s *replyScan) scan(c byte) (end bool) {
	s.size++
	if c != '\n' {
		if s.column == 3 {
			s.more = c == '-'
		}
		s.column++
		return false
	}
	s.lines++
	if s.more {
		s.column, s.more = 0, false
		return false
	}
	*s = replyScan{}
	return true
}

// Write writes a command or part of the message.
func (g *guard) Write(p []byte) (int, error) {
	switch {
	case g.body && g.surplus(), !g.body && !g.quiet():
		return 0, protocolError("a reply to nothing")
	case !g.body:
		g.owed = 1
	}
	if err := g.Conn.SetWriteDeadline(time.Now().Add(g.patience)); err != nil {
		return 0, err
	}
	return g.Conn.Write(p)
}

// quiet reports whether all was answered once.
func (g *guard) quiet() bool { return g.owed == 0 && g.reply.size == 0 }

func (g *guard) surplus() bool { return g.owed < 0 || g.reply.size > 0 }

// The deadlines are the guard's own.

func (g *guard) SetDeadline(time.Time) error      { return nil }
func (g *guard) SetReadDeadline(time.Time) error  { return nil }
func (g *guard) SetWriteDeadline(time.Time) error { return nil }
