package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options of a spool.
type Options struct {
	Dir   string
	Large int64 // messages above this size get a file of their own; 0: 128 kB
	// MinFree is how much of the disk must be free for Ready; 0: any.
	MinFree int64
	Segment int64 // size of a segment of content; 0: 32 MB
	Cache   int64 // content kept in memory; 0: 32 MB
	Log     *slog.Logger
	// Committed is told of what has just become durable, before anybody else
	// is; it must not block. nil: nobody is told.
	Committed func(entries []Entry)
	// Failpoint, in tests, is called with the name of each step before it is
	// taken. An error is taken as the step's own.
	Failpoint func(step string) error
}

// DefaultMinFree is what a mail host should keep free.
const DefaultMinFree = 64 << 20

func (o *Options) fill() {
	orElse := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	orElse(&o.Large, 128<<10)
	o.Large = min(o.Large, maxData/2)
	orElse(&o.Segment, 32<<20)
	o.Segment = min(max(roundUp(o.Segment), 4*block), maxSegment)
	orElse(&o.Cache, 32<<20)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Spool is the accepted messages on disk.
type Spool struct {
	opts Options
	log  *slog.Logger
	lock *os.File

	top, largeDir, corruptDir *dir
	large                     *shelf
	content, progress         *journal
	committer                 committer
	progressSync              *syncer
	buffers                   buffers
	kick                      chan struct{} // there is something for Run
	zeros                     [block]byte   // the end of a batch
	damaged                   atomic.Bool   // something was set aside at the start
	settle                    time.Duration // settleTime, less in tests
	complained                map[string]time.Time

	raising sync.Mutex // guards format
	format  int

	cleaning sync.Mutex // held by the one who moves or syncs progress

	mu       sync.Mutex
	closed   bool
	index    index
	cache    cache
	reserved map[string]bool // IDs on their way
	unlink   []string        // large files to go when progress is durable
	unsynced bool            // progress was written
	// hoard keeps the progress log from forgetting what was removed: there
	// are segments that we could not read or delete.
	hoard bool
	stats Stats
}

// Open locks the directory and reads back what is in it. What is damaged is set
// aside with an error line, and does not keep the spool from opening. It writes
// to no log: a command that only looks changes nothing.
func Open(o Options) (*Spool, error) {
	o.fill()
	s := &Spool{
		opts:     o,
		log:      o.Log,
		kick:     make(chan struct{}, 1),
		index:    newIndex(),
		cache:    cache{limit: o.Cache},
		reserved: map[string]bool{},
		settle:   settleTime,

		complained: map[string]time.Time{},
	}
	if err := s.openDirs(); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("spool: open: %w", err)
	}
	if err := s.recover(); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("spool: open: %w", err)
	}
	return s, nil
}

const (
	largeName   = "large"
	corruptName = "corrupt"

	progressSegment = 4 << 20
	contentSpares   = 2
)

func (s *Spool) openDirs() (err error) {
	if s.top, err = openTop(s.opts.Dir); err != nil {
		return err
	}
	if s.lock, err = takeLock(s.top); err != nil {
		return fmt.Errorf("%s: %w", s.opts.Dir, err)
	}
	if s.format, err = checkFormat(s.top); err != nil {
		return fmt.Errorf("%s: %w", s.opts.Dir, err)
	}
	var step func(string) error
	if s.opts.Failpoint != nil {
		step = s.step
	}
	s.content = &journal{name: contentName, size: s.opts.Segment, least: min(s.opts.Segment/4, 1<<20), spares: contentSpares, rest: retryAfter, fail: step}
	s.progress = &journal{name: progressName, size: min(progressSegment, s.opts.Segment), least: 4 * block, rest: retryAfter, fail: step}
	for _, d := range []struct {
		dir  **dir
		name string
	}{
		{&s.content.dir, contentName}, {&s.progress.dir, progressName},
		{&s.largeDir, largeName}, {&s.corruptDir, corruptName},
	} {
		if *d.dir, err = s.top.sub(d.name); err != nil {
			return err
		}
	}
	s.large = newShelf(s.largeDir, s.step)
	s.progressSync = newSyncer(s.syncProgress)
	return s.top.sync()
}

// Close makes all of it durable and releases the lock. Run must have ended.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	err := errors.Join(s.Sync(context.Background()), s.large.clear())
	for _, j := range []*journal{s.progress, s.content} {
		j.mu.Lock() // what is under way ends first
		defer j.mu.Unlock()
		j.current = nil
		j.fails(ErrClosed)
	}
	return errors.Join(err, s.closeFiles())
}

