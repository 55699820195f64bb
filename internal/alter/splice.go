package alter

import (
	"bytes"
	"cmp"
	"io"
	"slices"
	"sort"
)

// piece is what stands in the place of a range of the old body.
type piece struct {
	at, length int64
	with       []byte
}

func (p piece) end() int64 { return p.at + p.length }

// spliced is a body of ranges of an old one and of new bytes between them.
type spliced struct {
	runs []run
	size int64
}

// run is bytes that stand together: of the old body, or new ones.
type run struct {
	at     int64 // in the new body
	length int64
	from   io.ReaderAt
	offset int64 // in from
}

// splice puts pieces into a body of this size. A piece that lies in another one
// is left out; their order does not matter.
func splice(body io.ReaderAt, size int64, pieces []piece) *spliced {
	pieces = slices.Clone(pieces)
	slices.SortStableFunc(pieces, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(b.length, a.length))
	})
	s := new(spliced)
	var at int64 // in the old body
	for _, p := range pieces {
		if p.at < at {
			continue
		}
		s.add(body, at, p.at-at)
		s.add(bytes.NewReader(p.with), 0, int64(len(p.with)))
		at = p.end()
	}
	s.add(body, at, size-at)
	return s
}

func (s *spliced) add(from io.ReaderAt, offset, length int64) {
	if length > 0 {
		s.runs = append(s.runs, run{s.size, length, from, offset})
		s.size += length
	}
}

// ReadAt implements io.ReaderAt.
func (s *spliced) ReadAt(p []byte, off int64) (n int, err error) {
	i := sort.Search(len(s.runs), func(i int) bool { return s.runs[i].at+s.runs[i].length > off })
	for ; n < len(p) && i < len(s.runs); i++ {
		r := s.runs[i]
		skip := off + int64(n) - r.at
		want := p[n:min(int64(len(p)), int64(n)+r.length-skip)]
		got, err := r.from.ReadAt(want, r.offset+skip)
		n += got
		if got < len(want) {
			return n, cmp.Or(err, io.ErrUnexpectedEOF)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
