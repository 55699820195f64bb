package clamav

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
)

// This file doubts clamd's OK. It looks for encrypted archives and documents in
// a body, raw and decoded from base64, and reads no MIME structure: whatever
// part a line belongs to, its base64 characters are decoded, beginning anew at
// lines that look like a header field or a boundary.
//
// It sees: zip members with the encryption bit, RAR whose header or first file
// is encrypted, 7-Zip whose header is encrypted or, as with a single file, not
// compressed, and Office documents with a password.
// It does not see: what is in another encoding (quoted-printable, uuencode),
// encrypted PDF, archives compressed into another archive, 7-Zip with a
// compressed header, or base64 that was cut up with the intent to hide.

// opaque names the first thing in body that can't be looked into, or returns
// "".
func opaque(body io.Reader) (string, error) {
	var raw, decoded marks
	var b64 decoder
	r := bufio.NewReaderSize(body, 32<<10)
	for begins := true; ; {
		line, err := r.ReadSlice('\n')
		raw.add(line)
		if begins && startsAnew(line) {
			b64.reset()
		} else {
			decoded.add(b64.decode(line))
		}
		if raw.found != "" || decoded.found != "" {
			break
		}
		begins = err == nil // or the line goes on
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
	return cmp.Or(raw.end(), decoded.end()), nil
}

// startsAnew reports whether line looks like a boundary or a header field, so
// that base64 behind it begins with a whole group.
func startsAnew(line []byte) bool {
	if bytes.HasPrefix(line, []byte("--")) {
		return true
	}
	colon := bytes.IndexByte(line, ':')
	return colon > 0 && !bytes.ContainsAny(line[:colon], " \t")
}

// decoder decodes base64 as the most lenient reader does: what is no base64
// character is skipped.
type decoder struct {
	bits  uint32
	count int // characters in bits
	out   []byte
}

func (d *decoder) reset() { d.count = 0 }

// decode returns what line adds. The result is valid until the next call.
func (d *decoder) decode(line []byte) []byte {
	d.out = d.out[:0]
	for _, c := range line {
		v := base64Value[c]
		if v < 0 {
			if c == '=' {
				d.pad()
			}
			continue
		}
		d.bits = d.bits<<6 | uint32(v)
		if d.count++; d.count == 4 {
			d.out = append(d.out, byte(d.bits>>16), byte(d.bits>>8), byte(d.bits))
			d.count = 0
		}
	}
	return d.out
}

// pad ends a group early.
func (d *decoder) pad() {
	switch d.count {
	case 2:
		d.out = append(d.out, byte(d.bits>>4))
	case 3:
		d.out = append(d.out, byte(d.bits>>10), byte(d.bits>>2))
	}
	d.count = 0
}

var base64Value = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" {
		t[c] = int8(i)
	}
	return t
}()

const (
	markWindow = 32 << 10
	markReach  = 1 << 10 // how far behind its mark an archive is looked at
)

// marks looks for encrypted archives in a stream, through a window.
type marks struct {
	window   []byte
	sevenZip bool // one has begun
	found    string
}

func (m *marks) add(p []byte) {
	if m.found != "" {
		return
	}
	m.window = append(m.window, p...)
	if len(m.window) >= markWindow+markReach {
		m.look(len(m.window) - markReach)
	}
}

// end looks at what is left and returns what was found.
func (m *marks) end() string {
	m.look(len(m.window))
	return m.found
}

// kinds are the marks, and what tells whether the thing behind is encrypted.
var kinds = [...]struct {
	mark      string
	name      string
	encrypted func(b []byte) bool // b begins with the mark
}{
	{"PK\x03\x04", "encrypted zip", func(b []byte) bool { return zipEncrypted(b, 4) }},
	{"PK\x01\x02", "encrypted zip", func(b []byte) bool { return zipEncrypted(b, 6) }},
	{"Rar!\x1a\x07\x00", "encrypted rar", func(b []byte) bool { return rar4Encrypted(b[7:]) }},
	{"Rar!\x1a\x07\x01\x00", "encrypted rar", func(b []byte) bool { return rar5Encrypted(b[8:]) }},
	// The stream of an Office document that holds the encrypted one (MS-OFFCRYPTO 2.3.4).
	{"E\x00n\x00c\x00r\x00y\x00p\x00t\x00e\x00d\x00P\x00a\x00c\x00k\x00a\x00g\x00e\x00", "encrypted document", func([]byte) bool { return true }},
}

