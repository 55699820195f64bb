package testkit

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unicode/utf16"
)

// Pack has a program make an archive of one file: command runs where the file
// lies and makes out, or writes the archive to its standard output.
func Pack(t T, pkg, name string, content []byte, out string, command ...string) []byte {
	t.Helper()
	program := Program(t, command[0], pkg)
	dir := Dir(t)
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
		t.Fatalf("%v", err)
	}
	cmd := exec.Command(program, command[1:]...)
	cmd.Dir = dir
	said, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v", command, err)
	}
	if made, err := os.ReadFile(filepath.Join(dir, out)); err == nil {
		return made
	}
	return said
}

// Tar returns an archive with one file.
func Tar(name string, content []byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // a bytes.Buffer takes everything
	}
	return b.Bytes()
}

// little writes values in little endian, strings as they are.
func little(b *bytes.Buffer, values ...any) {
	for _, v := range values {
		if s, ok := v.(string); ok {
			b.WriteString(s)
			continue
		}
		_ = binary.Write(b, binary.LittleEndian, v) // a bytes.Buffer takes everything
	}
}

func rarNumber(n int) string { return string(binary.AppendUvarint(nil, uint64(n))) }

// RAR5 returns an archive of RAR 5 with one stored file. No free program writes
// them.
func RAR5(name string, content []byte) []byte {
	var b, sum bytes.Buffer
	b.WriteString("Rar!\x1a\x07\x01\x00")
	block := func(fields string, data []byte) {
		body := rarNumber(len(fields)) + fields
		little(&b, crc32.ChecksumIEEE([]byte(body)), body, data)
	}
	block(rarNumber(1)+rarNumber(0)+rarNumber(0), nil)
	little(&sum, crc32.ChecksumIEEE(content))
	size := rarNumber(len(content))
	block(rarNumber(2)+rarNumber(2)+size+rarNumber(4)+size+rarNumber(0o100644)+sum.String()+rarNumber(0)+rarNumber(1)+rarNumber(len(name))+name, content)
	block(rarNumber(5)+rarNumber(0)+rarNumber(0), nil)
	return b.Bytes()
}

// RAR4 returns an archive of the older format with one stored file; locked says
// of the file that it is encrypted.
func RAR4(name string, content []byte, locked bool) []byte {
	var b bytes.Buffer
	b.WriteString("Rar!\x1a\x07\x00")
	block := func(kind byte, flags uint16, rest, data string) {
		var h bytes.Buffer
		little(&h, kind, flags, uint16(7+len(rest)), rest)
		little(&b, uint16(crc32.ChecksumIEEE(h.Bytes())), h.String(), data)
	}
	block(0x73, 0, "\x00\x00\x00\x00\x00\x00", "")
	var h bytes.Buffer
	size, flags := uint32(len(content)), uint16(0x8000)
	if locked {
		flags |= 4
	}
	little(&h, size, size, byte(3), crc32.ChecksumIEEE(content), uint32(0x21<<16), byte(20), byte(0x30), uint16(len(name)), uint32(0o100644), name)
	block(0x74, flags, h.String(), string(content))
	block(0x7b, 0x4000, "", "")
	return b.Bytes()
}

const isoSector = 2048

