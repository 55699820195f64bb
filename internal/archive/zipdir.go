package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"
)

// The signatures of zip, APPNOTE.TXT 4.3.
const (
	zipLocal     = "PK\x03\x04"
	zipCentral   = "PK\x01\x02"
	zipEnd       = "PK\x05\x06"
	zipEnd64     = "PK\x06\x06"
	zipEndSize   = 22
	zipEndSearch = zipEndSize + 1<<16 - 1
)

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// zipFile is one file as a header describes it, local or central.
type zipFile struct {
	flags, method uint16
	other         uint16 // method of the local header
	crc           uint32
	packed, size  int64
	names         []string
	odd           string // why the name is read in two ways
	at            int64  // of the local header
	data          int64  // of the content; 0 until the local header was read
	link          bool
}

func (f *zipFile) encrypted() bool { return f.flags&1 != 0 || f.method == 99 }

// zipEnds finds every end record in the last 64 KB, the one that most readers
// take first: the last one.
func zipEnds(r io.ReaderAt, size int64) ([]int64, error) {
	from := max(0, size-zipEndSearch)
	tail := make([]byte, size-from)
	if _, err := r.ReadAt(tail, from); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var ends []int64
	for end := len(tail); ; {
		i := bytes.LastIndex(tail[:end], []byte(zipEnd))
		if i < 0 || len(ends) == 8 {
			return ends, nil
		}
		if len(tail)-i >= zipEndSize {
			ends = append(ends, from+int64(i))
		}
		end = i
	}
}

// zipDirectory is where an end record says that the directory is.
type zipDirectory struct {
	at, size int64
	base     int64 // what stands before the archive
	count    uint64
	comment  int64 // bytes behind the end record, as it says
	split    bool
}

// readEnd reads an end record, and the one of zip64 before it.
func readEnd(r io.ReaderAt, at int64) (zipDirectory, error) {
	var b [zipEndSize]byte
	if _, err := r.ReadAt(b[:], at); err != nil {
		return zipDirectory{}, err
	}
	d := zipDirectory{
		count: uint64(le16(b[10:])), size: int64(le32(b[12:])), at: int64(le32(b[16:])),
		comment: int64(le16(b[20:])),
		split:   le16(b[4:]) != 0 && le16(b[4:]) != 0xffff,
	}
	end := at
	if d.count == 0xffff || d.size == 0xffffffff || d.at == 0xffffffff {
		if e, ok := readEnd64(r, at, &d); ok {
			end = e
		}
	}
	if d.at < 0 || d.size < 0 || d.size > end {
		return d, errors.New("zip: the directory lies outside")
	}
	d.base = end - d.size - d.at
	return d, nil
}

// readEnd64 reads the zip64 end record, whose place the locator before at tells.
func readEnd64(r io.ReaderAt, at int64, d *zipDirectory) (int64, bool) {
	var loc [20]byte
	if at < 20 {
		return 0, false
	}
	if _, err := r.ReadAt(loc[:], at-20); err != nil || string(loc[:4]) != "PK\x06\x07" {
		return 0, false
	}
	var b [56]byte
	for _, pos := range []int64{int64(le64(loc[8:])), at - 20 - 56} {
		if pos < 0 || pos > at-76 {
			continue
		}
		if _, err := r.ReadAt(b[:], pos); err != nil || string(b[:4]) != zipEnd64 {
			continue
		}
		d.count, d.size, d.at = le64(b[32:]), int64(le64(b[40:])), int64(le64(b[48:]))
		return pos, true
	}
	return 0, false
}

// readCentral reads one header of the directory from the beginning of b, and
// gives its length.
func readCentral(b []byte) (*zipFile, int, error) {
	if len(b) < 46 || string(b[:4]) != zipCentral {
		return nil, 0, errors.New("zip: no header in the directory")
	}
	n, extra, comment := int(le16(b[28:])), int(le16(b[30:])), int(le16(b[32:]))
	if len(b) < 46+n+extra+comment {
		return nil, 0, errors.New("zip: a header in the directory is cut")
	}
	f := &zipFile{
		flags: le16(b[8:]), method: le16(b[10:]), crc: le32(b[16:]),
		packed: int64(le32(b[20:])), size: int64(le32(b[24:])), at: int64(le32(b[42:])),
	}
	// The upper half has the mode that a file has under Unix.
	f.link = le32(b[38:])>>28 == 0xa && b[5] == 3
	f.setName(b[46 : 46+n])
	f.readExtra(b[46+n:46+n+extra], &f.at)
	return f, 46 + n + extra + comment, nil
}

// readLocal reads the header before a file's content.
func readLocal(r io.ReaderAt, at int64) (*zipFile, error) {
	var b [30]byte
	if _, err := r.ReadAt(b[:], at); err != nil {
		return nil, noEOF(err)
	}
	if string(b[:4]) != zipLocal {
		return nil, errors.New("zip: no local header")
	}
	f := &zipFile{
		flags: le16(b[6:]), method: le16(b[8:]), crc: le32(b[14:]),
		packed: int64(le32(b[18:])), size: int64(le32(b[22:])), at: at,
	}
	f.other = f.method
	n, extra := int(le16(b[26:])), int(le16(b[28:]))
	// Headers may overlap, each with 64 KB of its own: what is known is at the front.
	more := make([]byte, n+min(extra, 4<<10))
	if got, err := r.ReadAt(more, at+30); got < len(more) {
		return nil, noEOF(err)
	}
	f.setName(more[:n])
	f.readExtra(more[n:], nil)
	f.data = at + 30 + int64(n+extra)
	return f, nil
}

// setName cuts first: headers may overlap, and each claim 64 KB for its name.
func (f *zipFile) setName(raw []byte) {
	if len(raw) > maxName {
		raw = slices.Concat(raw[:maxName/2], raw[len(raw)-maxName/2:])
	}
	f.names = decodeName(raw, f.flags&0x800 != 0)
}

// readExtra reads what belongs to a header but found no room in it: the sizes of
// zip64, and a name in UTF-8 that some unpackers take instead of the other.
func (f *zipFile) readExtra(b []byte, at *int64) {
	for len(b) >= 4 {
		id, n := le16(b), int(le16(b[2:]))
		if n > len(b)-4 {
			return
		}
		field := b[4 : 4+n]
		switch id {
		case 1:
			for _, v := range []*int64{&f.size, &f.packed, at} {
				if v != nil && *v == 0xffffffff && len(field) >= 8 {
					*v = int64(le64(field))
					field = field[8:]
				}
			}
		case 0x7075:
			f.unicodeName(field)
		}
		b = b[4+n:]
	}
}

func (f *zipFile) unicodeName(field []byte) {
	if len(field) < 5 || field[0] != 1 {
		return
	}
	name := string(field[5:])
	plain := f.names[0]
	if len(name) <= 4*maxName {
		f.names = append(f.names, decodeName(field[5:], true)...)
	}
	// Readers that check it take it only when it belongs to the other name.
	if crc32.ChecksumIEEE([]byte(plain)) != le32(field[1:]) && isASCII(plain) && name != plain {
		f.odd = "a Unicode name that belongs to another file"
	} else if isASCII(plain) && isASCII(name) && plain != name {
		f.odd = "two names in one header"
	}
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
