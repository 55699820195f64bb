package icap

import (
	"sync"
	"time"
)

// idleTime is how long a connection is kept without use: servers close theirs
// after some time, c-icap after ten minutes.
const idleTime = 30 * time.Second

// idle keeps connections that can be used again, the last one first.
type idle struct {
	limit int

	mu     sync.Mutex
	isOpen bool
	conns  []kept
}

type kept struct {
	conn  *conn
	since time.Time
}

func (i *idle) open() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.isOpen = true
}

// close closes all, and wants no more.
func (i *idle) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.isOpen = false
	for _, k := range i.conns {
		k.conn.Close()
	}
	i.conns = nil
}

// wanted reports whether somebody will close what is kept.
func (i *idle) wanted() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.isOpen
}

// take returns a connection, nil when there is none.
func (i *idle) take() *conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n := len(i.conns); n > 0; n = len(i.conns) {
		k := i.conns[n-1]
		i.conns = i.conns[:n-1]
		if time.Since(k.since) < idleTime {
			k.conn.again()
			return k.conn
		}
		k.conn.Close()
	}
	return nil
}

func (i *idle) put(c *conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.isOpen {
		c.Close()
		return
	}
	if len(i.conns) == i.limit {
		i.conns[0].conn.Close()
		i.conns = append(i.conns[:0], i.conns[1:]...)
	}
	i.conns = append(i.conns, kept{c, time.Now()})
}
