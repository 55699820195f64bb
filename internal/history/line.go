package history

import (
	"log/slog"
	"sync"
	"time"

	"gatepost/internal/mail"
)

// item is one thing to be written.
type item struct {
	record *Record
	event  *mail.Event
}

// size is about what it takes in memory.
func (i item) size() int {
	if i.event != nil {
		return 500 + len(i.event.Text)
	}
	r := i.record
	n := 3000 + len(r.Header) + 200*(len(r.Recipients)+len(r.Findings)+len(r.Rules)+len(r.Edits))
	if r.Inside != nil {
		n += len(r.Inside.Text) + 500*len(r.Inside.Parts) + 200*len(r.Inside.URLs)
	}
	return n
}

// line is what waits to be written.
type line struct {
	wake chan struct{} // there is something

	mu    sync.Mutex
	items []item
	size  int
	most  int
}

func newLine(most int) line { return line{wake: make(chan struct{}, 1), most: most} }

// put reports whether there was room.
func (l *line) put(i item) bool {
	n := i.size()
	l.mu.Lock()
	ok := l.size+n <= l.most
	if ok {
		l.items = append(l.items, i)
		l.size += n
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return ok
}

// take takes the first n.
func (l *line) take(n int) []item {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(n, len(l.items))
	batch := l.items[:n:n]
	l.items = l.items[n:]
	if len(l.items) == 0 {
		l.items = nil
	}
	for _, i := range batch {
		l.size -= i.size()
	}
	return batch
}

// complainEvery keeps a disk that is full from filling the log, too.
const complainEvery = 10 * time.Second

// complaints logs what could not be written, now and then.
type complaints struct {
	log *slog.Logger

	mu    sync.Mutex
	last  time.Time
	since int // left out and not told
}

func (c *complaints) add(what string, lost int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since += lost
	if now := time.Now(); now.Sub(c.last) >= complainEvery {
		c.log.Error(what, "lost", c.since, "error", err)
		c.last, c.since = now, 0
	}
}

func (c *complaints) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since > 0 {
		c.log.Error("history: this was left out", "lost", c.since)
		c.since = 0
	}
}
