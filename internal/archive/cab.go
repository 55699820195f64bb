package archive

import (
	"bufio"
	"errors"
	"io"
)

// openCab lists the names in a cabinet: its files are packed with methods that
// nothing here unpacks, so their content stays unseen.
func openCab(x *box, r io.ReaderAt, size int64) error {
	var h [36]byte
	if _, err := r.ReadAt(h[:], 0); err != nil {
		return noEOF(err)
	}
	x.unseen("cab not opened, names only")
	if le16(h[30:])&3 != 0 {
		x.unseen("a part of a cab in several volumes")
	}
	at := int64(le32(h[16:]))
	in := bufio.NewReader(io.NewSectionReader(r, at, max(0, size-at)))
	for range le16(h[28:]) {
		var f [16]byte
		if _, err := io.ReadFull(in, f[:]); err != nil {
			return noEOF(err)
		}
		name, err := cabName(in)
		if err != nil {
			return err
		}
		e := Entry{Names: decodeName(name, le16(f[14:])&0x80 != 0), Size: int64(le32(f[:]))}
		if err := x.file(e, nil); err != nil {
			return err
		}
	}
	return nil
}

func cabName(in io.ByteReader) ([]byte, error) {
	var name []byte
	for len(name) < maxName {
		c, err := in.ReadByte()
		if err != nil {
			return nil, noEOF(err)
		}
		if c == 0 {
			return name, nil
		}
		name = append(name, c)
	}
	return nil, errors.New("cab: a name without end")
}
