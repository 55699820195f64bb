package spool

import (
	"context"
	"fmt"
	"time"
)

// Save records progress. It has reached the kernel when Save returns, so a
// killed process loses nothing; it is durable, against power loss too, within a
// second while Run runs, or after Sync.
func (s *Spool) Save(id string, p Progress) error {
	s.progress.mu.Lock()
	defer s.progress.mu.Unlock()
	n, err := s.recipients(id)
	if err != nil {
		return err
	}
	if err := checkProgress(id, &p, n); err != nil {
		return err
	}
	at, err := s.appendProgress(kindSaved, encodeProgress(make([]byte, frameSize, 256), id, &p))
	if err != nil {
		return fmt.Errorf("spool: save %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.index.entries[id]; e != nil {
		s.index.progressed(e, at, &p)
	}
	return nil
}

// Remove records that nothing is left to do for the message. As with Save, it
// has reached the kernel when Remove returns.
func (s *Spool) Remove(id string) error {
	s.progress.mu.Lock()
	defer s.progress.mu.Unlock()
	if _, err := s.recipients(id); err != nil {
		return err
	}
	at, err := s.appendProgress(kindRemoved, encodeRemoved(make([]byte, frameSize, 96), id))
	if err != nil {
		return fmt.Errorf("spool: remove %s: %w", id, err)
	}
	if f := s.forget(id, at.seg.num); f != nil {
		f.release(&s.buffers)
	}
	return nil
}

// recipients is how many a message has.
func (s *Spool) recipients(id string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, fmt.Errorf("spool: %s: %w", id, ErrClosed)
	}
	e := s.index.entries[id]
	if e == nil {
		return 0, fmt.Errorf("spool: %s: %w", id, ErrNotFound)
	}
	return int(e.recipients), nil
}

// forget drops a message that the progress segment saying says is removed.
func (s *Spool) forget(id string, saying uint32) *fresh {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.index.entries[id]
	rec := e.rec
	large := s.index.remove(e, saying)
	if large != "" {
		s.unlink = append(s.unlink, large)
	}
	if rec.first != nil {
		return nil
	}
	if rec.seg.live == 0 && !rec.seg.sealed.IsZero() {
		s.wake()
	}
	return s.cache.drop(rec)
}

// appendProgress writes one record. buf begins with room for the frame.
// s.progress.mu is held.
func (s *Spool) appendProgress(k kind, buf []byte) (place, error) {
	fr := frame{kind: k, meta: len(buf) - frameSize, metaSum: sum(0, buf[frameSize:])}
	if fr.meta > maxMeta {
		return place{}, fmt.Errorf("record of %d bytes is too large", fr.meta)
	}
	buf = append(buf, make([]byte, trailerSize)...)
	p, err := s.tryProgress(fr, buf)
	if err != nil && s.progress.current == nil && s.progress.failing() != nil {
		// The segment failed: what it held is moved on by upkeep, and one
		// fresh segment is tried at once.
		s.progress.tried = time.Time{}
		p, err = s.tryProgress(fr, buf)
	}
	return p, err
}

func (s *Spool) tryProgress(fr frame, buf []byte) (place, error) {
	seg, err := s.segment(s.progress, fr.size())
	if err != nil {
		return place{}, err
	}
	at := seg.end
	fr.put(buf, seg.salt, at)
	putTrailer(buf[len(buf)-trailerSize:], seg.salt)
	if err := s.writeProgress(seg, buf); err != nil {
		return place{}, err
	}
	return place{seg: seg, at: uint32(at), size: uint32(fr.size())}, nil
}

// writeProgress adds whole records to the segment.
func (s *Spool) writeProgress(seg *segment, b []byte) error {
	err := s.progress.step(journalWrite)
	if err == nil {
		err = seg.write([][]byte{b}, seg.end)
	}
	if err != nil {
		s.progress.abandon(seg.end, err)
		s.spoil(seg)
		return err
	}
	seg.end += int64(len(b))
	s.mu.Lock()
	seg.size = seg.end
	s.unsynced = true
	s.mu.Unlock()
	s.wake()
	return nil
}

// Sync returns when all that was saved or removed before is durable.
func (s *Spool) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("spool: sync: %w", context.Cause(ctx))
	}
	if err := s.progressSync.wait(s.progressSync.ticket()); err != nil {
		return fmt.Errorf("spool: sync: %w", err)
	}
	return nil
}

// syncProgress makes the current progress segment durable; those before it were
// synced when the log went on. Then nothing needs the files of removed
// messages.
func (s *Spool) syncProgress() error {
	s.cleaning.Lock() // the segment must not be deleted under us
	defer s.cleaning.Unlock()
	for s.hasFailed() { // once, or again when one fails meanwhile
		if err := s.rescue(); err != nil {
			return err
		}
	}
	seg, unlink := s.beginSync()
	if seg != nil {
		if err := s.syncSegment(s.progress, seg); err != nil {
			s.mu.Lock()
			s.unlink, s.unsynced = append(unlink, s.unlink...), true
			s.mu.Unlock()
			return err
		}
	}
	for _, name := range unlink {
		if err := s.large.done(name); err != nil {
			s.log.Warn("spool: file of a removed message stays until the next start", "file", name, "error", err)
		}
	}
	return nil
}

// beginSync returns the segment to sync, and the files to go afterwards: those
// of removals that it or an older one holds.
func (s *Spool) beginSync() (*segment, []string) {
	s.progress.mu.Lock()
	defer s.progress.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	var unlink []string
	if len(failedSegments(s.progress.all)) == 0 {
		unlink, s.unlink = s.unlink, nil
	}
	s.unsynced = false
	return s.progress.current, unlink
}

// syncSegment makes a segment durable. One that can't be is not trusted again.
func (s *Spool) syncSegment(j *journal, seg *segment) error {
	err := j.step(journalSync)
	if err == nil {
		err = seg.sync()
	}
	if err == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.current == seg {
		j.current = nil
		j.fails(err)
		s.spoil(seg)
	}
	return err
}
