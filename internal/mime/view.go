package mime

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"sort"
)

// view is content that can be read anywhere: what stands in a source, or what is
// behind a decoder. Of a decoder a copy is kept at every step, which goes on from
// there, so that nothing is held in memory but what was read last.
type view struct {
	w    *walker
	enc  span
	d    decoder // nil: as it stands
	size int64
	sum  string
	odd  decoder // the decoder when it is not sure

	steps  []step
	blocks [4]block // that were decoded last
	turn   int
}

// block is decoded content.
type block struct {
	known bool
	step  int
	bytes []byte
}

// step is a decoder in front of a block of encoded bytes.
type step struct {
	out int64
	d   decoder
}

// open reads content to its end. Not ok: a budget is used up.
func (w *walker) open(enc span, d decoder) (*view, bool) {
	v := &view{w: w, enc: enc, d: d}
	sum := sha256.New()
	buf := make([]byte, min(blockSize, enc.size()))
	var out []byte
	for at := enc.from; at < enc.to; at += blockSize {
		b, ok := w.read(enc.src, buf, at, enc.to)
		if !ok {
			return nil, false
		}
		if d != nil {
			v.steps = append(v.steps, step{v.size, d.clone()})
			out = d.decode(out[:0], b)
			if at+blockSize >= enc.to {
				out = d.end(out)
			}
			b = out
			if w.decoded -= int64(len(b)); w.decoded < 0 {
				w.stop(OverDecoded)
				return nil, false
			}
		}
		sum.Write(b)
		v.size += int64(len(b))
	}
	v.sum = hex.EncodeToString(sum.Sum(nil))
	if d != nil && d.odd() {
		v.odd = d
	}
	return v, true
}

// reader reads from the beginning.
func (v *view) reader() *io.SectionReader { return io.NewSectionReader(v, 0, v.size) }

func (v *view) ReadAt(p []byte, off int64) (int, error) {
	if off >= v.size {
		return 0, io.EOF
	}
	if v.d == nil {
		n := min(int64(len(p)), v.size-off)
		got, err := v.enc.src.r.ReadAt(p[:n], v.enc.from+off)
		if int64(got) == n && n < int64(len(p)) {
			return got, io.EOF
		}
		return got, err
	}
	n := 0
	for n < len(p) {
		if off >= v.size {
			return n, io.EOF
		}
		i := sort.Search(len(v.steps), func(i int) bool { return v.steps[i].out > off }) - 1
		b, err := v.load(i)
		if err != nil {
			return n, err
		}
		m := copy(p[n:], b[off-v.steps[i].out:])
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

// load decodes the block of a step. Some are kept: who reads an archive goes to
// and fro.
func (v *view) load(i int) ([]byte, error) {
	for _, b := range v.blocks {
		if b.known && b.step == i {
			return b.bytes, nil
		}
	}
	v.turn = (v.turn + 1) % len(v.blocks)
	b := &v.blocks[v.turn]
	b.known = false
	at := v.enc.from + int64(i)*blockSize
	raw, ok := v.w.read(v.enc.src, make([]byte, min(blockSize, v.enc.to-at)), at, v.enc.to)
	if !ok {
		return nil, errBudget
	}
	d := v.steps[i].d.clone()
	b.bytes = d.decode(b.bytes[:0], raw)
	if i == len(v.steps)-1 {
		b.bytes = d.end(b.bytes)
	}
	b.known, b.step = true, i
	return b.bytes, nil
}

// sourceOf makes content a source of its own, in which parts may stand. What is
// not decoded stays part of the source that it is in: see spanOf.
func (w *walker) sourceOf(v *view, around *source) *source {
	src := &source{r: v, size: v.size, layers: around.layers + 1}
	w.lines(span{src, 0, src.size}, func(_ int64, line []byte, next int64) bool {
		src.lf = next < src.size && next-int64(len(line)) == 1
		return false
	})
	return src
}

// spanOf is the content as a span, with its place in the message where it has one.
func (w *walker) spanOf(v *view) span {
	if v.d == nil {
		return v.enc
	}
	src := w.sourceOf(v, v.enc.src)
	return span{src, 0, src.size}
}
