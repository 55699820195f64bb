package spool

import (
	"context"
	"errors"
	"fmt"
)

// Commit makes one message, or the parts of one that was split, durable
// together. nil means durable. On an error the client is told 451: the message
// may come again, it is never lost. The draft is used up in either case; the
// entries must not be changed afterwards, and have the same Body.
func (s *Spool) Commit(ctx context.Context, d *Draft, entries ...Entry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.spool != s:
		return errors.New("spool: draft of another spool")
	case d.used:
		return fmt.Errorf("spool: draft %s: %w", d.id, ErrClosed)
	}
	err := d.err
	if err == nil {
		err = s.commit(ctx, d, entries)
	}
	if err != nil {
		d.err = err // a record on disk may refer to the file: not to be used again
		d.drop()
		return err
	}
	d.used = true
	if s.opts.Committed != nil {
		s.opts.Committed(entries)
	}
	if d.file == nil {
		d.buf = nil // it went to the cache
		return nil
	}
	_ = d.file.file.Close() // synced: close can't fail us
	d.free()
	return nil
}

func (s *Spool) commit(ctx context.Context, d *Draft, entries []Entry) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("spool: commit: %w", context.Cause(ctx))
	}
	if err := checkEntries(entries, d.inFile+int64(d.pending())); err != nil {
		return err
	}
	if err := s.reserve(entries); err != nil {
		return err
	}
	defer s.unreserve(entries)
	if err := d.seal(); err != nil {
		return fmt.Errorf("spool: %s: %w", d.id, err)
	}
	r, f := d.request(entries)
	if err := r.check(); err != nil {
		return err
	}
	parts := f.parts()
	var out []*fresh
	r.stored = func(rec *record) {
		s.index.put(rec, parts, f.large.name)
		out = s.cache.add(rec, f)
	}
	err := s.submit(ctx, r)
	for _, f := range out {
		f.release(&s.buffers)
	}
	return err
}

// request makes the record of a draft.
func (d *Draft) request(entries []Entry) (*request, *fresh) {
	from := entries[0].Body
	c := content{entries: make([]Entry, len(entries)), body: d.inFile + int64(d.pending()) - from}
	headers := make([][]byte, len(entries))
	data := make([][]byte, 0, len(entries)+1)
	for i, e := range entries {
		headers[i], e.Header = e.Header, nil
		c.entries[i] = e
		c.headers = append(c.headers, len(headers[i]))
		data = append(data, headers[i])
	}
	var f *fresh
	if d.file != nil {
		c.large = largeRef{name: d.file.name, size: d.inFile, from: from, sum: d.sum}
		f = newFresh(c, headers, nil, nil)
	} else {
		d.grow(0)
		body := d.buf.b[from:]
		data = append(data, body)
		f = newFresh(c, headers, d.buf, body)
	}
	buf := c.encode(make([]byte, frameSize, frameSize+512))
	return newRequest(buf, data, nil), f
}

// reserve keeps an ID from being used twice.
func (s *Spool) reserve(entries []Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("spool: commit: %w", ErrClosed)
	}
	for _, e := range entries {
		if s.index.entries[e.ID] != nil || s.reserved[e.ID] {
			return fmt.Errorf("spool: %s: %w", e.ID, ErrExists)
		}
	}
	for _, e := range entries {
		s.reserved[e.ID] = true
	}
	return nil
}

func (s *Spool) unreserve(entries []Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		delete(s.reserved, e.ID)
	}
}
