package archive

import (
	"bytes"
	"strconv"
	"strings"
)

// mark is a mark at a fixed place, and what it means.
type mark struct {
	at   int
	sig  string
	what Type
}

func archiveOf(media, kind string) Type { return Type{Media: media, Archive: kind} }

// marks are those that the library doesn't know, or that decide here: what is an
// archive must not depend on the order in which a library asks.
func marks() []mark {
	return []mark{
		{0, "PK\x03\x04", archiveOf("application/zip", "zip")},
		{0, "PK\x05\x06", archiveOf("application/zip", "zip")},
		{0, "PK\x07\x08PK\x03\x04", archiveOf("application/zip", "zip")},
		{0, "PK00PK\x03\x04", archiveOf("application/zip", "zip")},
		{0, "7z\xbc\xaf\x27\x1c", archiveOf("application/x-7z-compressed", "7z")},
		{0, "Rar!\x1a\x07", archiveOf("application/vnd.rar", "rar")},
		{0, "RE~^", archiveOf("application/vnd.rar", "rar-1.4")},
		{0, "\x1f\x8b", archiveOf("application/gzip", "gz")},
		{0, "\xfd7zXZ\x00", archiveOf("application/x-xz", "xz")},
		{0, "\x28\xb5\x2f\xfd", archiveOf("application/zstd", "zst")},
		{0, "\x1f\x9d", archiveOf("application/x-compress", "z")},
		{0, "\x1f\xa0", archiveOf("application/x-compress", "z")},
		{0, "LZIP\x01", archiveOf("application/x-lzip", "lzip")},
		{0, "\x04\x22\x4d\x18", archiveOf("application/x-lz4", "lz4")},
		{0, "\x89LZO\x00", archiveOf("application/x-lzop", "lzop")},
		{0, "MSCF\x00\x00\x00\x00", archiveOf("application/vnd.ms-cab-compressed", "cab")},
		{0, "ISc(", archiveOf("application/x-installshield", "installshield-cab")},
		{0, "\x60\xea", archiveOf("application/x-arj", "arj")},
		{7, "**ACE**", archiveOf("application/x-ace-compressed", "ace")},
		{0, "EGGA", archiveOf("application/x-egg", "egg")},
		{0, "ALZ\x01", archiveOf("application/x-alz", "alz")},
		{0, "ZOO ", archiveOf("application/x-zoo", "zoo")},
		{0, "xar!", archiveOf("application/x-xar", "xar")},
		{0, "!<arch>\n", archiveOf("application/x-archive", "ar")},
		{0, "070701", archiveOf("application/x-cpio", "cpio")},
		{0, "070702", archiveOf("application/x-cpio", "cpio")},
		{0, "070707", archiveOf("application/x-cpio", "cpio")},
		{0, "\xed\xab\xee\xdb", archiveOf("application/x-rpm", "rpm")},
		{0, "MSWIM\x00\x00\x00", archiveOf("application/x-ms-wim", "wim")},
		{0, "vhdxfile", archiveOf("application/x-vhdx", "vhdx")},
		{0, "conectix", archiveOf("application/x-vhd", "vhd")},
		{0, "KDMV", archiveOf("application/x-vmdk", "vmdk")},
		{0, "QFI\xfb", archiveOf("application/x-qcow2", "qcow2")},
		{0, "hsqs", archiveOf("application/x-squashfs", "squashfs")},
		{0x8001, "CD001", archiveOf("application/x-iso9660-image", "iso")},
		{0x8001, "BEA01", archiveOf("application/x-udf", "udf")},

		{0, "\x7fELF", Type{Media: "application/x-executable", Program: "elf"}},
		{0, "\xfe\xed\xfa\xce", Type{Media: "application/x-mach-binary", Program: "mach-o"}},
		{0, "\xfe\xed\xfa\xcf", Type{Media: "application/x-mach-binary", Program: "mach-o"}},
		{0, "\xce\xfa\xed\xfe", Type{Media: "application/x-mach-binary", Program: "mach-o"}},
		{0, "\xcf\xfa\xed\xfe", Type{Media: "application/x-mach-binary", Program: "mach-o"}},
		{0, "\x00asm", Type{Media: "application/wasm", Program: "wasm"}},
		{0, "dex\n03", Type{Media: "application/vnd.android.dex", Program: "dex"}},
		{0, "L\x00\x00\x00\x01\x14\x02\x00", Type{Media: "application/x-ms-shortcut", Program: "lnk"}},
		{0, "ITSF\x03\x00\x00\x00", Type{Media: "application/vnd.ms-htmlhelp", Program: "chm"}},
		{0, "?_\x03\x00", Type{Media: "application/winhlp", Program: "hlp"}},
		{0, "FWS", Type{Media: "application/x-shockwave-flash", Program: "flash"}},
		{0, "CWS", Type{Media: "application/x-shockwave-flash", Program: "flash"}},
		{0, "ZWS", Type{Media: "application/x-shockwave-flash", Program: "flash"}},

		{0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Type{Document: "ole"}},
		{0, "{\\rt", Type{Media: "text/rtf", Document: "rtf"}},
		{0, "\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", Type{Media: "application/onenote", Document: "onenote"}},
		{4, "Standard Jet DB", Type{Media: "application/vnd.ms-access", Document: "access"}},
		{4, "Standard ACE DB", Type{Media: "application/vnd.ms-access", Document: "access"}},
		{0, "\x78\x9f\x3e\x22", archiveOf("application/vnd.ms-tnef", "tnef")},
	}
}

