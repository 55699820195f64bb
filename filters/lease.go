package filters

import (
	"errors"
	"io"
	"sync"
)

var errLease = errors.New("filters: the message has been judged")

// lease is the body of a message for as long as it is judged. What a filter
// that ignores its context reads later is an error, not the next message.
type lease struct {
	mu     sync.RWMutex
	reader io.ReaderAt
}

func (l *lease) ReadAt(p []byte, off int64) (int, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.reader == nil {
		return 0, errLease
	}
	return l.reader.ReadAt(p, off)
}

func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reader = nil
}
