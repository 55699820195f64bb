package spool

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"
)

// recover builds the index from what is on disk.
func (s *Spool) recover() error {
	start := time.Now()
	if err := s.recoverContent(); err != nil {
		return err
	}
	if err := s.recoverProgress(); err != nil {
		return err
	}
	if err := s.recoverLarge(); err != nil {
		return err
	}
	for _, j := range []*journal{s.content, s.progress} {
		for _, seg := range j.all {
			seg.sealed = start
		}
	}
	s.log.Info("spool: open", "dir", s.opts.Dir, "messages", len(s.index.entries), "segments", len(s.content.all),
		"took", time.Since(start).Round(time.Millisecond))
	return nil
}

// openSegments opens all segments of a log, oldest first. What is not ours is
// left alone with a warning.
func (s *Spool) openSegments(j *journal) error {
	files, err := j.dir.list()
	if err != nil {
		return err
	}
	for _, file := range files {
		name := file.Name()
		if num, ok := segmentNumber(name, spareSuffix); ok && file.Type().IsRegular() && j.spares > 0 {
			j.next = max(j.next, num+1)
			j.spare = append(j.spare, name)
			continue
		}
		num, ok := segmentNumber(name, segmentSuffix)
		if !ok {
			s.log.Warn("spool: foreign file ignored", "log", j.name, "file", name)
			continue
		}
		j.next = max(j.next, num+1)
		f, err := openSegment(j.dir, name)
		if err != nil {
			s.log.Error("spool: segment can't be read", "log", j.name, "file", name, "error", err)
			s.hoard = true
			continue
		}
		j.all = append(j.all, newSegment(num, name, f))
	}
	slices.SortFunc(j.all, func(a, b *segment) int { return cmp.Compare(a.num, b.num) })
	return nil
}

func openSegment(d *dir, name string) (*os.File, error) {
	f, err := d.open(name, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > maxSegment+maxMeta+maxData+block {
		err = fmt.Errorf("%w: %d bytes", errForeign, info.Size())
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// located is a content record that was found.
type located struct {
	at    int64
	frame frame
	parts []part
	large string
}

// recoverContent reads the content segments, several at a time, and puts them
// into the index in their order.
func (s *Spool) recoverContent() error {
	j := s.content
	if err := s.openSegments(j); err != nil {
		return err
	}
	found := make([][]located, len(j.all))
	errs := make([]error, len(j.all))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), 4, max(len(j.all), 1)) {
		wg.Go(func() {
			var buf []byte
			for i := range next {
				buf, errs[i] = s.scanContent(j.all[i], buf, &found[i])
			}
		})
	}
	for i := range j.all {
		next <- i
	}
	close(next)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i, seg := range j.all {
		for _, l := range found[i] {
			rec := &record{seg: seg, at: uint32(l.at), size: uint32(l.frame.size()), meta: uint32(frameSize + l.frame.meta)}
			s.index.put(rec, l.parts, l.large)
		}
		found[i] = nil
	}
	return nil
}

var errKind = errors.New("not a record of this log")

func (s *Spool) scanContent(seg *segment, buf []byte, found *[]located) ([]byte, error) {
	return s.scan(s.content, seg, buf, func(at int64, f frame, meta, data []byte) error {
		if f.kind != kindContent {
			return errKind
		}
		c, err := decodeContent(f.version, meta)
		if err != nil {
			return err
		}
		if c.dataSize() != int64(len(data)) {
			return fmt.Errorf("content record: %w", errValue)
		}
		*found = append(*found, located{at: at, frame: f, parts: c.parts(), large: c.large.name})
		return nil
	})
}

// scan reads one segment and takes care of what is damaged in it.
func (s *Spool) scan(j *journal, seg *segment, buf []byte, visit func(at int64, f frame, meta, data []byte) error) ([]byte, error) {
	buf, bad, err := readSegment(seg.file, buf)
	if err != nil {
		return buf, fmt.Errorf("read %s: %w", seg.name, err)
	}
	if bad > 0 {
		s.log.Error("spool: disk can't read all of a segment", "log", j.name, "file", seg.name, "blocks", bad)
		seg.unfit = true
	}
	seg.unfit = seg.unfit || int64(len(buf)) != j.size || shared(seg.file)
	sc, ok := scanSegment(buf, visit)
	if !ok {
		s.unmarked(j, seg, buf, bad)
		return buf, nil
	}
	seg.salt, seg.end, seg.room, seg.size = sc.salt, sc.end, int64(len(buf)), sc.end
	for _, d := range sc.damaged {
		s.mend(j, seg, buf, d)
	}
	return buf, nil
}

// unmarked looks at a segment without a mark: its creation did not end, or
// nothing in it can be trusted.
func (s *Spool) unmarked(j *journal, seg *segment, b []byte, bad int) {
	seg.unfit = true
	if bad > 0 {
		seg.keep = true // another disk, or another day, may give more
		return
	}
	if !zero(b) {
		s.mend(j, seg, b, damage{end: int64(len(b)), why: "no segment of ours"})
	}
}

// mend cuts a torn write and sets other damage aside.
func (s *Spool) mend(j *journal, seg *segment, b []byte, d damage) {
	seg.unfit = true
	if !d.torn {
		name := fmt.Sprintf("%s-%08d-%d", j.name, seg.num, d.at)
		if !s.setAside(name, b[d.at:d.end], d.why) {
			seg.keep = true
		}
		return
	}
	s.log.Warn("spool: unfinished write cut off", "log", j.name, "file", seg.name, "at", d.at, "bytes", d.end-d.at)
	if shared(seg.file) {
		return
	}
	if err := seg.file.Truncate(d.at); err != nil {
		s.log.Warn("spool: cut", "log", j.name, "file", seg.name, "error", err)
	}
}

// recoverProgress replays what became of the messages.
func (s *Spool) recoverProgress() error {
	j := s.progress
	if err := s.openSegments(j); err != nil {
		return err
	}
	gone := map[string]uint32{}
	var buf []byte
	for _, seg := range j.all {
		var err error
		buf, err = s.scan(j, seg, buf, func(at int64, f frame, meta, _ []byte) error {
			return s.replay(place{seg: seg, at: uint32(at), size: uint32(f.size())}, f, meta, gone)
		})
		if err != nil {
			return err
		}
	}
	for id, saying := range gone {
		if e := s.index.entries[id]; e != nil {
			s.index.remove(e, saying)
		}
	}
	return nil
}

func (s *Spool) replay(p place, f frame, meta []byte, gone map[string]uint32) error {
	switch f.kind {
	case kindRemoved:
		id, err := decodeRemoved(meta)
		if err == nil && s.index.entries[id] != nil {
			gone[id] = p.seg.num
		}
		return err
	case kindSaved:
		id, progress, err := decodeProgress(f.version, meta)
		if err != nil {
			return err
		}
		e := s.index.entries[id]
		if e == nil {
			return nil
		}
		if err := checkProgress(id, &progress, int(e.recipients)); err != nil {
			return err
		}
		s.index.progressed(e, p, &progress)
		return nil
	}
	return errKind
}
