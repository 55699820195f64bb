package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"
)

// What the decoders take by themselves, whatever the file says.
const (
	inflateMemory = 48 << 10
	bzip2Memory   = 4 << 20
)

// single takes the one file out of a compressed one.
func (x *box) single(r io.Reader, names ...string) error {
	return x.file(Entry{Names: append(names, without(x.name)), Size: -1}, r)
}

// streamGzip reads all members as one file, which is what gunzip does: a file
// that is cut over two members has to be seen whole.
func streamGzip(x *box, r io.Reader) error {
	if err := x.budget.dictionary(inflateMemory); err != nil {
		return err
	}
	defer x.budget.release(inflateMemory)
	in := bufio.NewReader(r)
	z, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	z.Multistream(false)
	m := &members{x: x, z: z, in: in}
	return x.single(m, decodeName([]byte(z.Name), false)...)
}

// members is the content of all members of a gzip file.
type members struct {
	x  *box
	z  *gzip.Reader
	in *bufio.Reader
}

func (m *members) Read(p []byte) (int, error) {
	for {
		n, err := m.z.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) {
			if n > 0 && errors.Is(err, io.EOF) {
				err = nil
			}
			return n, err
		}
		if err := m.next(); err != nil {
			return 0, err
		}
	}
}

// next goes to the next member; zeros behind the last one fill a block of a tape.
func (m *members) next() error {
	head, err := m.in.Peek(2)
	if err != nil {
		return skipZeros(m.x, m.in)
	}
	if head[0] != 0x1f || head[1] != 0x8b {
		return skipZeros(m.x, m.in)
	}
	name := m.z.Name
	if err := m.z.Reset(m.in); err != nil {
		return fmt.Errorf("a further member: %w", err)
	}
	m.z.Multistream(false)
	if m.z.Name != "" && m.z.Name != name {
		m.x.ambiguous("a member is called %s", m.z.Name)
	}
	return nil
}

// skipZeros ends a stream, and tells what is behind its end.
func skipZeros(x *box, in io.Reader) error {
	buf := make([]byte, 4<<10)
	for {
		n, err := in.Read(buf)
		if len(bytes.Trim(buf[:n], "\x00")) > 0 {
			x.ambiguous("data behind the end of the %s", x.kind)
			x.unseen("data behind the end of the %s", x.kind)
			return io.EOF
		}
		if err != nil {
			return err
		}
	}
}

func streamBzip2(x *box, r io.Reader) error {
	if err := x.budget.dictionary(bzip2Memory); err != nil {
		return err
	}
	defer x.budget.release(bzip2Memory)
	return x.single(bzip2.NewReader(bufio.NewReader(r)))
}

func streamZstd(x *box, r io.Reader) error {
	// The decoder takes up to twice the window that a frame asks for.
	window := (x.budget.limits.Memory - x.budget.held) / 4
	in := bufio.NewReader(r)
	head, err := in.Peek(min(zstd.HeaderMaxSize, 32))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var h zstd.Header
	if err := h.Decode(head); err != nil {
		return err
	}
	take := int64(1 << 20)
	if !h.Skippable {
		take = 2*int64(min(h.WindowSize, uint64(window))) + 256<<10
	}
	if err := x.budget.dictionary(take); err != nil {
		return err
	}
	defer x.budget.release(take)
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(uint64(max(window, 1<<10))))
	if err != nil {
		return err
	}
	defer z.Close()
	return x.single(z)
}

// streamLZMA is for the old format with one header and no check.
func streamLZMA(x *box, r io.Reader) error {
	in := bufio.NewReader(r)
	head, err := in.Peek(lzma.HeaderLen)
	if err != nil {
		return err
	}
	dict := int64(le32(head[1:]))
	if err := x.budget.dictionary(dict); err != nil {
		return fmt.Errorf("a dictionary of %d bytes: %w", dict, err)
	}
	defer x.budget.release(dict)
	z, err := lzma.ReaderConfig{DictCap: int(max(dict, lzma.MinDictCap))}.NewReader(in)
	if err != nil {
		return err
	}
	return x.single(z)
}
