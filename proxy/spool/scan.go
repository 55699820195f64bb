package spool

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
)

// damage is a part of a segment that no intact record covers.
type damage struct {
	at, end int64
	torn    bool // a write that never ended, and nothing behind it
	why     string
}

// scan is what a segment holds.
type scan struct {
	salt    uint64
	end     int64 // behind the last record
	damaged []damage
	pending []damage // damage with nothing intact behind it so far
}

// scanSegment visits the intact records of a segment in order. What is not one
// is reported as damage; the tail that was never written, or belongs to an
// earlier life of the file, is neither.
func scanSegment(seg []byte, visit func(at int64, f frame, meta, data []byte) error) (scan, bool) {
	salt, ok := readSalt(seg)
	if !ok {
		return scan{}, false
	}
	sc := scan{salt: salt, end: block}
	at := int64(block)
	for at < int64(len(seg)) {
		f, ok := readFrame(seg[at:], salt, at)
		if !ok {
			next, found := nextFrame(seg, salt, at)
			sc.gap(seg, at, next, found)
			if !found {
				break
			}
			at = next
			continue
		}
		end := at + f.size()
		meta, data, ok := f.split(seg[at:])
		switch {
		case !ok:
			sc.broken(seg, f, at)
		default:
			if err := visit(at, f, meta, data); err != nil {
				sc.damage(damage{at: at, end: end, why: err.Error()})
			}
			sc.intact()
			sc.end = end
		}
		at = end
	}
	sc.cut()
	return sc, true
}

// broken notes a record whose frame is sound and whose content is not. Without
// its trailer it was not written to the end.
func (sc *scan) broken(seg []byte, f frame, at int64) {
	end := min(at+f.size(), int64(len(seg)))
	sc.damage(damage{at: at, end: end, torn: !f.complete(seg[at:], sc.salt), why: "checksum"})
}

// gap notes what lies between two records. Zeros up to the next block are the
// end of a batch.
func (sc *scan) gap(seg []byte, at, next int64, found bool) {
	if found {
		if next != roundUp(at) || !zero(seg[at:next]) {
			sc.damage(damage{at: at, end: next, why: "no record"})
		}
		return
	}
	rest := seg[at:]
	var mark [8]byte
	binary.LittleEndian.PutUint64(mark[:], ^sc.salt)
	if i := bytes.LastIndex(rest, mark[:]); i >= 0 {
		sc.damage(damage{at: at, end: at + int64(i) + trailerSize, why: "no frame"})
		return
	}
	binary.LittleEndian.PutUint64(mark[:], sc.salt)
	if bytes.Contains(rest, mark[:]) {
		sc.damage(damage{at: at, end: int64(len(seg)), torn: true, why: "no frame"})
	}
}

func (sc *scan) damage(d damage) { sc.pending = append(sc.pending, d) }

// intact notes that a record was found behind all damage so far: none of it was
// the last write.
func (sc *scan) intact() {
	for _, d := range sc.pending {
		d.torn = false
		sc.damaged = append(sc.damaged, d)
	}
	sc.pending = sc.pending[:0]
}

// cut settles what is at the end: a torn write and all behind it.
func (sc *scan) cut() {
	for i, d := range sc.pending {
		if d.torn {
			d.end = sc.pending[len(sc.pending)-1].end
			sc.damaged = append(sc.damaged, d)
			return
		}
		sc.damaged = append(sc.damaged, sc.pending[i])
		sc.end = d.end
	}
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// readSegment reads a whole file. What the disk can't give is zeros: the
// records there will be found damaged, the others are saved.
func readSegment(f *os.File, buf []byte) (b []byte, bad int, err error) {
	info, err := f.Stat()
	if err != nil {
		return buf, 0, err
	}
	size := info.Size()
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	const chunk = 1 << 20
	for at := int64(0); at < size; at += chunk {
		p := buf[at:min(at+chunk, size)]
		if n, err := f.ReadAt(p, at); n < len(p) && err != nil && err != io.EOF {
			bad += readBlocks(f, p, at)
		}
	}
	return buf, bad, nil
}

// readBlocks reads what it can, block by block, and counts what it can't.
func readBlocks(f *os.File, p []byte, at int64) (bad int) {
	for i := 0; i < len(p); i += block {
		b := p[i:min(i+block, len(p))]
		clear(b)
		if n, err := f.ReadAt(b, at+int64(i)); n < len(b) && err != nil && err != io.EOF {
			clear(b)
			bad++
		}
	}
	return bad
}
