package spool

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"
)

const (
	upkeepEvery = time.Second
	// upkeepDelay gathers progress for one sync. It bounds what power loss can
	// make us deliver twice.
	upkeepDelay = 100 * time.Millisecond
	// settleTime is how long a segment is left alone before what is live in it
	// is moved: most of that is delivered in the meantime.
	settleTime = 30 * time.Second
)

// Run looks after the spool until ctx ends, then makes all of it durable: it
// syncs progress, removes or moves what is done with, and tries again what
// failed. Commit, Save and Remove work without it.
func (s *Spool) Run(ctx context.Context) error {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	s.begin()
	for {
		s.upkeep(ctx)
		select {
		case <-ctx.Done():
			return s.Sync(context.WithoutCancel(ctx))
		case <-tick.C:
		case <-s.kick:
			select {
			case <-ctx.Done():
			case <-time.After(upkeepDelay):
			}
		}
	}
}

// begin makes the first segments, so that a spool that can't be written says so
// before mail comes.
func (s *Spool) begin() {
	for _, j := range []*journal{s.content, s.progress} {
		j.mu.Lock()
		_, _ = s.segment(j, block) // retry tells
		j.mu.Unlock()
	}
}

// complain logs what goes on failing, but not each time.
func (s *Spool) complain(msg string, args ...any) {
	if last, ok := s.complained[msg]; ok && time.Since(last) < time.Minute {
		return
	}
	s.complained[msg] = time.Now()
	s.log.Error(msg, args...)
}

func (s *Spool) upkeep(ctx context.Context) {
	for _, j := range []*journal{s.content, s.progress} {
		s.retry(j)
	}
	s.mu.Lock()
	unsynced := s.unsynced || len(s.unlink) > 0
	s.mu.Unlock()
	if unsynced {
		if err := s.Sync(ctx); err != nil && ctx.Err() == nil {
			s.complain("spool: progress not durable", "error", err)
		}
	}
	s.compact(ctx)
	s.retire()
	s.clean()
}

// retry makes a fresh segment where the log could not go on.
func (s *Spool) retry(j *journal) {
	if j.failing() == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch err := j.failing(); {
	case err == nil:
		return
	case !j.reported:
		s.log.Error("spool: can't write", "log", j.name, "error", err)
		j.reported = true
	case time.Since(j.tried) < j.rest:
		return
	}
	s.dropSpares()
	_, _ = s.roll(j, block) // says so itself when it works again
}

// dropSpares gives their space back to whoever needs it now.
func (s *Spool) dropSpares() {
	s.mu.Lock()
	spare := s.content.spare
	s.content.spare = nil
	s.mu.Unlock()
	if err := s.large.clear(); err != nil {
		s.log.Warn("spool: spare file stays", "error", err)
	}
	for _, name := range spare {
		if err := s.content.dir.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("spool: spare segment stays", "file", name, "error", err)
		}
	}
}

// retire ends content segments that hold no message any more.
func (s *Spool) retire() {
	s.mu.Lock()
	var done []*segment
	for _, seg := range s.content.all {
		if seg.live == 0 && !seg.sealed.IsZero() && !seg.keep {
			done = append(done, seg)
		}
	}
	s.mu.Unlock()
	for _, seg := range done {
		if err := s.retireOne(seg); err != nil {
			s.complain("spool: segment stays", "log", s.content.name, "file", seg.name, "error", err)
			return
		}
	}
}

// retireOne makes a spare of a segment, or deletes it. The index forgets it
// when that is durable: until then the progress log must know what was removed.
func (s *Spool) retireOne(seg *segment) error {
	j := s.content
	if err := j.step(journalRetire); err != nil {
		return err
	}
	s.mu.Lock()
	reuse := !seg.unfit && len(j.spare) < j.spares && seg.room == j.size
	s.mu.Unlock()
	spare := ""
	if reuse && j.failing() == nil && !shared(seg.file) {
		spare = seg.name[:len(seg.name)-len(segmentSuffix)] + spareSuffix
		if err := j.dir.root.Rename(seg.name, spare); err != nil {
			return err
		}
	} else if err := j.dir.root.Remove(seg.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := j.syncDir(); err != nil {
		return err
	}
	s.mu.Lock()
	j.all = slices.DeleteFunc(j.all, func(o *segment) bool { return o == seg })
	s.index.retired(seg)
	if spare != "" {
		j.spare = append(j.spare, spare)
	}
	s.mu.Unlock()
	return seg.file.Close()
}
