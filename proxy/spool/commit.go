package spool

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// request is one record on its way to the content log.
type request struct {
	frame   frame
	buf     []byte   // frame and meta
	data    [][]byte // headers and body
	trailer [trailerSize]byte

	// stored is called with Spool.mu held when the record is durable.
	stored func(rec *record)
	err    error
	turn   chan bool // true: lead the next batch; false: err holds the outcome
	leads  bool      // guarded by committer.mu
	seg    *segment
	at     int64
}

func newRequest(buf []byte, data [][]byte, stored func(*record)) *request {
	r := &request{buf: buf, data: data, stored: stored, turn: make(chan bool, 1)}
	r.frame = frame{kind: kindContent, meta: len(buf) - frameSize, metaSum: sum(0, buf[frameSize:])}
	for _, b := range data {
		r.frame.data += len(b)
		r.frame.dataSum = sum(r.frame.dataSum, b)
	}
	return r
}

func (r *request) check() error {
	if r.frame.meta > maxMeta || r.frame.data > maxData {
		return fmt.Errorf("spool: record of %d and %d bytes is too large", r.frame.meta, r.frame.data)
	}
	return nil
}

// committer is the line of those who wait for a batch. Who comes first leads:
// he writes for all that wait, while the next line forms. There is no timer, so
// a lone commit waits for nobody.
type committer struct {
	mu      sync.Mutex
	waiting []*request
	leading bool
	last    int // size of the last batch
}

// submit returns when the record is durable or failed. When ctx ends before the
// record's batch is taken, it is withdrawn.
func (s *Spool) submit(ctx context.Context, r *request) error {
	c := &s.committer
	c.mu.Lock()
	c.waiting = append(c.waiting, r)
	lead := !c.leading
	c.leading, r.leads = true, lead
	c.mu.Unlock()
	if !lead {
		select {
		case lead = <-r.turn:
		case <-ctx.Done():
			if c.withdraw(r) {
				return fmt.Errorf("spool: commit: %w", context.Cause(ctx))
			}
			lead = <-r.turn
		}
	}
	if lead {
		s.lead()
	}
	return r.err
}

// withdraw takes r out of the line, unless it is in a batch or leads one.
func (c *committer) withdraw(r *request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, w := range c.waiting {
		if w == r && !r.leads {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// first returns the request that leads.
func (c *committer) first() *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting[0]
}

// maxBatch bounds what one sync waits for.
const maxBatch = 8 << 20

// take removes the batch from the line: the first request and all behind it
// that fit in room.
func (c *committer) take(room int64) []*request {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, size := 0, int64(0)
	for _, r := range c.waiting {
		size += r.frame.size()
		if n > 0 && size > min(room, maxBatch) {
			break
		}
		n++
	}
	batch := append([]*request(nil), c.waiting[:n]...)
	rest := copy(c.waiting, c.waiting[n:])
	clear(c.waiting[rest:])
	c.waiting = c.waiting[:rest]
	c.last = n
	return batch
}

// handOver lets the next one in the line lead.
func (c *committer) handOver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		c.leading = false
		return
	}
	c.waiting[0].leads = true
	c.waiting[0].turn <- true
}

// lead commits one batch. The caller's request is the first in the line.
func (s *Spool) lead() {
	c := &s.committer
	if c.expectMore() {
		runtime.Gosched() // those whom the last batch woke are about to come
	}
	s.content.mu.Lock()
	seg, err := s.segment(s.content, c.first().frame.size())
	room := int64(maxBatch)
	if err == nil {
		room = seg.room - seg.end
	}
	batch := c.take(room)
	if err == nil {
		err = s.writeBatch(seg, batch)
	}
	s.content.mu.Unlock()
	c.handOver()
	if err != nil {
		err = fmt.Errorf("spool: commit: %w", err)
	}
	for i, r := range batch {
		r.err = err
		if i > 0 { // the first one is the leader's own
			r.turn <- false
		}
	}
}

func (c *committer) expectMore() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) < c.last/2
}

// writeBatch makes a batch durable. s.content.mu is held.
func (s *Spool) writeBatch(seg *segment, batch []*request) error {
	start := seg.end
	iovs, end := s.layOut(seg, batch)
	err := s.writeIovs(seg, iovs, start)
	if err == nil {
		err = s.content.step(journalSync)
	}
	if err == nil {
		err = seg.sync()
	}
	if err != nil {
		s.content.abandon(start, err)
		s.spoil(seg)
		return err
	}
	seg.end = end
	s.stored(seg, batch)
	_ = s.step(stepContentWake) // it is durable: no error can change that
	return nil
}

// layOut gives each record its place. The batch is filled up with zeros, so
// that the next one begins in a block of its own.
func (s *Spool) layOut(seg *segment, batch []*request) ([][]byte, int64) {
	at := seg.end
	iovs := make([][]byte, 0, 4*len(batch)+1)
	for _, r := range batch {
		r.seg, r.at = seg, at
		r.frame.put(r.buf, seg.salt, at)
		putTrailer(r.trailer[:], seg.salt)
		iovs = append(iovs, r.buf)
		iovs = append(iovs, r.data...)
		iovs = append(iovs, r.trailer[:])
		at += r.frame.size()
	}
	end := min(roundUp(at), seg.room)
	if end > at {
		iovs = append(iovs, s.zeros[:end-at])
	}
	return iovs, end
}

func (s *Spool) writeIovs(seg *segment, iovs [][]byte, at int64) error {
	if err := s.content.step(journalWrite); err != nil {
		return err
	}
	if s.opts.Failpoint != nil {
		if err := s.writeHalf(seg, iovs, at); err != nil {
			return err
		}
	}
	return seg.write(iovs, at)
}

// writeHalf writes half of a batch, for a test that stops there.
func (s *Spool) writeHalf(seg *segment, iovs [][]byte, at int64) error {
	var all []byte
	for _, b := range iovs {
		all = append(all, b...)
	}
	if err := seg.write([][]byte{all[:len(all)/2]}, at); err != nil {
		return err
	}
	return s.step(stepContentTorn)
}

// stored makes the messages of a durable batch known.
func (s *Spool) stored(seg *segment, batch []*request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.size = seg.end
	for _, r := range batch {
		rec := &record{seg: seg, at: uint32(r.at), size: uint32(r.frame.size()), meta: uint32(frameSize + r.frame.meta)}
		r.stored(rec)
		s.stats.Commits++
	}
	s.stats.Syncs++
}

// spoil marks a segment that failed.
func (s *Spool) spoil(seg *segment) {
	s.mu.Lock()
	seg.sealed, seg.failed, seg.unfit = time.Now(), true, true
	s.mu.Unlock()
	s.wake()
}
