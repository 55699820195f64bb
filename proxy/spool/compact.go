package spool

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"
)

// A segment with less than a sparse part of live bytes is compacted.
const sparse = 8

// compact moves on the few messages that old segments hold, so that the disk
// that is used stays in proportion to what is queued.
func (s *Spool) compact(ctx context.Context) {
	s.mu.Lock()
	var old []*segment
	for _, seg := range s.content.all {
		if seg.live > 0 && !seg.stuck && !seg.sealed.IsZero() && time.Since(seg.sealed) >= s.settle &&
			seg.bytes*sparse < max(seg.room, seg.size) {
			old = append(old, seg)
		}
	}
	s.mu.Unlock()
	for _, seg := range old {
		if s.Ready() != nil || ctx.Err() != nil {
			return
		}
		if err := s.compactOne(ctx, seg); err != nil && s.content.failing() == nil && ctx.Err() == nil {
			s.mu.Lock()
			seg.stuck = true
			s.mu.Unlock()
			s.log.Error("spool: segment can't be compacted", "file", seg.name, "error", err)
		}
	}
}

func (s *Spool) compactOne(ctx context.Context, seg *segment) error {
	s.mu.Lock()
	records := slices.SortedFunc(maps.Keys(seg.records), func(a, b *record) int { return cmp.Compare(a.at, b.at) })
	s.mu.Unlock()
	for _, rec := range records {
		if err := s.move(ctx, rec); err != nil {
			return err
		}
	}
	s.log.Debug("spool: segment compacted", "file", seg.name, "records", len(records))
	return nil
}

// move writes a record again, without the messages that are removed. Nothing
// is removed meanwhile: the copy would come back at the next start.
func (s *Spool) move(ctx context.Context, rec *record) error {
	s.progress.mu.Lock()
	defer s.progress.mu.Unlock()
	if err := s.step(stepCompactRead); err != nil {
		return err
	}
	fr, meta, data, err := s.readRecord(rec.seg, int64(rec.at), int64(rec.size))
	if err != nil {
		return err
	}
	old, err := decodeContent(fr.version, meta)
	if err != nil {
		return err
	}
	c, pieces := s.living(rec, old, data)
	if len(c.entries) == 0 {
		return nil
	}
	if err := s.step(stepCompactMove); err != nil {
		return err
	}
	parts := c.parts()
	r := newRequest(c.encode(make([]byte, frameSize, frameSize+len(meta))), pieces, func(to *record) {
		if f := s.cache.drop(rec); f != nil {
			f.release(&s.buffers)
		}
		s.index.put(to, parts, c.large.name)
	})
	return s.submit(ctx, r)
}

// living returns what of a record's content is not removed, and its data.
func (s *Spool) living(rec *record, old *content, data []byte) (*content, [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &content{body: old.body, large: old.large}
	var pieces [][]byte
	for i, e := range old.entries {
		if known := s.index.entries[e.ID]; known == nil || known.rec != rec {
			continue
		}
		header, _ := old.cut(i, data)
		c.entries = append(c.entries, e)
		c.headers = append(c.headers, old.headers[i])
		pieces = append(pieces, header)
	}
	_, body := old.cut(0, data)
	return c, append(pieces, body)
}
