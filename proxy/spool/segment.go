package spool

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// block is the unit that the content log aligns batches to, and the size of the
// mark at the beginning of a segment.
const block = 4096

func roundUp(n int64) int64 { return (n + block - 1) &^ (block - 1) }

// maxSegment is the largest size that may be configured.
const maxSegment = 1 << 30

const (
	segmentSuffix = ".log"
	spareSuffix   = ".spare"
)

// segment is one file of a log. Records are only ever added; a segment found at
// start-up is never written again.
type segment struct {
	num  uint32
	salt uint64
	name string
	file *os.File

	// For the writer.
	end  int64 // behind the last record
	room int64 // bytes allotted

	// Guarded by Spool.mu.
	size    int64 // end, for others than the writer
	bytes   int64 // of live records
	live    int   // content: records with messages; progress: records that count
	records map[*record]struct{}
	// gone holds the IDs of messages removed from this content segment, each
	// with its length before it, by the number of the progress segment that
	// says so. That record must stay as long as this segment does.
	gone   map[uint32][]byte
	sealed time.Time // when the log went on to the next one; zero: it did not
	keep   bool      // holds something that could not be set aside
	failed bool      // a write or sync failed: what is in it is not durable
	unfit  bool      // failed, cut or shared: not to be written again
	stuck  bool      // could not be compacted; not tried again
}

func newSegment(num uint32, name string, file *os.File) *segment {
	return &segment{num: num, name: name, file: file, records: map[*record]struct{}{}, gone: map[uint32][]byte{}}
}

func segmentName(num uint32) string { return fmt.Sprintf("%08d%s", num, segmentSuffix) }

// segmentNumber reads a file name. Eight digits keep names in order; more are
// taken too.
func segmentNumber(name, suffix string) (uint32, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) < 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), err == nil && fmt.Sprintf("%08d", n) == digits
}

// The mark at the beginning of a segment.
//
//	 0  "GATEPOST"
//	 8  version, number of the segment
//	16  salt
//	24  CRC-32C of the 24 bytes before
const markSize = 28

const markMagic = "GATEPOST"

func newSalt() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (Go 1.24)
	return binary.LittleEndian.Uint64(b[:])
}

func putMark(b []byte, num uint32, salt uint64) {
	copy(b, markMagic)
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint32(b[12:], num)
	binary.LittleEndian.PutUint64(b[16:], salt)
	binary.LittleEndian.PutUint32(b[24:], sum(0, b[:24]))
}

// readSalt finds the salt of a segment: in its mark or, where that is damaged,
// in its first record.
func readSalt(seg []byte) (salt uint64, ok bool) {
	le := binary.LittleEndian
	if len(seg) >= markSize && string(seg[:8]) == markMagic && le.Uint32(seg[24:]) == sum(0, seg[:24]) {
		return le.Uint64(seg[16:]), true
	}
	if len(seg) < block+frameSize {
		return 0, false
	}
	salt = le.Uint64(seg[block:])
	_, ok = readFrame(seg[block:], salt, block)
	return salt, ok
}

// mark writes the mark; the salt makes all records before it void.
func (sg *segment) mark() error {
	b := make([]byte, block)
	sg.salt = newSalt()
	putMark(b, sg.num, sg.salt)
	sg.end = block
	_, err := sg.file.WriteAt(b, 0)
	return err
}

// allocate reserves size bytes, or less when the disk has no more: a write to
// them can't find the disk full.
func (sg *segment) allocate(size, least int64) error {
	for {
		err := ignoreEINTR(func() error { return unix.Fallocate(int(sg.file.Fd()), 0, 0, size) })
		switch {
		case err == nil, errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			sg.room = size
			return nil
		case !errors.Is(err, unix.ENOSPC) || size == least:
			return fmt.Errorf("allocate: %w", err)
		}
		size = max(size/4, least)
	}
}

// write writes all of iovs at offset at.
func (sg *segment) write(iovs [][]byte, at int64) error {
	for len(iovs) > 0 {
		n, err := unix.Pwritev(int(sg.file.Fd()), iovs[:min(len(iovs), maxIovs)], at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", sg.name, err)
		}
		if n == 0 {
			return fmt.Errorf("write %s: %w", sg.name, io.ErrShortWrite)
		}
		at += int64(n)
		iovs = skip(iovs, n)
	}
	return nil
}

const maxIovs = 1024 // IOV_MAX

// skip drops the first n bytes. The slices behind iovs stay as they are, but
// iovs itself is changed.
func skip(iovs [][]byte, n int) [][]byte {
	for len(iovs) > 0 && n >= len(iovs[0]) {
		n -= len(iovs[0])
		iovs = iovs[1:]
	}
	if n > 0 {
		iovs[0] = iovs[0][n:]
	}
	return iovs
}

func (sg *segment) sync() error {
	err := ignoreEINTR(func() error { return unix.Fdatasync(int(sg.file.Fd())) })
	if err != nil {
		return fmt.Errorf("sync %s: %w", sg.name, err)
	}
	return nil
}

func ignoreEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