// ISO returns an image of a CD with one file: A.EXE, with a name of Rock Ridge,
// in a folder, and the same content under a name of Joliet.
func ISO(long, joliet string, content []byte) []byte {
	b := make([]byte, 25*isoSector+(len(content)/isoSector+1)*isoSector)
	volume := func(n int, kind byte, escape string, root uint32) {
		s := b[n*isoSector:]
		s[0] = kind
		copy(s[1:], "CD001\x01")
		copy(s[88:], escape)
		copy(s[156:], isoRecord("\x00", "", root, isoSector, 2))
	}
	volume(16, 1, "", 20)
	volume(17, 2, "%/E", 22)
	copy(b[18*isoSector:], "\xffCD001\x01")
	self := isoRecord("\x00", "", 20, isoSector, 2) + isoRecord("\x01", "", 20, isoSector, 2)
	copy(b[20*isoSector:], self+isoRecord("D", "", 21, isoSector, 2))
	copy(b[21*isoSector:], self+isoRecord("A.EXE;1", "NM"+string(rune(5+len(long)))+"\x01\x00"+long, 24, uint32(len(content)), 0))
	var wide bytes.Buffer
	_ = binary.Write(&wide, binary.BigEndian, utf16.Encode([]rune(joliet)))
	copy(b[22*isoSector:], self+isoRecord(wide.String(), "", 24, uint32(len(content)), 0))
	copy(b[24*isoSector:], content)
	return b
}

func isoRecord(name, rest string, sector, size uint32, flags byte) string {
	both := func(n uint32) string {
		return string(binary.BigEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, n), n))
	}
	var b bytes.Buffer
	little(&b, byte(0), both(sector), both(size), strings.Repeat("\x00", 7), flags, byte(0), byte(0), "\x01\x00\x00\x01", byte(len(name)), name)
	if len(name)%2 == 0 {
		b.WriteByte(0)
	}
	b.WriteString(rest)
	if b.Len()%2 == 0 {
		b.WriteByte(0)
	}
	return string([]byte{byte(b.Len() + 1)}) + b.String()
}

// Winmail returns a winmail.dat with one attachment.
func Winmail(name string, content []byte) []byte { return tnef(name, content) }

// UUEncode returns a text with an encoded file in it.
func UUEncode(name string, content []byte) string { return uuencode(name, content) }

// OLEPackage returns a compound file with a file in it as Windows' packager
// embeds one into a document.
func OLEPackage(name string, content []byte) []byte {
	const sector, end = 512, 0xfffffffe
	var native bytes.Buffer
	little(&native, uint32(0), uint16(2), name, byte(0), name, byte(0), uint32(0x30000), uint32(len(name)+1), name, byte(0), uint32(len(content)), content)
	native.Write(make([]byte, max(0, 4096-native.Len()))) // below it would be in the small streams
	size := native.Len()
	binary.LittleEndian.PutUint32(native.Bytes(), uint32(size-4))
	native.Write(make([]byte, (sector-size%sector)%sector))
	var dir bytes.Buffer
	entry := func(name string, kind byte, child, start, size uint32) {
		raw := make([]byte, 64)
		units := utf16.Encode([]rune(name))
		for i, u := range units {
			binary.LittleEndian.PutUint16(raw[2*i:], u)
		}
		little(&dir, raw, uint16(2*len(units)+2), kind, byte(1), uint32(0xffffffff), uint32(0xffffffff), child,
			strings.Repeat("\x00", 36), start, size, uint32(0))
	}
	entry("Root Entry", 5, 1, end, 0)
	entry("\x01Ole10Native", 2, 0xffffffff, 2, uint32(size))
	dir.Write(make([]byte, sector-dir.Len()))
	var h, fat bytes.Buffer
	little(&h, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", strings.Repeat("\x00", 16), uint16(0x3e), uint16(3), uint16(0xfffe), uint16(9), uint16(6),
		strings.Repeat("\x00", 6), uint32(0), uint32(1), uint32(1), uint32(0), uint32(4096), uint32(end), uint32(0), uint32(end), uint32(0), uint32(0))
	h.WriteString(strings.Repeat("\xff", 4*108))
	little(&fat, uint32(0xfffffffd), uint32(end)) // the table itself, the directory
	for i := range native.Len() / sector {
		if next := uint32(i + 3); (i+1)*sector < native.Len() {
			little(&fat, next)
		}
	}
	little(&fat, uint32(end))
	fat.WriteString(strings.Repeat("\xff", sector-fat.Len()))
	return bytes.Join([][]byte{h.Bytes(), fat.Bytes(), dir.Bytes(), native.Bytes()}, nil)
}