// byMagic fills in t and says whether something was found.
func byMagic(t *Type, head []byte) bool {
	for _, m := range marks() {
		if len(head) < m.at || !strings.HasPrefix(string(head[m.at:min(len(head), m.at+len(m.sig))]), m.sig) {
			continue
		}
		if doubtful(m.sig, head) {
			continue
		}
		found := m.what
		if found.Media == "" || found.Archive == "zip" || found.Document == "ole" {
			// The library tells documents and programs from the rest.
			found.Media = t.Media
			if t.Media == unknownMedia && found.Archive == "zip" {
				found.Media = "application/zip"
			}
			byMedia(&found)
			zipDocument(&found)
		}
		*t = found
		return true
	}
	return byStructure(t, head)
}

// doubtful: a short mark that ordinary text may begin with needs more.
func doubtful(sig string, head []byte) bool {
	switch sig {
	case "FWS", "CWS", "ZWS": // a version, and a length
		return len(head) < 8 || head[3] == 0 || head[3] > 60 || head[7] >= ' '
	case "\x60\xea":
		return len(head) < 12 || le16(head[2:]) > 2600 || head[10] > 2 && head[6] > 50
	case "070701", "070702", "070707": // more digits
		return len(head) < 64 || strings.Trim(string(head[:64]), "0123456789abcdefABCDEF") != ""
	case "ZOO ", "EGGA", "RE~^", "KDMV", "ISc(", "hsqs", "xar!":
		return bytes.IndexByte(head[:min(len(head), 256)], 0) < 0
	}
	return false
}

// zipDocument is what the library found by the first names in a zip.
func zipDocument(t *Type) {
	switch {
	case strings.HasPrefix(t.Media, "application/vnd.openxmlformats"), t.Media == "application/vnd.ms-visio.drawing.main+xml":
		t.Document, t.Archive = "ooxml", ""
	case strings.HasPrefix(t.Media, "application/vnd.oasis.opendocument"):
		t.Document, t.Archive = "odf", ""
	}
}

// byStructure knows what has no mark that is long enough.
func byStructure(t *Type, head []byte) bool {
	switch {
	case isDOS(head):
		*t = Type{Media: "application/vnd.microsoft.portable-executable", Program: "dos"}
		if at := le32(head[0x3c:]); int64(at)+4 <= int64(len(head)) && string(head[at:at+4]) == "PE\x00\x00" {
			t.Program = "pe"
		}
		t.Also = embedded(head)
	case len(head) >= 8 && string(head[:4]) == "\xca\xfe\xba\xbe":
		*t = Type{Media: "application/x-mach-binary", Program: "mach-o"}
		if head[6] != 0 || head[7] >= 45 {
			*t = Type{Media: "application/x-java-applet", Program: "java"}
		}
	case len(head) >= 10 && string(head[:3]) == "BZh" && head[3] >= '1' && head[3] <= '9' &&
		(string(head[4:10]) == "1AY&SY" || string(head[4:10]) == "\x17rE8P\x90"):
		*t = archiveOf("application/x-bzip2", "bz2")
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18":
		*t = archiveOf("application/zstd", "zst") // a frame to be skipped
	case isTar(head):
		*t = archiveOf("application/x-tar", "tar")
	case isLZMA(head):
		*t = archiveOf("application/x-lzma", "lzma")
	case len(head) > 21 && head[2] == '-' && head[3] == 'l' && (head[4] == 'h' || head[4] == 'z') && head[6] == '-':
		*t = archiveOf("application/x-lzh-compressed", "lzh")
	case bytes.Contains(head[:min(len(head), 1024)], []byte("%PDF-")):
		*t = Type{Media: "application/pdf", Document: "pdf"}
		t.Also = embedded(head)
	default:
		return false
	}
	return true
}

// isDOS: text may begin with MZ as well, but has no zeros in a header.
func isDOS(head []byte) bool {
	return len(head) >= 64 && (head[0] == 'M' && head[1] == 'Z' || head[0] == 'Z' && head[1] == 'M') &&
		bytes.IndexByte(head[:64], 0) >= 0
}

// isTar compares the check sum, which all flavours have.
func isTar(head []byte) bool {
	if len(head) < 512 || head[0] == 0 {
		return false
	}
	want, err := strconv.ParseUint(strings.Trim(string(head[148:156]), " \x00"), 8, 32)
	if err != nil {
		return false
	}
	var sum, signed int64
	for i, c := range head[:512] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
		signed += int64(int8(c))
	}
	return int64(want) == sum || int64(want) == signed
}

// isLZMA: the usual properties, a dictionary of a power of two or three, and a
// size that is unknown or possible.
func isLZMA(head []byte) bool {
	if len(head) < 14 || head[0] != 0x5d || head[13] != 0 {
		return false
	}
	dict, size := le32(head[1:]), le64(head[5:])
	round := dict&(dict-1) == 0 || dict%3 == 0 && (dict/3)&(dict/3-1) == 0
	return dict >= 1<<12 && round && (size == 1<<64-1 || size < 1<<40)
}
