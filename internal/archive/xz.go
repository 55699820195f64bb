package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// streamXZ reads the container itself, for a block may ask for a dictionary of
// 4 GB and the library's reader gives it. Check sums are not compared: what xz
// would refuse to write is looked at all the same.
func streamXZ(x *box, r io.Reader) error {
	z := &xzReader{x: x, in: &byteCounter{Reader: bufio.NewReaderSize(r, xzAhead)}}
	defer z.free()
	if err := z.streamHeader(); err != nil {
		return err
	}
	return x.single(z)
}

type byteCounter struct {
	*bufio.Reader
	n int64
}

func (c *byteCounter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *byteCounter) ReadByte() (byte, error) {
	b, err := c.Reader.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// xzReader gives the content of all blocks of all streams of an xz file.
type xzReader struct {
	x     *box
	in    *byteCounter
	check int64 // length of the check behind each block
	block *lzma.Reader2
	start int64 // of the block
	held  int64
	clip  bool // the dictionary is smaller than the block asks for
}

func (z *xzReader) free() {
	z.x.budget.release(z.held)
	z.held = 0
}

func (z *xzReader) Read(p []byte) (int, error) {
	for {
		if z.block == nil {
			if err := z.next(); err != nil {
				return 0, err
			}
		}
		n, err := z.block.Read(p)
		switch {
		case errors.Is(err, io.EOF):
			if err := z.endBlock(); err != nil {
				return n, err
			}
		case err != nil && z.clip:
			return n, fmt.Errorf("a dictionary over the limit: %w", err)
		case err != nil:
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

var errXZ = errors.New("xz: bad header")

// streamHeader reads the twelve bytes before the blocks.
func (z *xzReader) streamHeader() error {
	var h [12]byte
	if _, err := io.ReadFull(z.in, h[:]); err != nil {
		return noEOF(err)
	}
	if string(h[:6]) != "\xfd7zXZ\x00" || h[6] != 0 || h[7] > 15 {
		return errXZ
	}
	sizes := [16]int64{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}
	z.check = sizes[h[7]]
	return nil
}

// next opens the next block, in this stream or in the one behind it.
func (z *xzReader) next() error {
	for {
		z.start = z.in.n
		size, err := z.in.ReadByte()
		if err != nil {
			return noEOF(err)
		}
		if size != 0 {
			return z.openBlock(size)
		}
		if err := z.endStream(); err != nil {
			return err
		}
	}
}

// openBlock reads a block header, of which the first byte is read already.
func (z *xzReader) openBlock(size byte) error {
	h := make([]byte, int(size)*4+3)
	if _, err := io.ReadFull(z.in, h); err != nil {
		return noEOF(err)
	}
	z.start = z.in.n
	dict, err := blockDictionary(h)
	if err != nil {
		return err
	}
	// The whole content is often shorter than its dictionary, so less does.
	take := max(min(dict, z.blockSize(), (z.x.budget.limits.Memory-z.x.budget.held)/2), lzma.MinDictCap)
	z.clip = take < dict
	if err := z.x.budget.dictionary(take); err != nil {
		return err
	}
	z.held = take
	z.block, err = lzma.Reader2Config{DictCap: int(take)}.NewReader2(z.in)
	return err
}

// xzAhead is how far it looks to find the end of a small block.
const xzAhead = 32 << 10

// blockSize adds up what the chunks of a block decode to, when its end is near;
// otherwise it gives the largest dictionary there is.
func (z *xzReader) blockSize() int64 {
	b, _ := z.in.Peek(xzAhead)
	var total int64
	for len(b) > 0 {
		length := 3
		switch control := b[0]; {
		case control == 0:
			return total
		case len(b) < 5:
			return 1 << 32
		case control < 0x80: // as it is
			n := int(b[1])<<8 | int(b[2])
			total += int64(n) + 1
			length += n + 1
		default:
			total += (int64(control&0x1f)<<16 | int64(b[1])<<8 | int64(b[2])) + 1
			length += 2 + (int(b[3])<<8 | int(b[4])) + 1
			if control >= 0xc0 {
				length++ // properties
			}
		}
		if length > len(b) {
			return 1 << 32
		}
		b = b[length:]
	}
	return 1 << 32
}

// blockDictionary finds the size of the dictionary in a block header.
func blockDictionary(h []byte) (int64, error) {
	flags, h := h[0], h[1:]
	var err error
	for _, there := range []bool{flags&0x40 != 0, flags&0x80 != 0} {
		if there {
			if _, h, err = xzNumber(h); err != nil {
				return 0, err
			}
		}
	}
	id, h, err := xzNumber(h)
	if err != nil {
		return 0, err
	}
	if flags&3 != 0 || id != 0x21 {
		return 0, errors.New("xz: a filter that can't be taken off")
	}
	if len(h) < 2 || h[0] != 1 || h[1] > 40 {
		return 0, errXZ
	}
	if h[1] == 40 {
		return 1<<32 - 1, nil
	}
	return int64(2|h[1]&1) << (h[1]/2 + 11), nil
}

// xzNumber reads a number of up to nine bytes of seven bits.
func xzNumber(b []byte) (uint64, []byte, error) {
	var n uint64
	for i := range min(len(b), 9) {
		n |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return n, b[i+1:], nil
		}
	}
	return 0, nil, errXZ
}

// endBlock skips padding and check of a block.
func (z *xzReader) endBlock() error {
	z.block = nil
	z.free()
	pad := (4 - (z.in.n-z.start)%4) % 4
	_, err := io.CopyN(io.Discard, z.in, pad+z.check)
	return noEOF(err)
}

// endStream skips the index, and goes to the next stream where there is one.
func (z *xzReader) endStream() error {
	records, err := z.number()
	if err != nil {
		return err
	}
	for range 2 * records {
		if _, err := z.number(); err != nil {
			return err
		}
	}
	pad := (4 - (z.in.n-z.start)%4) % 4
	if _, err := io.CopyN(io.Discard, z.in, pad+4+12); err != nil {
		return noEOF(err)
	}
	for {
		head, err := z.in.Peek(4)
		switch {
		case len(head) == 4 && string(head) == "\x00\x00\x00\x00":
			if _, err := io.CopyN(io.Discard, z.in, 4); err != nil {
				return noEOF(err)
			}
		case len(head) == 4 && string(head) == "\xfd7zX":
			return z.streamHeader()
		case len(head) == 0 && errors.Is(err, io.EOF):
			return io.EOF
		default:
			return skipZeros(z.x, z.in)
		}
	}
}

func (z *xzReader) number() (uint64, error) {
	var n uint64
	for i := range 9 {
		b, err := z.in.ReadByte()
		if err != nil {
			return 0, noEOF(err)
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errXZ
}

// noEOF makes an end in the wrong place one that nobody takes for the end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
