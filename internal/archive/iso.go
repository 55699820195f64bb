package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"unicode/utf16"
)

const (
	isoSector   = 2048
	isoFirst    = 16 // sector of the first volume descriptor
	isoMaxDepth = 32
	isoMaxDir   = 4 << 20
)

// isoWalk lists an ISO 9660 image: the names for everybody, and those of Joliet
// and Rock Ridge that Windows and Unix show.
type isoWalk struct {
	*box
	r     io.ReaderAt
	size  int64
	files []*isoFile
	place map[[2]int64]*isoFile
	dirs  map[int64]bool
	read  int64 // bytes of directories
}

type isoFile struct {
	names    []string
	at, size int64
}

func openISO(x *box, r io.ReaderAt, size int64) error {
	x.plain = true
	z := &isoWalk{box: x, r: r, size: size, place: map[[2]int64]*isoFile{}}
	sector := make([]byte, isoSector)
	for n := int64(isoFirst); n < isoFirst+32; n++ {
		if _, err := r.ReadAt(sector, n*isoSector); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		switch string(sector[1:6]) {
		case "CD001":
		case "NSR02", "NSR03":
			x.unseen("the UDF view of the image")
			continue
		default:
			continue
		}
		if kind := sector[0]; kind != 1 && kind != 2 {
			continue
		}
		joliet := sector[0] == 2 && bytes.HasPrefix(sector[88:], []byte("%/"))
		z.dirs = map[int64]bool{}
		if err := z.directory(sector[156:190], "", joliet, 0); err != nil {
			return err
		}
	}
	for _, f := range z.files {
		var in io.Reader
		if f.at >= 0 && f.at <= size-f.size {
			in = io.NewSectionReader(r, f.at, f.size)
		} else {
			x.tell(&x.res.Unseen, x.name+"/"+f.names[0], "lies outside the image")
		}
		if err := x.file(Entry{Names: f.names, Size: f.size}, in); err != nil {
			return err
		}
	}
	return nil
}

// directory lists the directory that a record points to.
func (z *isoWalk) directory(record []byte, prefix string, joliet bool, depth int) error {
	at := int64(le32(record[2:])) * isoSector
	length := int64(le32(record[10:]))
	if z.dirs[at] || depth > isoMaxDepth {
		z.ambiguous("a directory in itself")
		return nil
	}
	z.dirs[at] = true
	z.read += length
	if z.read > isoMaxDir || at > z.size-length {
		z.unseen("a directory that is cut or too large")
		return nil
	}
	b := make([]byte, length)
	if _, err := z.r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for i := 0; i < len(b); {
		n := int(b[i])
		if n == 0 { // the next record begins with the next sector
			i = (i/isoSector + 1) * isoSector
			continue
		}
		if n < 34 || i+n > len(b) || 33+int(b[i+32]) > n {
			z.unseen("a directory with a bad record")
			return nil
		}
		if err := z.record(b[i:i+n], prefix, joliet, depth); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// record takes one record of a directory, a file or a directory.
func (z *isoWalk) record(rec []byte, prefix string, joliet bool, depth int) error {
	raw := rec[33 : 33+int(rec[32])]
	if len(raw) == 1 && raw[0] <= 1 { // the directory itself, and its parent
		return nil
	}
	if err := z.ctx.Err(); err != nil {
		return err
	}
	if len(z.files)+len(z.dirs)+z.budget.files > z.budget.limits.Files {
		z.unseen("more than %d files", z.budget.limits.Files)
		return errStop
	}
	name := isoName(raw, joliet)
	if rec[25]&2 != 0 {
		return z.directory(rec, prefix+name+"/", joliet, depth+1)
	}
	if rec[25]&0x80 != 0 || rec[26] != 0 {
		z.unseen("%s is in several pieces", prefix+name)
	}
	names := []string{prefix + name}
	if long := rockName(rec[33+len(raw):]); long != "" {
		names = append([]string{prefix + long}, names...)
	}
	f := &isoFile{names: names, at: (int64(le32(rec[2:])) + int64(rec[1])) * isoSector, size: int64(le32(rec[10:]))}
	if binary.BigEndian.Uint32(rec[6:]) != le32(rec[2:]) || binary.BigEndian.Uint32(rec[14:]) != le32(rec[10:]) {
		z.ambiguous("%s: a place or size in two ways", prefix+name)
	}
	key := [2]int64{f.at, f.size}
	if was := z.place[key]; was != nil && f.size > 0 {
		// Joliet's name is the one that Windows shows.
		was.names = append(f.names, was.names...)
		return nil
	}
	z.place[key] = f
	z.files = append(z.files, f)
	return nil
}

// isoName reads a name without its version.
func isoName(raw []byte, joliet bool) string {
	name := string(raw)
	if joliet {
		units := make([]uint16, len(raw)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(raw[2*i:])
		}
		name = string(utf16.Decode(units))
	}
	if i := bytes.IndexByte([]byte(name), ';'); i > 0 {
		name = name[:i]
	}
	return name
}

// rockName finds the Rock Ridge name in the system use area of a record.
func rockName(b []byte) string {
	var name []byte
	for {
		if len(b) > 0 && b[0] == 0 { // padding
			b = b[1:]
			continue
		}
		if len(b) < 4 || int(b[2]) < 4 || int(b[2]) > len(b) {
			return string(name)
		}
		if b[0] == 'N' && b[1] == 'M' && b[2] > 5 {
			name = append(name, b[5:b[2]]...)
		}
		b = b[b[2]:]
	}
}