func (s *Spool) closeFiles() error {
	var errs []error
	dirs := []*dir{s.largeDir, s.corruptDir}
	for _, j := range []*journal{s.content, s.progress} {
		if j == nil {
			continue
		}
		dirs = append(dirs, j.dir)
		for _, seg := range j.all {
			errs = append(errs, seg.file.Close())
		}
	}
	for _, d := range append(dirs, s.top) {
		if d != nil {
			errs = append(errs, d.close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// segment returns the current segment of j with room for need bytes, or a fresh
// one. j.mu is held.
func (s *Spool) segment(j *journal, need int64) (*segment, error) {
	if j.current != nil && j.current.end+need <= j.current.room {
		return j.current, nil
	}
	if err := j.failing(); err != nil && time.Since(j.tried) < j.rest {
		return nil, err
	}
	return s.roll(j, need)
}

// roll goes on to a fresh segment. j.mu is held.
func (s *Spool) roll(j *journal, need int64) (*segment, error) {
	if j.current != nil && j == s.progress {
		// Sync only looks at the current one.
		if err := s.syncOld(j); err != nil {
			return nil, err
		}
	}
	seg, err := s.freshSegment(j, need)
	if err != nil {
		j.fails(err)
		return nil, err
	}
	s.mu.Lock()
	if j.current != nil {
		j.current.sealed = time.Now()
	}
	j.all = append(j.all, seg)
	seg.size = seg.end
	s.mu.Unlock()
	j.current = seg
	if j.failing() != nil {
		j.trouble.Store(nil)
		j.reported = false
		s.log.Info("spool: writing again", "log", j.name)
	}
	return seg, nil
}

func (s *Spool) syncOld(j *journal) error {
	err := j.step(journalSync)
	if err == nil {
		err = j.current.sync()
	}
	if err != nil {
		seg := j.current
		j.current = nil
		j.fails(err)
		s.spoil(seg)
	}
	return err
}

func (s *Spool) freshSegment(j *journal, need int64) (*segment, error) {
	if err := s.raiseFormat(); err != nil {
		return nil, err
	}
	num := j.next
	j.next++
	if block+need <= j.size && j.failing() == nil {
		s.mu.Lock()
		var spare string
		if n := len(j.spare); n > 0 {
			spare, j.spare = j.spare[n-1], j.spare[:n-1]
		}
		s.mu.Unlock()
		if spare != "" {
			seg, err := j.recycle(spare, num)
			if err == nil {
				return seg, nil
			}
			s.log.Warn("spool: spare segment not used", "log", j.name, "file", spare, "error", err)
			num = j.next
			j.next++
		}
	}
	return j.create(num, need)
}

// Ready returns nil while new mail can be taken. The error of a full disk is
// syscall.ENOSPC.
func (s *Spool) Ready() error {
	for _, j := range []*journal{s.content, s.progress} {
		if err := j.failing(); err != nil {
			return fmt.Errorf("spool: %s log: %w", j.name, err)
		}
	}
	free, inodes, err := s.top.free()
	switch {
	case err != nil:
		return fmt.Errorf("spool: %w", err)
	case free < s.opts.MinFree:
		return fmt.Errorf("spool: %d bytes free, %d wanted: %w", free, s.opts.MinFree, syscall.ENOSPC)
	case !inodes && s.opts.MinFree > 0:
		return fmt.Errorf("spool: no inodes free: %w", syscall.ENOSPC)
	}
	return nil
}

// Stats is what the spool holds and did.
type Stats struct {
	Messages map[State]int
	Commits  int64 // transactions made durable since Open
	Syncs    int64 // that these took
	Disk     int64 // bytes of the logs, and of spare files
	Cache    int64 // bytes of content in memory
}

// Stats tells what the spool holds.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Messages = make(map[State]int, len(states))
	for i, state := range states {
		st.Messages[state] = s.index.counts[i]
	}
	for _, j := range []*journal{s.content, s.progress} {
		for _, seg := range j.all {
			st.Disk += max(seg.room, seg.size)
		}
		st.Disk += int64(len(j.spare)) * j.size
	}
	st.Disk += s.large.space()
	st.Cache = s.cache.bytes
	return st
}

// wake tells Run that there is something to do.
func (s *Spool) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func isGone(err error) bool { return errors.Is(err, ErrNotFound) || errors.Is(err, ErrClosed) }
