package spool

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
)

// The progress log is cleaned when it is so many times larger than what counts
// in it, and so much.
const (
	cleanFactor = 4
	cleanSlack  = 4 // segments
)

// clean deletes progress segments in which nothing counts any more, and moves
// on what counts in the oldest ones when the log has grown too long.
func (s *Spool) clean() {
	s.cleaning.Lock()
	defer s.cleaning.Unlock()
	for _, seg := range s.oldProgress() {
		needed, long := s.weigh(seg)
		if needed && !long {
			continue
		}
		if err := s.cleanOne(seg); err != nil {
			s.complain("spool: progress log can't be cleaned", "file", seg.name, "error", err)
			return
		}
	}
}

// oldProgress returns the segments that are no longer written.
func (s *Spool) oldProgress() []*segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hoard {
		return nil
	}
	var old []*segment
	for _, seg := range s.progress.all {
		if !seg.sealed.IsZero() && !seg.keep {
			old = append(old, seg)
		}
	}
	return old
}

// weigh reports whether anything in seg counts, and whether the log is too long.
func (s *Spool) weigh(seg *segment) (needed, long bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all, counts int64
	for _, p := range s.progress.all {
		all += max(p.room, p.size)
		counts += p.bytes
	}
	for _, c := range s.content.all {
		for _, list := range c.gone {
			counts += int64(len(list)) * 3 // a record is about three times its ID
		}
	}
	needed = seg.live > 0 || mentions(s.content.all, seg.num)
	return needed, all > cleanFactor*counts+cleanSlack*s.progress.size
}

func failedSegments(all []*segment) (failed []*segment) {
	for _, seg := range all {
		if seg.failed {
			failed = append(failed, seg)
		}
	}
	return failed
}

func (s *Spool) hasFailed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(failedSegments(s.progress.all)) > 0
}

// rescue moves on what counts in segments that failed: it may not be durable.
// s.cleaning is held.
func (s *Spool) rescue() error {
	s.mu.Lock()
	failed := failedSegments(s.progress.all)
	s.mu.Unlock()
	for _, seg := range failed {
		if err := s.cleanOne(seg); err != nil {
			return err
		}
	}
	return nil
}

// cleanOne writes again what counts in a segment, and deletes it when that is
// durable. s.cleaning is held.
func (s *Spool) cleanOne(seg *segment) error {
	if err := s.copySaved(seg); err != nil {
		return err
	}
	if err := s.copyRemoved(seg); err != nil {
		return err
	}
	s.progress.mu.Lock()
	current := s.progress.current
	s.progress.mu.Unlock()
	if current != nil {
		if err := s.syncSegment(s.progress, current); err != nil {
			return err
		}
	}
	if n := s.disown(seg); n > 0 {
		s.log.Error("spool: progress can't be read back, delivery begins anew", "file", seg.name, "messages", n)
	}
	return s.deleteProgress(seg)
}

// disown gives up progress that could not be read back.
func (s *Spool) disown(seg *segment) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seg.live == 0 {
		return 0
	}
	for _, e := range s.index.entries {
		if e.progress.seg == seg {
			s.index.forgetProgress(e)
			n++
		}
	}
	return n
}

func (s *Spool) deleteProgress(seg *segment) error {
	if err := s.progress.step(journalRetire); err != nil {
		return err
	}
	if err := s.progress.dir.root.Remove(seg.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	s.progress.all = slices.DeleteFunc(s.progress.all, func(o *segment) bool { return o == seg })
	s.mu.Unlock()
	return seg.file.Close()
}

// copySaved writes again the last progress of those messages that have it here.
func (s *Spool) copySaved(seg *segment) error {
	s.mu.Lock()
	live := seg.live
	s.mu.Unlock()
	if live == 0 {
		return nil
	}
	b, _, err := readSegment(seg.file, nil)
	if err != nil {
		return err
	}
	var failed error
	scanSegment(b, func(at int64, f frame, meta, _ []byte) error {
		if f.kind == kindSaved && failed == nil {
			failed = s.copyOne(place{seg: seg, at: uint32(at), size: uint32(f.size())}, f, meta)
		}
		return nil
	})
	return failed
}

// copyOne writes a record again, if it is still the last one of its message.
func (s *Spool) copyOne(from place, f frame, meta []byte) error {
	id, p, err := decodeProgress(f.version, meta)
	if err != nil {
		return err
	}
	s.progress.mu.Lock()
	defer s.progress.mu.Unlock()
	if e := s.lookup(id); e == nil || e.progress != from {
		return nil
	}
	if err := s.step(stepCleanMove); err != nil {
		return err
	}
	to, err := s.appendProgress(kindSaved, encodeProgress(make([]byte, frameSize, frameSize+len(meta)+trailerSize+binary.MaxVarintLen64), id, &p))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.progressed(s.index.entries[id], to, &p)
	return nil
}

func (s *Spool) lookup(id string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.entries[id]
}

// copyRemoved says again what was removed from content that is still there.
func (s *Spool) copyRemoved(seg *segment) error {
	s.mu.Lock()
	content := slices.Clone(s.content.all)
	s.mu.Unlock()
	for _, c := range content {
		if err := s.copyGone(c, seg.num); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spool) copyGone(c *segment, from uint32) error {
	s.mu.Lock()
	list := c.gone[from]
	s.mu.Unlock()
	var failed error
	eachGone(list, func(id []byte) {
		if failed == nil {
			failed = s.copyID(c, id)
		}
	})
	if failed != nil {
		return failed
	}
	s.mu.Lock()
	delete(c.gone, from)
	s.mu.Unlock()
	return nil
}

func (s *Spool) copyID(c *segment, id []byte) error {
	s.progress.mu.Lock()
	defer s.progress.mu.Unlock()
	if err := s.step(stepCleanMove); err != nil {
		return err
	}
	at, err := s.appendProgress(kindRemoved, encodeRemoved(make([]byte, frameSize, 96), string(id)))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.gone[at.seg.num] = append(append(c.gone[at.seg.num], byte(len(id))), id...)
	return nil
}
