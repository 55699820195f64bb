package forward

import (
	"net"
	"time"
)

// guard is the connection as go-smtp's client sees it. The client sets no
// deadline while it writes a message, reads a reply of any length, and takes a
// reply that it did not ask for as the answer to its next command. So it is fed
// one whole reply at a time, that was asked for, read and printed by us.
type guard struct {
	net.Conn
	link   *link
	within time.Duration // for a reply
	owed   int           // replies that were asked for and not read yet
	body   bool          // what is written is the message, not commands
	reply  []byte        // what is left of the reply that is read
}

// Read reads part of a reply.
func (g *guard) Read(p []byte) (int, error) {
	if len(g.reply) == 0 {
		if g.owed == 0 {
			return 0, protocolError("a reply to nothing")
		}
		r, err := g.link.reply(g.within)
		if err != nil {
			return 0, err
		}
		g.owed--
		g.reply = r.Wire()
	}
	n := copy(p, g.reply)
	g.reply = g.reply[n:]
	return n, nil
}

// Write writes a command or part of the message.
func (g *guard) Write(p []byte) (int, error) {
	write := g.link.say
	if g.body {
		write = g.link.write
	} else {
		g.owed = 1
	}
	if err := write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// The deadlines are the link's.

// SetDeadline does nothing.
func (g *guard) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (g *guard) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (g *guard) SetWriteDeadline(time.Time) error { return nil }
