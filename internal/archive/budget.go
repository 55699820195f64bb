package archive

import (
	"errors"
	"fmt"
	"runtime"
)

// Limits of what may be opened for one message.
type Limits struct {
	// Depth of archives in archives. Default 10.
	Depth int `toml:"archive_depth"`
	// Files in all archives together. Default 10000.
	Files int `toml:"archive_files"`
	// Bytes that all archives together may decode to. Default 128MB.
	Bytes int64 `toml:"archive_bytes,size"`
	// Ratio of decoded to encoded bytes of one archive, asked from 10 MB on. Default 250.
	Ratio int64 `toml:"archive_ratio"`
	// Memory for nested archives and for the dictionaries of decoders at any
	// one time. Default 32MB.
	Memory int64 `toml:"archive_memory,size"`
}

// ratioFrom is where the ratio begins to count: small files of one repeated
// byte are common.
const ratioFrom = 10 << 20

// DefaultLimits are enough for ordinary mail.
func DefaultLimits() Limits {
	return Limits{Depth: 10, Files: 10_000, Bytes: 128 << 20, Ratio: 250, Memory: 32 << 20}
}

// Validate says which limit makes no sense.
func (l Limits) Validate() error {
	switch {
	case l.Depth < 1 || l.Depth > 64:
		return fmt.Errorf("archive_depth %d: want 1 to 64", l.Depth)
	case l.Files < 1 || l.Files > 10_000_000:
		return fmt.Errorf("archive_files %d: want 1 to 10000000", l.Files)
	case l.Bytes < 1<<20 || l.Bytes > 1<<40:
		return fmt.Errorf("archive_bytes %d: want 1MB to 1TB", l.Bytes)
	case l.Ratio < 2:
		return fmt.Errorf("archive_ratio %d: want at least 2", l.Ratio)
	case l.Memory < 1<<20 || l.Memory > 1<<34:
		return fmt.Errorf("archive_memory %d: want 1MB to 16GB", l.Memory)
	}
	return nil
}

// Budget is what is left of the limits for one message. It is made once per
// message, shared by all its archives, and used by one goroutine at a time.
type Budget struct {
	limits Limits
	files  int
	bytes  int64
	held   int64
	worked int64 // memory that decoders were given
	litter int64 // of it, what nobody collected yet
	free   map[int64][]byte
	// spent is the first limit of the whole message that was reached: then
	// nothing more is opened.
	spent error
}

// NewBudget makes the budget of one message.
func NewBudget(l Limits) *Budget { return &Budget{limits: l} }

// Used says how many files were counted, and how many bytes were decoded.
func (b *Budget) Used() (files int, bytes int64) { return b.files, b.bytes }

// litterUpTo is how much decoders may leave behind before it is collected.
const litterUpTo = 48 << 20

var errMemory = errors.New("needs more memory than is allowed")

// file counts one file.
func (b *Budget) file() error {
	if b.spent == nil && b.files >= b.limits.Files {
		b.spent = fmt.Errorf("more than %d files", b.limits.Files)
	}
	if b.spent != nil {
		return b.spent
	}
	b.files++
	return nil
}

// decoded counts n bytes that were decoded.
func (b *Budget) decoded(n int) error {
	b.bytes += int64(n)
	if b.spent == nil && b.bytes > b.limits.Bytes {
		b.spent = fmt.Errorf("more than %d bytes decoded", b.limits.Bytes)
	}
	return b.spent
}

// hold takes n bytes of the memory, which release gives back.
func (b *Budget) hold(n int64) error {
	if n < 0 || n > b.limits.Memory-b.held {
		return errMemory
	}
	b.held += n
	return nil
}

// dictionary takes the memory of a decoder. It has to be cleared, so ten thousand
// tiny files with a large dictionary each are a bomb as well: that ends it.
func (b *Budget) dictionary(n int64) error {
	if err := b.work(n); err != nil {
		return err
	}
	return b.hold(n)
}

// work counts n bytes of memory that a decoder clears.
func (b *Budget) work(n int64) error {
	b.worked += n
	if b.litter += n; b.litter > litterUpTo {
		// Dictionaries come faster than the collector runs: without this they
		// are a gigabyte before it is done. Ordinary mail doesn't get here.
		b.litter = 0
		runtime.GC()
	}
	if b.spent == nil && b.worked/32 > b.limits.Bytes {
		b.spent = errors.New("too many decoders with large dictionaries")
	}
	return b.spent
}

func (b *Budget) release(n int64) { b.held -= n }

// buffer gives an empty buffer of a size that is a power of two, one that was
// used before where there is one.
func (b *Budget) buffer(size int64) ([]byte, error) {
	if err := b.hold(size); err != nil {
		return nil, err
	}
	if old := b.free[size]; old != nil {
		delete(b.free, size)
		return old[:0], nil
	}
	return make([]byte, 0, size), nil
}

// recycle gives a buffer back. One of each size is kept.
func (b *Budget) recycle(buf []byte) {
	size := int64(cap(buf))
	if size == 0 {
		return
	}
	b.release(size)
	if b.free == nil {
		b.free = map[int64][]byte{}
	}
	b.free[size] = buf
}
