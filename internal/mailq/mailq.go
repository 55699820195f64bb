// Package mailq reads and deletes in the mail queues of other MTAs, under their
// own rules: Postfix through its programs, sendmail in its files under its
// locks. It knows nothing of why a message is to go.
package mailq

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Message is one in a queue, as far as its envelope tells.
type Message struct {
	ID         string
	Null       bool   // the sender is the null sender
	Foreign    string // why it can't be a bounce of this host's own making; "" where it can
	Recipients []string
	Arrival    time.Time
	Size       int64
}

// Visitor looks at the messages of a queue, one at a time.
type Visitor interface {
	// Judge is given a message that may be a bounce, and its content with line
	// ends of any kind, and returns whether it is to be deleted. An error ends
	// the visit.
	Judge(ctx context.Context, m Message, content io.Reader) (bool, error)
	// Deleted tells what came of the wish: nil, or why the message is still
	// there.
	Deleted(m Message, err error)
	// Skipped tells why a message was not looked into.
	Skipped(m Message, why string)
}

// What became of a message that was to be deleted and is not.
var (
	ErrGone    = errors.New("it has left the queue")
	ErrChanged = errors.New("it has changed since it was read")
)

// Ordinary is why mail that has a sender is skipped.
const Ordinary = "it has a sender: not a bounce"

// ErrLocked is in what Lock returns while another process has the lock.
var ErrLocked = errors.New("another run is at work")

// Lock keeps a second cleaner away from a queue until the process ends or the
// lock is closed. It makes no file: the directory itself is locked, which no MTA
// does.
func Lock(dir string) (io.Closer, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mailq: queue directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("mailq: %s: %w", dir, ErrLocked)
		}
		return nil, fmt.Errorf("mailq: locking %s: %w", dir, err)
	}
	return f, nil
}
