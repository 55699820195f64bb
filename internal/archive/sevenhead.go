package archive

import (
	"errors"
	"math/bits"
)

// The parts of a 7z header, 7zFormat.txt.
const (
	id7zHeader      = 1
	id7zProperties  = 2
	id7zAdditional  = 3
	id7zMain        = 4
	id7zFiles       = 5
	id7zPack        = 6
	id7zUnpack      = 7
	id7zSubStreams  = 8
	id7zSize        = 9
	id7zCRC         = 10
	id7zFolder      = 11
	id7zUnpackSize  = 12
	id7zNumStreams  = 13
	id7zPacked      = 23
	method7zAES     = 0x06f10701
	method7zLZMA    = 0x030101
	method7zPPMd    = 0x030401
	method7zLZMA2   = 0x21
	method7zBzip2   = 0x040202
	method7zOthers  = 0x04f711 // zstd, brotli, lz4, with one more byte
	others7zMemory  = 16 << 20
	max7zDictionary = 1 << 32
)

var err7z = errors.New("7z: a header that can't be read")

// parse7z reads numbers from a header; after an error it gives zeros.
type parse7z struct {
	b    []byte
	most int // of anything that there may be many of
	err  error
	// sums: folders came with check sums. Then the library and 7-Zip count
	// those of files in different ways.
	sums bool
}

func (p *parse7z) fail() {
	p.b, p.err = nil, err7z
}

func (p *parse7z) take(n uint64) []byte {
	if n > uint64(len(p.b)) {
		p.fail()
		return nil
	}
	b := p.b[:n]
	p.b = p.b[n:]
	return b
}

func (p *parse7z) byte() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

// number reads a number: the ones at the top of its first byte say how many follow.
func (p *parse7z) number() uint64 {
	first := p.byte()
	more := bits.LeadingZeros8(^first)
	var v uint64
	if more < 7 {
		v = uint64(first&(1<<(7-more)-1)) << (8 * more)
	}
	for i, c := range p.take(uint64(more)) {
		v |= uint64(c) << (8 * i)
	}
	return v
}

// count reads how many of something there are.
func (p *parse7z) count() int {
	n := p.number()
	if n > uint64(p.most) {
		p.fail()
		return 0
	}
	return int(n)
}

func (p *parse7z) expect(id byte) {
	if p.byte() != id {
		p.fail()
	}
}

// header reads to the number of files, and checks that what is told of the
// files is not longer than the header.
func (p *parse7z) header() info7z {
	var h info7z
	id := p.byte()
	if id == id7zProperties {
		for p.err == nil && p.byte() != 0 {
			p.take(p.number())
		}
		id = p.byte()
	}
	if id == id7zAdditional {
		p.fail()
	}
	if id == id7zMain {
		h = p.streams()
		id = p.byte()
	}
	if id == id7zFiles {
		h.files = p.count()
		for p.err == nil {
			if p.number() == 0 {
				break
			}
			p.take(p.number())
		}
		id = p.byte()
	}
	if id != 0 {
		p.fail()
	}
	return h
}

// streams reads where the packed streams are, and how to unpack them.
func (p *parse7z) streams() info7z {
	var h info7z
	var folders int
	for p.err == nil {
		switch id := p.byte(); id {
		case 0:
			return h
		case id7zPack:
			h.at = int64(p.number())
			n := p.count()
			p.attributes(n, &h)
		case id7zUnpack:
			folders = p.folders(&h)
		case id7zSubStreams:
			p.subStreams(folders)
		default:
			p.fail()
		}
	}
	return h
}

// attributes reads sizes and check sums of packed streams.
func (p *parse7z) attributes(n int, h *info7z) {
	for p.err == nil {
		switch p.byte() {
		case 0:
			return
		case id7zSize:
			for i := 0; i < n && p.err == nil; i++ {
				if size := p.number(); i == 0 {
					h.packed = int64(size)
				}
			}
		case id7zCRC:
			p.digests(n)
		default:
			p.fail()
		}
	}
}