const (
	sevenZipMark = "7z\xbc\xaf\x27\x1c"
	// sevenZipAES is the coder 7zAES with properties, in a header.
	sevenZipAES = "\x24\x06\xf1\x07\x01"
)

// look looks for marks that begin in the first n bytes of the window and drops
// these.
func (m *marks) look(n int) {
	for _, k := range kinds {
		for at := 0; m.found == ""; at++ {
			i := bytes.Index(m.window[at:], []byte(k.mark))
			if i < 0 || at+i >= n {
				break
			}
			at += i
			if k.encrypted(m.window[at:min(len(m.window), at+markReach)]) {
				m.found = k.name
			}
		}
	}
	m.sevenZip = m.sevenZip || bytes.Contains(m.window, []byte(sevenZipMark))
	if m.found == "" && m.sevenZip && bytes.Contains(m.window, []byte(sevenZipAES)) {
		m.found = "encrypted 7z"
	}
	m.window = append(m.window[:0], m.window[n:]...)
}

// zipEncrypted reads version, flags and method at off of a local header or a
// directory entry (APPNOTE 4.3.7, 4.3.12).
func zipEncrypted(b []byte, off int) bool {
	if len(b) < off+6 {
		return false
	}
	version, flags, method := b[off], binary.LittleEndian.Uint16(b[off+2:]), binary.LittleEndian.Uint16(b[off+4:])
	const encrypted, maskedHeaders, aes = 1 << 0, 1 << 13, 99
	return version <= 99 && method <= aes && (flags&(encrypted|maskedHeaders) != 0 || method == aes)
}

// rar4Encrypted walks the blocks up to the first file.
func rar4Encrypted(b []byte) bool {
	const (
		mainBlock, fileBlock    = 0x73, 0x74
		mainPassword, hasData   = 0x0080, 0x8000
		filePassword            = 0x0004
		flagsAt, sizeAt, dataAt = 3, 5, 7
	)
	for len(b) >= dataAt+4 {
		kind, flags := b[2], binary.LittleEndian.Uint16(b[flagsAt:])
		size := int(binary.LittleEndian.Uint16(b[sizeAt:]))
		switch {
		case kind == mainBlock && flags&mainPassword != 0:
			return true
		case kind == fileBlock:
			return flags&filePassword != 0
		}
		if flags&hasData != 0 {
			size += int(binary.LittleEndian.Uint32(b[dataAt:]))
		}
		if size < dataAt || size > len(b) {
			return false
		}
		b = b[size:]
	}
	return false
}

// rar5Encrypted walks the headers up to the first file.
func rar5Encrypted(b []byte) bool {
	const (
		fileHeader, encryptionHeader = 2, 4
		hasExtra, hasData            = 1, 2
		encryptionRecord             = 1
	)
	for len(b) > 4 {
		size, n := binary.Uvarint(b[4:])
		if n <= 0 || size == 0 || size > uint64(len(b)-4-n) {
			return false
		}
		header := b[4+n : 4+n+int(size)]
		b = b[4+n+int(size):]
		fields := vints(header)
		kind, flags := fields.next(), fields.next()
		if kind == encryptionHeader {
			return true
		}
		var extra, data uint64
		if flags&hasExtra != 0 {
			extra = fields.next()
		}
		if flags&hasData != 0 {
			data = fields.next()
		}
		if kind == fileHeader {
			if extra == 0 || extra > uint64(len(header)) {
				return false
			}
			record := vints(header[uint64(len(header))-extra:])
			record.next() // its size
			return record.next() == encryptionRecord
		}
		if data > uint64(len(b)) {
			return false
		}
		b = b[data:]
	}
	return false
}

// vints reads the variable integers of RAR 5, which are those of Go. Behind the
// end it reads zeros.
type vints []byte

func (v *vints) next() uint64 {
	x, n := binary.Uvarint(*v)
	if n <= 0 {
		*v = nil
		return 0
	}
	*v = (*v)[n:]
	return x
}
