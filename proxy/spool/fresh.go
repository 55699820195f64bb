package spool

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// fresh is a record that is still in memory. The body of a large one is not.
type fresh struct {
	content
	header [][]byte // of each entry
	body   []byte
	buf    *buffer // where body lies
	cost   int64
	users  atomic.Int32 // the spool and each open Content
}

func (f *fresh) release(pool *buffers) {
	if f.users.Add(-1) == 0 && f.buf != nil {
		pool.put(f.buf)
	}
}

// overhead is what a fresh record costs besides its bytes, about.
const overhead = 1024

func newFresh(c content, header [][]byte, buf *buffer, body []byte) *fresh {
	f := &fresh{content: c, header: header, body: body, buf: buf, cost: overhead}
	if buf != nil {
		f.cost += int64(cap(buf.b))
	}
	for _, h := range header {
		f.cost += int64(cap(h))
	}
	f.users.Store(1)
	return f
}

// cache is the fresh records, first in first out. Guarded by Spool.mu.
type cache struct {
	limit int64
	bytes int64
	queue []*record // some are no longer fresh
	head  int
}

// add keeps f with rec, and returns what had to leave for it.
func (c *cache) add(rec *record, f *fresh) (out []*fresh) {
	if f.cost > c.limit {
		return []*fresh{f}
	}
	rec.fresh = f
	c.bytes += f.cost
	c.queue = append(c.queue, rec)
	for c.bytes > c.limit {
		old := c.queue[c.head]
		c.queue[c.head] = nil
		c.head++
		if f := c.drop(old); f != nil {
			out = append(out, f)
		}
	}
	c.shrink()
	return out
}

// shrink forgets the front of the queue where nothing is fresh any more.
func (c *cache) shrink() {
	for c.head < len(c.queue) && c.queue[c.head].fresh == nil {
		c.queue[c.head] = nil
		c.head++
	}
	if c.head > len(c.queue)/2 {
		n := copy(c.queue, c.queue[c.head:])
		clear(c.queue[n:])
		c.queue, c.head = c.queue[:n], 0
	}
}

// drop makes rec one that is read from disk.
func (c *cache) drop(rec *record) *fresh {
	f := rec.fresh
	if f != nil {
		rec.fresh = nil
		c.bytes -= f.cost
	}
	return f
}

// buffer is memory for a message, from a pool.
type buffer struct{ b []byte }

// buffers is a pool with one class for each power of two.
type buffers struct{ classes [32]sync.Pool }

const smallestClass = 12 // 4 kB

// get returns an empty buffer for at least n bytes.
func (p *buffers) get(n int) *buffer {
	class := max(bits.Len(uint(max(n, 1)-1)), smallestClass)
	if class >= len(p.classes) {
		return &buffer{make([]byte, 0, n)}
	}
	if b, ok := p.classes[class].Get().(*buffer); ok {
		b.b = b.b[:0]
		return b
	}
	return &buffer{make([]byte, 0, 1<<class)}
}

func (p *buffers) put(b *buffer) {
	class := bits.Len(uint(cap(b.b))) - 1
	if class >= smallestClass && class < len(p.classes) && cap(b.b) == 1<<class {
		p.classes[class].Put(b)
	}
}