func (p *parse7z) digests(n int) {
	defined := n
	if p.byte() == 0 {
		defined = 0
		for _, c := range p.take(uint64(n+7) / 8) {
			defined += bits.OnesCount8(c)
		}
	}
	p.take(4 * uint64(defined))
}

// folders reads how each folder is packed.
func (p *parse7z) folders(h *info7z) int {
	p.expect(id7zFolder)
	n := p.count()
	if p.byte() != 0 {
		p.fail()
	}
	var outs []int
	for i := 0; i < n && p.err == nil; i++ {
		one, out := p.folder()
		if i == 0 {
			h.method, h.props = one.method, one.props
		}
		h.encrypted = h.encrypted || one.encrypted
		h.locked = append(h.locked, one.encrypted)
		// Folders are unpacked one after another, but the library keeps one open
		// that was not read to its end.
		h.memory = max(h.memory, 2*one.memory)
		outs = append(outs, out)
	}
	p.expect(id7zUnpackSize)
	for i, out := range outs {
		for j := 0; j < out && p.err == nil; j++ {
			if size := p.number(); i == 0 {
				h.unpacked = int64(size)
			}
		}
	}
	id := p.byte()
	if id == id7zCRC {
		p.sums = true
		p.digests(n)
		id = p.byte()
	}
	if id != 0 {
		p.fail()
	}
	return n
}

// folder reads the coders of one folder; it gives the number of their outputs.
func (p *parse7z) folder() (info7z, int) {
	var h info7z
	coders := p.count()
	if coders == 0 || coders > maxCoders7z {
		p.fail()
	}
	var in, out int
	for i := 0; i < coders && p.err == nil; i++ {
		flags := p.byte()
		var method uint64
		for _, c := range p.take(uint64(flags & 15)) {
			method = method<<8 | uint64(c)
		}
		ins, outs := 1, 1
		if flags&0x10 != 0 {
			ins, outs = p.count(), p.count()
		}
		if ins > maxCoders7z || outs != 1 || flags&0x80 != 0 {
			p.fail()
		}
		var props []byte
		if flags&0x20 != 0 {
			props = p.take(p.number())
		}
		in, out = in+ins, out+outs
		h.method, h.props = method, props
		h.encrypted = h.encrypted || method == method7zAES
		h.memory += p.memory(method, props)
	}
	for range 2 * (out - 1) {
		p.number()
	}
	if packed := in - (out - 1); packed > 1 {
		for range packed {
			p.number()
		}
	} else if packed < 1 {
		p.fail()
	}
	return h, out
}

// memory is what the decoder of a method takes.
func (p *parse7z) memory(method uint64, props []byte) int64 {
	switch {
	case method == method7zLZMA && len(props) == 5, method == method7zPPMd && len(props) == 5:
		return int64(le32(props[1:]))
	case method == method7zLZMA2 && len(props) == 1:
		if props[0] > 40 {
			p.fail()
			return 0
		}
		return min(int64(2|props[0]&1)<<(props[0]/2+11), max7zDictionary)
	case method == method7zLZMA, method == method7zPPMd, method == method7zLZMA2:
		p.fail()
	case method == method7zBzip2:
		return bzip2Memory
	case method>>8 == method7zOthers:
		return others7zMemory
	}
	return 64 << 10
}

// subStreams reads how many files are in each folder.
func (p *parse7z) subStreams(folders int) {
	perFolder := make([]int, min(folders, len(p.b)))
	for i := range perFolder {
		perFolder[i] = 1
	}
	id := p.byte()
	if id == id7zNumStreams {
		for i := range perFolder {
			perFolder[i] = p.count()
		}
		id = p.byte()
	}
	var total int
	for _, n := range perFolder {
		total += n
	}
	if total > p.most {
		p.fail()
	}
	if id == id7zSize {
		for _, n := range perFolder {
			for j := 1; j < n && p.err == nil; j++ {
				p.number()
			}
		}
		id = p.byte()
	}
	if id == id7zCRC {
		if p.sums {
			p.fail()
		}
		p.digests(total)
		id = p.byte()
	}
	if id != 0 {
		p.fail()
	}
}
