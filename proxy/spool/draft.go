package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Draft is a message on its way in: in memory while small, in its own file
// when large. One may write, many may read at a time.
type Draft struct {
	spool *Spool
	id    string

	mu     sync.RWMutex
	buf    *buffer  // what is not in the file
	file   *os.File // nil while small
	ticket uint64   // of the sync that covers the file's name
	inFile int64    // bytes in the file
	sum    uint32   // of them
	err    error    // of the first write that failed
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
	if err := d.spool.step(stepDraftWrite); err != nil {
		return err
	}
	n, err := d.file.Write(p)
	d.inFile += int64(n)
	d.sum = sum(d.sum, p[:n])
	return err
}

// create makes the file, under its final name: without a record that refers to
// it, it is nothing.
func (d *Draft) create() error {
	if d.file != nil {
		return nil
	}
	if !validID(d.id) {
		return errors.New("bad id")
	}
	if err := d.spool.step(stepDraftCreate); err != nil {
		return err
	}
	f, err := d.spool.largeDir.create(d.id)
	if err != nil {
		return err
	}
	d.file = f
	d.ticket = d.spool.largeSync.ticket()
	return nil
}

// seal makes a large draft durable: its bytes, then its name. Others that do
// the same share the sync of the directory.
func (d *Draft) seal() error {
	if d.file == nil {
		return nil
	}
	if err := d.flush(); err != nil {
		return err
	}
	if err := d.spool.step(stepLargeSync); err != nil {
		return err
	}
	if err := ignoreEINTR(func() error { return unix.Fdatasync(int(d.file.Fd())) }); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return d.spool.largeSync.wait(d.ticket)
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
		m, err := d.file.ReadAt(part, off)
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
	_ = d.file.Close()
	if err := d.spool.unlinkLarge(d.id); err != nil {
		d.spool.log.Warn("spool: file of a discarded draft stays until the next start", "file", d.id, "error", err)
	}
}
