package mime

import (
	"bytes"
	"io"
)

// signed takes the content out of an opaque signature (S/MIME, RFC 8551 3.5):
// mail programs show it.
func (w *walker) signed(e *entity, v *view, index int) {
	p := &w.inside.Parts[index]
	p.Protected = true
	kind, pieces, ok := cmsContent(v, v.size)
	switch {
	case kind == cmsEnveloped:
		p.Encrypted = true
		return
	case kind == cmsSigned && ok && len(pieces) == 0: // a detached signature, or certificates
		return
	case kind != cmsSigned || !ok:
		w.unseen(SignedInside)
		return
	}
	src := &source{r: pieced{v, pieces}, layers: v.enc.src.layers + 1}
	for _, piece := range pieces {
		src.size += piece.to - piece.from
	}
	w.lines(span{src, 0, src.size}, func(_ int64, line []byte, next int64) bool {
		src.lf = next < src.size && next-int64(len(line)) == 1
		return false
	})
	w.entity(&entity{span: span{src, 0, src.size}, path: p.Path, root: true, parent: -1, delimiter: -1, depth: e.depth + 1, boundaries: e.boundaries, protected: true})
}

const (
	cmsSigned    = "signed"
	cmsEnveloped = "enveloped"
)

// cmsContent finds the content of a CMS structure (RFC 5652), DER or BER: the
// pieces that its octet string is made of.
func cmsContent(r io.ReaderAt, size int64) (kind string, pieces []piece, ok bool) {
	b := &ber{r: r, size: size}
	outer := b.enter(0, size, 0x30) // ContentInfo
	oid, next := b.oid(outer.from, outer.to)
	switch {
	case !b.ok:
		return "", nil, false
	case bytes.Equal(oid, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3}), bytes.Equal(oid, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 1, 23}):
		return cmsEnveloped, nil, true
	case !bytes.Equal(oid, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2}):
		return "", nil, false
	}
	explicit := b.enter(next, outer.to, 0xa0)
	data := b.enter(explicit.from, explicit.to, 0x30) // SignedData
	next = b.skip(data.from, data.to, 0)              // version
	next = b.skip(next, data.to, 0)                   // digest algorithms
	inner := b.enter(next, data.to, 0x30)             // EncapsulatedContentInfo
	_, next = b.oid(inner.from, inner.to)
	if !b.ok {
		return cmsSigned, nil, false
	}
	if next >= inner.to || b.atEnd(next) {
		return cmsSigned, nil, true
	}
	content := b.enter(next, inner.to, 0xa0)
	b.octets(content.from, content.to, &pieces, 0)
	return cmsSigned, pieces, b.ok
}

// piece is a stretch of bytes.
type piece struct{ from, to int64 }

// ber reads tags and lengths, those without an end in sight too.
type ber struct {
	r     io.ReaderAt
	size  int64
	ok    bool
	begun bool
	steps int
}

const (
	maxBERSteps = 100_000
	maxBERDepth = 16
)

// head reads a tag and its length; -1 is an indefinite one.
func (b *ber) head(at, end int64) (tag byte, content, length int64) {
	if !b.begun {
		b.ok, b.begun = true, true
	}
	var h [10]byte
	n, _ := b.r.ReadAt(h[:min(int64(len(h)), max(0, end-at))], at)
	if b.steps++; n < 2 || b.steps > maxBERSteps || h[0]&0x1f == 0x1f {
		b.ok = false
		return 0, at, 0
	}
	tag, content, length = h[0], at+2, int64(h[1])
	switch {
	case h[1] == 0x80:
		length = -1
	case h[1] > 0x80:
		bytes := int(h[1] & 0x7f)
		if bytes > 7 || bytes+2 > n {
			b.ok = false
			return 0, at, 0
		}
		length = 0
		for _, c := range h[2 : 2+bytes] {
			length = length<<8 | int64(c)
		}
		content += int64(bytes)
	}
	if length > end-content {
		length = end - content // cut off; what there is counts
	}
	return tag, content, length
}

// enter returns the content of what must have that tag.
func (b *ber) enter(at, end int64, tag byte) piece {
	got, content, length := b.head(at, end)
	if got != tag {
		b.ok = false
	}
	if length < 0 {
		return piece{content, end}
	}
	return piece{content, content + length}
}

// oid reads an object identifier and where it ends.
func (b *ber) oid(at, end int64) ([]byte, int64) {
	tag, content, length := b.head(at, end)
	if tag != 6 || length < 0 || length > 64 {
		b.ok = false
		return nil, end
	}
	id := make([]byte, length)
	if _, err := b.r.ReadAt(id, content); err != nil && err != io.EOF {
		b.ok = false
	}
	return id, content + length
}

// skip returns where the value at at ends.
func (b *ber) skip(at, end int64, depth int) int64 {
	_, content, length := b.head(at, end)
	if length >= 0 {
		return content + length
	}
	if depth > maxBERDepth {
		b.ok = false
	}
	for at = content; b.ok && at < end; {
		if b.atEnd(at) {
			return at + 2
		}
		at = b.skip(at, end, depth+1)
	}
	return at
}

// atEnd reports whether the two zeros that end an indefinite length are there.
func (b *ber) atEnd(at int64) bool {
	var z [2]byte
	n, _ := b.r.ReadAt(z[:], at)
	return n == 2 && z == [2]byte{}
}

// octets gathers the pieces of an octet string.
func (b *ber) octets(at, end int64, pieces *[]piece, depth int) int64 {
	tag, content, length := b.head(at, end)
	switch {
	case !b.ok:
		return end
	case tag == 0x04 && length >= 0:
		*pieces = append(*pieces, piece{content, content + length})
		return content + length
	case tag != 0x24 || depth > maxBERDepth:
		b.ok = false
		return end
	}
	stop := end
	if length >= 0 {
		stop = content + length
	}
	for at = content; b.ok && at < stop; {
		if length < 0 && b.atEnd(at) {
			return at + 2
		}
		at = b.octets(at, stop, pieces, depth+1)
	}
	return at
}

// pieced reads pieces as one.
type pieced struct {
	r      io.ReaderAt
	pieces []piece
}

func (p pieced) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	for _, piece := range p.pieces {
		size := piece.to - piece.from
		if off >= size {
			off -= size
			continue
		}
		want := min(int64(len(b)-n), size-off)
		got, err := p.r.ReadAt(b[n:n+int(want)], piece.from+off)
		n += got
		if int64(got) < want {
			return n, err
		}
		if off = 0; n == len(b) {
			return n, nil
		}
	}
	return n, io.EOF
}
