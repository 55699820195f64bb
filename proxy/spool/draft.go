package spool

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// Draft is a message on its way in: in memory while small, in its own file
// when large. One may write, many may read at a time.
type Draft struct {
	spool *Spool
	id    string

	mu     sync.RWMutex
	buf    *buffer    // what is not in the file
	file   *largeFile // nil while small
	inFile int64      // bytes in the file
	sum    uint32     // of them
	err    error      // of what failed first
	used   bool
}

// Draft begins a message. It must be committed or discarded.
func (s *Spool) Draft(id string) *Draft { return &Draft{spool: s, id: id} }

// Write adds to the message.
func (d *Draft) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.used:
		return 0, fmt.Errorf("spool: draft %s: %w", d.id, ErrClosed)
	case d.err != nil:
		return 0, d.err
	}
	if err := d.write(p); err != nil {
		d.err = fmt.Errorf("spool: draft %s: %w", d.id, err)
		return 0, d.err
	}
	return len(p), nil
}

func (d *Draft) write(p []byte) error {
	limit := int(d.spool.opts.Large)
	if d.pending()+len(p) <= limit {
		d.grow(len(p))
		d.buf.b = append(d.buf.b, p...)
		return nil
	}
	if err := d.flush(); err != nil {
		return err
	}
	if len(p) > limit/2 {
		return d.toFile(p)
	}
	d.grow(len(p))
	d.buf.b = append(d.buf.b, p...)
	return nil
}

// pending is how much is in memory.
func (d *Draft) pending() int {
	if d.buf == nil {
		return 0
	}
	return len(d.buf.b)
}

// grow makes room for n more bytes.
func (d *Draft) grow(n int) {
	have := d.pending()
	if d.buf != nil && have+n <= cap(d.buf.b) {
		return
	}
	larger := d.spool.buffers.get(have + n)
	if d.buf != nil {
		larger.b = append(larger.b, d.buf.b...)
		d.spool.buffers.put(d.buf)
	}
	d.buf = larger
}

// flush moves what is in memory to the file.
func (d *Draft) flush() error {
	if d.pending() == 0 {
		return nil
	}
	if err := d.toFile(d.buf.b); err != nil {
		return err
	}
	d.buf.b = d.buf.b[:0]
	return nil
}

func (d *Draft) toFile(p []byte) error {
	if err := d.create(); err != nil {
		return err
	}
	n, err := d.spool.large.write(d.file, p, d.inFile)
	d.inFile += int64(n)
	d.sum = sum(d.sum, p[:n])
	return err
}

// create takes a file.
func (d *Draft) create() (err error) {
	if d.file == nil {
		d.file, err = d.spool.large.take(d.id)
	}
	return err
}

// seal makes a large draft durable.
func (d *Draft) seal() error {
	if d.file == nil {
		return nil
	}
	if err := d.flush(); err != nil {
		return err
	}
	err := d.spool.large.seal(d.file, d.inFile)
	if err != nil {
		d.err = err // the file is not trusted again
	}
	return err
}

// ReadAt reads what was written. After Commit or Discard it returns ErrClosed.
func (d *Draft) ReadAt(p []byte, off int64) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.used {
		return 0, fmt.Errorf("spool: draft %s: %w", d.id, ErrClosed)
	}
	if off < 0 {
		return 0, fmt.Errorf("spool: draft %s: negative offset", d.id)
	}
	n := 0
	if off < d.inFile {
		part := p[:min(int64(len(p)), d.inFile-off)]
		m, err := d.file.file.ReadAt(part, off)
		if n = m; m < len(part) {
			return n, fmt.Errorf("spool: draft %s: %w", d.id, noEOF(err))
		}
	}
	if at := off + int64(n) - d.inFile; n < len(p) && d.buf != nil && at < int64(len(d.buf.b)) {
		n += copy(p[n:], d.buf.b[at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// noEOF keeps the end of a file that is too short from passing as the end of
// the message.
func noEOF(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Size is how much was written.
func (d *Draft) Size() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.inFile + int64(d.pending())
}

// Discard drops the draft and its file. It does nothing after Commit.
func (d *Draft) Discard() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.used {
		d.drop()
	}
}

// free gives the memory back.
func (d *Draft) free() {
	if d.buf != nil {
		d.spool.buffers.put(d.buf)
		d.buf = nil
	}
}

func (d *Draft) drop() {
	d.used = true
	d.free()
	if d.file == nil {
		return
	}
	if err := d.spool.large.put(d.file, d.err != nil); err != nil {
		d.spool.log.Warn("spool: file of a draft stays until the next start", "file", d.file.name, "error", err)
	}
}
