package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/bodgit/sevenzip"
	"github.com/ulikunitz/xz/lzma"
)

const (
	maxHeader7z = 4 << 20
	maxCoders7z = 32
)

// open7z looks at the header itself first, for the library allocates what it
// says: four thousand million names, or a dictionary of 4 GB.
func open7z(x *box, r io.ReaderAt, size int64) error {
	h, err := header7z(r, size, x.budget)
	if err != nil {
		return err
	}
	if h.encrypted && h.files == 0 {
		x.res.Encrypted = true
		x.unseen("the list of files is encrypted")
		return nil
	}
	if h.files > x.budget.limits.Files-x.budget.files {
		x.unseen("more than %d files", x.budget.limits.Files)
		return nil
	}
	if err := x.budget.dictionary(h.memory); err != nil {
		return fmt.Errorf("decoders of %d bytes: %w", h.memory, err)
	}
	defer x.budget.release(h.memory)
	z, err := sevenzip.NewReader(r, size)
	if err != nil {
		return err
	}
	for _, f := range z.File {
		if f.FileInfo().IsDir() {
			if err := x.budget.file(); err != nil {
				return x.spent(err)
			}
			continue
		}
		locked := f.Stream < len(h.locked) && h.locked[f.Stream] && f.UncompressedSize > 0
		if err := x.entry7z(f, locked); err != nil {
			return err
		}
	}
	return nil
}

// entry7z takes one file to the visitor.
func (x *box) entry7z(f *sevenzip.File, locked bool) error {
	e := Entry{Names: []string{f.Name}, Size: int64(f.UncompressedSize), Encrypted: locked}
	if f.Mode()&fs.ModeSymlink != 0 {
		x.tell(&x.res.Ambiguous, x.name+"/"+f.Name, "a symbolic link")
	}
	if locked {
		return x.file(e, nil)
	}
	in, err := f.Open()
	if err != nil {
		x.tell(&x.res.Unseen, x.name+"/"+f.Name, "not decoded: %v", err)
		return x.file(e, nil)
	}
	err = x.file(e, in)
	if cerr := in.Close(); cerr != nil && err == nil {
		x.tell(&x.res.Unseen, x.name+"/"+f.Name, "not decoded: %v", cerr)
	}
	return err
}

// info7z is what must be known before the library may read the header.
type info7z struct {
	files     int
	memory    int64
	encrypted bool
	locked    []bool // which folders are encrypted
	// Of the first folder, for a packed header: where it is and how it is packed.
	at, packed, unpacked int64
	method               uint64
	props                []byte
}

// header7z reads the header, unpacking it where that is needed.
func header7z(r io.ReaderAt, size int64, b *Budget) (info7z, error) {
	var start [32]byte
	if _, err := r.ReadAt(start[:], 0); err != nil || string(start[:6]) != "7z\xbc\xaf\x27\x1c" {
		return info7z{}, errors.New("7z: bad start")
	}
	at, length := le64(start[12:]), le64(start[20:])
	if length == 0 {
		return info7z{}, nil
	}
	if length > maxHeader7z || at > uint64(size) || 32+at+length > uint64(size) {
		return info7z{}, errors.New("7z: the header is too large, or cut off")
	}
	raw := make([]byte, length)
	if _, err := r.ReadAt(raw, 32+int64(at)); err != nil && !errors.Is(err, io.EOF) {
		return info7z{}, err
	}
	p := &parse7z{b: raw, most: b.limits.Files}
	switch p.byte() {
	case id7zHeader:
		info := p.header()
		return info, p.err
	case id7zPacked:
		outer := p.streams()
		if p.err != nil {
			return info7z{}, p.err
		}
		if outer.encrypted {
			return info7z{encrypted: true}, nil
		}
		raw, err := unpack7z(r, size, outer, b)
		if err != nil {
			return info7z{}, err
		}
		p = &parse7z{b: raw, most: b.limits.Files}
		if p.byte() != id7zHeader {
			return info7z{}, errors.New("7z: a packed header in a packed header")
		}
		info := p.header()
		// The library holds the decoder of the header until it is done.
		info.memory += outer.memory
		return info, p.err
	}
	return info7z{}, errors.New("7z: no header")
}

// unpack7z unpacks a header, which every packer packs with LZMA.
func unpack7z(r io.ReaderAt, size int64, h info7z, b *Budget) ([]byte, error) {
	if h.method != 0x030101 || len(h.props) != 5 || h.unpacked > maxHeader7z ||
		h.at < 0 || h.packed < 0 || h.at > size || h.packed > size {
		return nil, errors.New("7z: a header packed in an unusual way")
	}
	if err := b.dictionary(h.memory); err != nil {
		return nil, err
	}
	defer b.release(h.memory)
	head := bytes.Clone(h.props)
	for i := range 8 {
		head = append(head, byte(h.unpacked>>(8*i)))
	}
	in := io.MultiReader(bytes.NewReader(head), io.NewSectionReader(r, 32+h.at, h.packed))
	z, err := lzma.NewReader(in)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(z, maxHeader7z))
	if err != nil {
		return nil, fmt.Errorf("7z: unpack the header: %w", err)
	}
	return raw, nil
}
