package archive

import (
	"errors"
	"io"
	"unicode/utf16"
)

// The compound file format, MS-CFB. It is read by hand: the library copies the
// path of every entry, which a chain of entries makes quadratic (a file of
// 25 MB asks for 300 GB), and it gives up where Office doesn't. All entries of
// the directory are looked at, those that no storage points to as well.
const (
	oleNoSector   = 0xfffffffa // from here on numbers aren't sectors
	oleMaxEntries = 1 << 16
	oleMini       = 64
	oleMiniUpTo   = 4096

	oleStorage = 1
	oleStream  = 2
	oleRoot    = 5
)

var errOLE = errors.New("ole: a header that can't be read")

type oleFile struct {
	r       io.ReaderAt
	size    int64
	sector  int64
	fat     []uint32
	mini    []uint32
	home    []uint32 // sectors that hold the small streams
	entries []oleEntry
	cut     bool // more than is read
}

type oleEntry struct {
	name               string
	kind               byte
	left, right, child uint32
	start              uint32
	size               int64
	parent             int // index of its storage, -1 for none
}

func openOLE(r io.ReaderAt, size int64) (*oleFile, error) {
	var h [512]byte
	if _, err := r.ReadAt(h[:], 0); err != nil || string(h[:8]) != "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" {
		return nil, errOLE
	}
	f := &oleFile{r: r, size: size, sector: 1 << (le16(h[30:]) & 15)}
	if f.sector != 512 && f.sector != 4096 {
		return nil, errOLE
	}
	f.readFAT(h[:])
	if err := f.readDirectory(le32(h[48:])); err != nil {
		return nil, err
	}
	f.mini = f.numbers(f.chain(le32(h[60:])))
	for _, e := range f.entries {
		if e.kind == oleRoot {
			f.home = f.chain(e.start)
			break
		}
	}
	f.findParents()
	return f, nil
}

func (f *oleFile) sectors() int64 { return f.size / f.sector }

// read gives one sector; the last one may be cut.
func (f *oleFile) read(n uint32) []byte {
	b := make([]byte, f.sector)
	if n >= oleNoSector {
		return b[:0]
	}
	got, _ := f.r.ReadAt(b, (int64(n)+1)*f.sector)
	return b[:got]
}

// readFAT reads the table of which sector follows which. A file of n sectors
// needs n numbers: more are not read.
func (f *oleFile) readFAT(h []byte) {
	var places []uint32
	most := int(f.sectors()*4/f.sector) + 2
	for i := 76; i < 512; i += 4 {
		places = append(places, le32(h[i:]))
	}
	for next, seen := le32(h[68:]), 0; next < oleNoSector && seen <= most; seen++ {
		b := f.read(next)
		if len(b) < int(f.sector) {
			break
		}
		for i := 0; i < len(b)-4; i += 4 {
			places = append(places, le32(b[i:]))
		}
		next = le32(b[len(b)-4:])
	}
	var used []uint32
	for _, p := range places {
		if p < oleNoSector && len(used) < most {
			used = append(used, p)
		}
	}
	f.fat = f.numbers(used)
}

// numbers reads whole sectors as a table.
func (f *oleFile) numbers(sectors []uint32) []uint32 {
	var table []uint32
	for _, s := range sectors {
		b := f.read(s)
		for i := 0; i+4 <= int(f.sector); i += 4 {
			n := uint32(oleNoSector)
			if i+4 <= len(b) {
				n = le32(b[i:])
			}
			table = append(table, n)
		}
		if int64(len(table)) > 2*f.sectors()*f.sector/oleMini+1024 {
			break
		}
	}
	return table
}

// chain follows the table to the end; a ring ends where all sectors are used up.
func (f *oleFile) chain(start uint32) []uint32 {
	var chain []uint32
	for n := start; n < oleNoSector && int64(n) < f.sectors() && int64(len(chain)) <= f.sectors(); {
		chain = append(chain, n)
		if int64(n) >= int64(len(f.fat)) {
			break
		}
		n = f.fat[n]
	}
	return chain
}

func (f *oleFile) readDirectory(start uint32) error {
	for _, s := range f.chain(start) {
		b := f.read(s)
		for i := 0; i+128 <= len(b); i += 128 {
			if len(f.entries) >= oleMaxEntries {
				f.cut = true
				return nil
			}
			f.entries = append(f.entries, readOLEEntry(b[i:i+128], f.sector == 512))
		}
	}
	if len(f.entries) == 0 {
		return errOLE
	}
	return nil
}

func readOLEEntry(b []byte, short bool) oleEntry {
	e := oleEntry{
		kind: b[66], left: le32(b[68:]), right: le32(b[72:]), child: le32(b[76:]),
		start: le32(b[116:]), size: int64(le64(b[120:]) & (1<<62 - 1)), parent: -1,
	}
	if short { // the upper half may hold anything in version 3
		e.size &= 1<<32 - 1
	}
	var units []uint16
	for i := 0; i < min(int(le16(b[64:])), 64)-2; i += 2 {
		units = append(units, le16(b[i:]))
	}
	e.name = string(utf16.Decode(units))
	return e
}

// findParents walks the tree below each storage.
func (f *oleFile) findParents() {
	seen := make([]bool, len(f.entries))
	for i, e := range f.entries {
		if e.kind != oleStorage && e.kind != oleRoot {
			continue
		}
		for stack := []uint32{e.child}; len(stack) > 0; {
			n := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if int64(n) >= int64(len(f.entries)) || seen[n] {
				continue
			}
			seen[n] = true
			f.entries[n].parent = i
			stack = append(stack, f.entries[n].left, f.entries[n].right)
		}
	}
}

// content reads a stream, most bytes of it at most. What the file does not have
// is left out.
func (f *oleFile) content(e oleEntry, most int64) []byte {
	want := min(e.size, most, f.size)
	var b []byte
	if e.size < oleMiniUpTo {
		for n := e.start; n < oleNoSector && int64(len(b)) < want; {
			b = append(b, f.miniSector(n)...)
			if int64(n) >= int64(len(f.mini)) {
				break
			}
			n = f.mini[n]
		}
		return b[:min(int64(len(b)), want)]
	}
	steps := f.sectors()
	for n := e.start; n < oleNoSector && int64(len(b)) < want && steps >= 0; steps-- {
		b = append(b, f.read(n)...)
		if int64(n) >= int64(len(f.fat)) {
			break
		}
		n = f.fat[n]
	}
	return b[:min(int64(len(b)), want)]
}

// miniSector reads 64 bytes out of the stream of small streams. Where there are
// none it gives zeros, so that a chain always ends.
func (f *oleFile) miniSector(n uint32) []byte {
	b := make([]byte, oleMini)
	at := int64(n) * oleMini
	if i := at / f.sector; i < int64(len(f.home)) {
		_, _ = f.r.ReadAt(b, (int64(f.home[i])+1)*f.sector+at%f.sector)
	}
	return b
}
