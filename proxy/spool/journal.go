package spool

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	contentName  = "content"
	progressName = "progress"
)

// journal is a log in segments. Its user writes to the segment that it hands
// out and says when that failed.
type journal struct {
	name   string
	dir    *dir
	size   int64         // of a segment
	least  int64         // what a segment may shrink to on a full disk
	spares int           // how many files to keep for the next segments
	rest   time.Duration // retryAfter, less in tests
	fail   func(step string) error

	mu       sync.Mutex // held by the one who writes
	current  *segment
	next     uint32
	tried    time.Time // when trouble was found
	reported bool      // that there is trouble

	// trouble is why the log can't go on, nil while it can.
	trouble atomic.Pointer[error]

	// Guarded by Spool.mu.
	all   []*segment // oldest first
	spare []string
}

// retryAfter is how long a failed log rests before the next try.
const retryAfter = time.Second

// step is the journal's own failpoint.
func (j *journal) step(step string) error {
	if j.fail == nil {
		return nil
	}
	return j.fail(journalStep(j.name, step))
}

// create makes a segment file with room for a record of need bytes.
func (j *journal) create(num uint32, need int64) (*segment, error) {
	if err := j.step(journalCreate); err != nil {
		return nil, err
	}
	name := segmentName(num)
	f, err := j.dir.create(name)
	if err != nil {
		return nil, err
	}
	sg := newSegment(num, name, f)
	if err := j.prepare(sg, need); err != nil {
		return nil, errors.Join(err, f.Close(), j.dir.root.Remove(name))
	}
	return sg, nil
}

func (j *journal) prepare(sg *segment, need int64) error {
	if err := j.step(journalAllocate); err != nil {
		return err
	}
	least := roundUp(block + max(need, j.least))
	if err := sg.allocate(max(j.size, least), least); err != nil {
		return err
	}
	if err := j.mark(sg); err != nil {
		return err
	}
	return j.syncDir()
}

// mark begins the segment's life, durably.
func (j *journal) mark(sg *segment) error {
	if err := j.step(journalMark); err != nil {
		return err
	}
	if err := sg.mark(); err != nil {
		return err
	}
	if err := j.step(journalMarkSync); err != nil {
		return err
	}
	return sg.file.Sync()
}

func (j *journal) syncDir() error {
	if err := j.step(journalDirSync); err != nil {
		return err
	}
	return j.dir.sync()
}

// recycle makes a segment of a spare file, or removes it.
func (j *journal) recycle(spare string, num uint32) (*segment, error) {
	f, err := j.dir.open(spare, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	sg := newSegment(num, segmentName(num), f)
	if err := j.revive(sg, spare); err != nil {
		_ = f.Close()
		_ = j.dir.root.Remove(spare)
		_ = j.dir.root.Remove(sg.name)
		return nil, err
	}
	return sg, nil
}

func (j *journal) revive(sg *segment, spare string) error {
	info, err := sg.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != j.size || shared(sg.file) {
		return fmt.Errorf("%s: %w", spare, errForeign)
	}
	sg.room = j.size
	if err := j.mark(sg); err != nil {
		return err
	}
	if err := j.step(journalRename); err != nil {
		return err
	}
	if err := j.dir.root.Rename(spare, sg.name); err != nil {
		return err
	}
	return j.syncDir()
}

// failing returns why the log can't go on.
func (j *journal) failing() error {
	if p := j.trouble.Load(); p != nil {
		return *p
	}
	return nil
}

// fails notes that the log can't go on.
func (j *journal) fails(err error) {
	j.trouble.Store(&err)
	j.tried = time.Now()
}

// abandon takes the current segment out of use after a failed write or sync:
// nobody knows what of it reached the disk. What was durable before stays
// readable; what came behind it is cut off, so that it does not come back as a
// message that nobody was told we have.
func (j *journal) abandon(at int64, err error) {
	sg := j.current
	j.current = nil
	j.fails(err)
	if j.step(journalCut) == nil && !shared(sg.file) && sg.file.Truncate(at) == nil {
		_ = sg.file.Sync()
	}
}
