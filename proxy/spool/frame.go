package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// A record on disk, little-endian:
//
//	 0  salt of the segment
//	 8  offset in the segment
//	12  kind, version, 0, 0
//	16  length of meta
//	20  length of data
//	24  CRC-32C of meta
//	28  CRC-32C of data
//	32  CRC-32C of the 32 bytes before
//	36  meta, data
//	    the salt inverted: a record without it was not written to its end
const (
	frameSize   = 36
	trailerSize = 8

	maxMeta = 16 << 20
	maxData = 64 << 20
)

type kind uint8

const (
	kindContent kind = 1 + iota
	kindSaved
	kindRemoved
)

// version of the fields in meta. Records of all versions up to it are read; what
// is written has this one. Version 2 added the tagged
// fields of an entry and the age of progress.
const version = 2

// frame is what stands before meta and data.
type frame struct {
	kind             kind
	version          uint8 // as read; put writes the present one
	meta, data       int
	metaSum, dataSum uint32
}

// size is that of the whole record.
func (f frame) size() int64 { return frameSize + int64(f.meta) + int64(f.data) + trailerSize }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(crc uint32, p []byte) uint32 { return crc32.Update(crc, castagnoli, p) }

// put writes the frame of a record that goes to offset at.
func (f frame) put(b []byte, salt uint64, at int64) {
	le := binary.LittleEndian
	le.PutUint64(b, salt)
	le.PutUint32(b[8:], uint32(at))
	b[12], b[13], b[14], b[15] = byte(f.kind), version, 0, 0
	le.PutUint32(b[16:], uint32(f.meta))
	le.PutUint32(b[20:], uint32(f.data))
	le.PutUint32(b[24:], f.metaSum)
	le.PutUint32(b[28:], f.dataSum)
	le.PutUint32(b[32:], sum(0, b[:32]))
}

func putTrailer(b []byte, salt uint64) { binary.LittleEndian.PutUint64(b, ^salt) }

// readFrame reads the frame at offset at. Lengths are within the limits when it
// returns true; nothing is said of meta and data.
func readFrame(b []byte, salt uint64, at int64) (frame, bool) {
	le := binary.LittleEndian
	if len(b) < frameSize || le.Uint64(b) != salt || le.Uint32(b[8:]) != uint32(at) || le.Uint32(b[32:]) != sum(0, b[:32]) {
		return frame{}, false
	}
	f := frame{
		kind:    kind(b[12]),
		version: b[13],
		meta:    int(le.Uint32(b[16:])),
		data:    int(le.Uint32(b[20:])),
		metaSum: le.Uint32(b[24:]),
		dataSum: le.Uint32(b[28:]),
	}
	ok := f.version >= 1 && f.version <= version && f.meta <= maxMeta && f.data <= maxData && f.kind >= kindContent && f.kind <= kindRemoved
	return f, ok
}

// split returns meta and data of a record, and whether they are as they were
// written. b begins with the frame.
func (f frame) split(b []byte) (meta, data []byte, ok bool) {
	if int64(len(b)) < f.size()-trailerSize {
		return nil, nil, false
	}
	meta = b[frameSize : frameSize+f.meta]
	data = b[frameSize+f.meta : frameSize+f.meta+f.data]
	return meta, data, sum(0, meta) == f.metaSum && sum(0, data) == f.dataSum
}

// complete reports whether the record's end was written.
func (f frame) complete(b []byte, salt uint64) bool {
	end := f.size()
	return int64(len(b)) >= end && binary.LittleEndian.Uint64(b[end-trailerSize:]) == ^salt
}

// nextFrame looks for a frame at or behind offset at of a segment.
func nextFrame(seg []byte, salt uint64, at int64) (int64, bool) {
	var mark [8]byte
	binary.LittleEndian.PutUint64(mark[:], salt)
	for at < int64(len(seg)) {
		i := bytes.Index(seg[at:], mark[:])
		if i < 0 {
			return 0, false
		}
		at += int64(i)
		if _, ok := readFrame(seg[at:], salt, at); ok {
			return at, true
		}
		at++
	}
	return 0, false
}
