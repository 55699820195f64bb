package spool

import (
	"fmt"
	"iter"
	"slices"
)

// found is where a message is: in memory, or on disk.
type found struct {
	fresh    *fresh
	rec      *record
	progress place
	state    State
	large    string // its file
}

// look finds a message. What it consists of is held for the caller, who lets it
// go.
func (s *Spool) look(id string) (found, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return found{}, fmt.Errorf("spool: %s: %w", id, ErrClosed)
	}
	e := s.index.entries[id]
	if e == nil {
		return found{}, fmt.Errorf("spool: %s: %w", id, ErrNotFound)
	}
	f := found{fresh: e.rec.fresh, rec: e.rec, progress: e.progress, state: states[e.state], large: s.index.large[e.rec]}
	if f.fresh != nil {
		f.fresh.users.Add(1)
	}
	if f.large != "" {
		s.large.hold(f.large)
	}
	return f, nil
}

// letGo ends what look began.
func (s *Spool) letGo(f found) {
	if f.fresh != nil {
		f.fresh.release(&s.buffers)
	}
	if f.large != "" {
		s.large.release(f.large)
	}
}

// reading calls read with the place of a message. A record may move, or its
// segment end, while it is read: then read fails and is called again with the
// new place.
func (s *Spool) reading(id string, read func(found) error) error {
	for {
		f, err := s.look(id)
		if err != nil {
			return err
		}
		err = read(f)
		s.letGo(f)
		if err == nil {
			return nil
		}
		now, lookErr := s.look(id)
		if lookErr != nil {
			return lookErr
		}
		s.letGo(now)
		if now.rec == f.rec && now.progress == f.progress {
			return fmt.Errorf("spool: %s: %w", id, err)
		}
	}
}

// Get returns a message without its content.
func (s *Spool) Get(id string) (*Message, error) {
	var m *Message
	err := s.reading(id, func(f found) (err error) {
		m, err = s.message(id, f)
		return err
	})
	return m, err
}

func (s *Spool) message(id string, f found) (*Message, error) {
	c, err := s.meta(f)
	if err != nil {
		return nil, err
	}
	i := c.find(id)
	if i < 0 {
		return nil, fmt.Errorf("%w: not in its record", ErrDamaged)
	}
	m := &Message{Entry: c.entries[i], Size: c.size(i)}
	m.Envelope = m.Envelope.Clone()
	if f.progress.seg != nil {
		m.Progress, err = s.readProgress(id, f.progress)
		return m, err
	}
	m.Progress = Progress{State: f.state, Reason: m.Entry.Reason}
	m.Progress.Recipients = make([]Recipient, len(m.Envelope.Recipients))
	return m, nil
}

// meta returns what the record says of its messages.
func (s *Spool) meta(f found) (*content, error) {
	if f.fresh != nil {
		return &f.fresh.content, nil
	}
	b := make([]byte, f.rec.meta)
	fr, err := s.readFrame(f.rec.seg, b, int64(f.rec.at))
	if err != nil {
		return nil, err
	}
	meta := b[frameSize:]
	if fr.meta != len(meta) || sum(0, meta) != fr.metaSum {
		return nil, ErrDamaged
	}
	return decodeContent(fr.version, meta)
}

// readFrame fills b from a segment and reads the frame at its beginning.
func (s *Spool) readFrame(seg *segment, b []byte, at int64) (frame, error) {
	if err := s.step(stepRead); err != nil {
		return frame{}, err
	}
	if _, err := seg.file.ReadAt(b, at); err != nil {
		return frame{}, fmt.Errorf("read %s at %d: %w", seg.name, at, noEOF(err))
	}
	fr, ok := readFrame(b, seg.salt, at)
	if !ok {
		return frame{}, fmt.Errorf("read %s at %d: %w", seg.name, at, ErrDamaged)
	}
	return fr, nil
}

// readRecord reads a whole record. Nobody needs its trailer, which may be cut.
func (s *Spool) readRecord(seg *segment, at, size int64) (fr frame, meta, data []byte, err error) {
	b := make([]byte, size-trailerSize)
	if fr, err = s.readFrame(seg, b, at); err != nil {
		return fr, nil, nil, err
	}
	meta, data, ok := fr.split(b)
	if !ok || fr.size() != size {
		return fr, nil, nil, fmt.Errorf("read %s at %d: %w", seg.name, at, ErrDamaged)
	}
	return fr, meta, data, nil
}

func (s *Spool) readProgress(id string, p place) (Progress, error) {
	fr, meta, _, err := s.readRecord(p.seg, int64(p.at), int64(p.size))
	if err != nil {
		return Progress{}, err
	}
	got, progress, err := decodeProgress(fr.version, meta)
	if err != nil {
		return Progress{}, err
	}
	if got != id {
		return Progress{}, fmt.Errorf("%w: progress of %s", ErrDamaged, got)
	}
	return progress, nil
}

// All iterates over the messages, oldest first. One that can't be read is
// logged and left out.
func (s *Spool) All() iter.Seq[*Message] {
	return func(yield func(*Message) bool) {
		s.mu.Lock()
		ids := s.index.sorted()
		s.mu.Unlock()
		for _, id := range ids {
			m, err := s.Get(id)
			switch {
			case err == nil:
				if !yield(m) {
					return
				}
			case !isGone(err):
				s.log.Error("spool: message can't be read", "id", id, "error", err)
			}
		}
	}
}

// Open returns the content: header, empty line, body. While a message is still
// in memory it comes from there.
func (s *Spool) Open(id string) (*Content, error) {
	var c *Content
	err := s.reading(id, func(f found) (err error) {
		c, err = s.open(id, f)
		return err
	})
	return c, err
}

func (s *Spool) open(id string, f found) (*Content, error) {
	if f.fresh != nil {
		i := f.fresh.find(id)
		c := &Content{spool: s, header: f.fresh.header[i], body: f.fresh.body, size: f.fresh.size(i), fresh: f.fresh}
		if err := c.openLarge(f.fresh.large, false); err != nil {
			return nil, err
		}
		f.fresh.users.Add(1)
		return c, nil
	}
	fr, meta, data, err := s.readRecord(f.rec.seg, int64(f.rec.at), int64(f.rec.size))
	if err != nil {
		return nil, err
	}
	m, err := decodeContent(fr.version, meta)
	if err != nil {
		return nil, err
	}
	i := m.find(id)
	if i < 0 || m.dataSize() != int64(len(data)) {
		return nil, fmt.Errorf("%w: not in its record", ErrDamaged)
	}
	c := &Content{spool: s, size: m.size(i)}
	c.header, c.body = m.cut(i, data)
	if err := c.openLarge(m.large, true); err != nil {
		return nil, err
	}
	return c, nil
}

// cut returns the header of entry i and the body, from the data of its record.
func (c *content) cut(i int, data []byte) (header, body []byte) {
	at := 0
	for k, n := range c.headers {
		if k == i {
			header = data[at : at+n : at+n]
		}
		at += n
	}
	return header, slices.Clip(data[at:])
}
