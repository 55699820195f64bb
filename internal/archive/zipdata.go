package archive

import (
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"
)

// show takes one file to the visitor.
func (z *zipWalk) show(f *zipFile) error {
	e := Entry{Names: f.names, Size: f.size, Encrypted: f.encrypted()}
	if f.data == 0 {
		z.unseen("%s: no content", f.names[0])
		return z.file(e, nil)
	}
	if strings.HasSuffix(f.names[0], "/") && f.packed == 0 && f.flags&8 == 0 {
		if err := z.budget.file(); err != nil {
			return z.spent(err)
		}
		return nil
	}
	length := f.packed
	if length == 0 && f.flags&8 != 0 || length > z.size-f.data {
		length = z.size - f.data
	}
	raw := io.NewSectionReader(z.r, f.data, length)
	if f.link && f.size < maxName {
		b, _ := io.ReadAll(io.LimitReader(z.content(f, f.method, raw), maxName))
		e.Link = string(b)
		if why := oddName(e.Link); why != "" {
			z.tell(&z.res.Ambiguous, z.box.name+"/"+f.names[0], "a link with %s", why)
		}
	}
	if e.Encrypted {
		return z.file(e, nil)
	}
	dict, err := z.memory(f)
	if err != nil {
		z.tell(&z.res.Unseen, z.box.name+"/"+f.names[0], "not decoded: %v", err)
		return z.file(e, nil)
	}
	defer z.budget.release(dict)
	err = z.file(e, &sized{z: z, f: f, r: z.content(f, f.method, raw)})
	if err != nil || f.other == f.method {
		return err
	}
	if _, err := raw.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return z.file(e, z.content(f, f.other, raw))
}

// sized tells when a file has another length than its header says: some
// unpackers write one, some the other.
type sized struct {
	z *zipWalk
	f *zipFile
	r io.Reader
	n int64
}

func (s *sized) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if errors.Is(err, io.EOF) && s.n != s.f.size && (s.f.flags&8 == 0 || s.f.size != 0) {
		s.z.tell(&s.z.res.Ambiguous, s.z.box.name+"/"+s.f.names[0], "%d bytes where the header says %d", s.n, s.f.size)
	}
	return n, err
}

// memory takes what the decoder of a file needs.
func (z *zipWalk) memory(f *zipFile) (int64, error) {
	var n int64
	for _, method := range []uint16{f.method, f.other} {
		switch method {
		case 12:
			n = max(n, bzip2Memory)
		case 14, 93:
			n = max(n, min(8<<20, z.budget.limits.Memory/4))
		}
	}
	if err := z.budget.dictionary(n); err != nil {
		return 0, err
	}
	return n, nil
}

// content decodes a file. Only deflate ends by itself; of the others the size is
// known from the directory.
func (z *zipWalk) content(f *zipFile, method uint16, raw io.Reader) io.Reader {
	most := min(8<<20, z.budget.limits.Memory/4)
	switch method {
	case 0:
		return raw
	case 8:
		if z.inflate == nil || f.link {
			z.inflate = flate.NewReader(raw)
		} else if err := z.inflate.(flate.Resetter).Reset(raw, nil); err != nil {
			return failing{err}
		}
		return z.inflate
	case 12:
		return bzip2.NewReader(raw)
	case 14:
		return zipLZMA(f, raw, most)
	case 93:
		d, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(uint64(most/2)))
		if err != nil {
			return failing{err}
		}
		return d
	}
	return failing{fmt.Errorf("method %d", method)}
}

// zipLZMA puts the header together that the decoder wants: zip has its own.
func zipLZMA(f *zipFile, raw io.Reader, most int64) io.Reader {
	var b [9]byte
	if _, err := io.ReadFull(raw, b[:]); err != nil || le16(b[2:]) != 5 {
		return failing{errors.New("no LZMA header")}
	}
	head := slices.Clone(b[4:9])
	for i := range 8 {
		size := f.size
		if f.flags&2 != 0 {
			size = -1
		}
		head = append(head, byte(size>>(8*i)))
	}
	d, err := lzma.ReaderConfig{DictCap: int(max(most, lzma.MinDictCap))}.NewReader(io.MultiReader(bytes.NewReader(head), raw))
	if err != nil {
		return failing{err}
	}
	return d
}

// failing is content that can't be decoded.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
