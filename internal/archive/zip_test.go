package archive

import (
	"archive/zip"
	"bytes"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
)

func plainFile(name, text string) rawZip { return rawZip{local: name, central: name, text: text} }

func unicodeName(plain, name string) string {
	var b bytes.Buffer
	put(&b, uint16(0x7075), uint16(5+len(name)), byte(1), crc32.ChecksumIEEE([]byte(plain)), name)
	return b.String()
}

// TestZipViews: what any unpacker would see is seen, and told (M11).
func TestZipViews(t *testing.T) {
	two := handZip(plainFile("a.txt", "one"))
	second := handZip(plainFile("b.exe", "two"))
	overlap := handZip(plainFile("a", strings.Repeat("x", 100)), plainFile("b", "two"))
	// The directory says that the second file is inside the first.
	inside := handZip(rawZip{local: "a", central: "a", text: string(handZip(plainFile("in", "me"))) + "tail"}, plainFile("b", "two"))
	i := bytes.LastIndex(inside, []byte(zipCentral))
	inside[i+42], inside[i+43] = 31, 0
	tests := []struct {
		name      string
		zip       []byte
		files     []string
		ambiguous string // "" for none
		encrypted bool
	}{
		{"ordinary", handZip(plainFile("a.txt", "one"), plainFile("d/b.txt", "two")), []string{"z/a.txt", "z/d/b.txt"}, "", false},
		{"written by the library, with sizes behind", zipped(t, file{"a.txt", "one"}, file{"b.txt", ""}), []string{"z/a.txt", "z/b.txt"}, "", false},
		{"local name differs", handZip(rawZip{local: "a.exe", central: "a.txt", text: "one"}), []string{"z/a.txt"}, "another name", false},
		{"in no directory", handZip(plainFile("a.txt", "one"), rawZip{local: "b.exe", text: "two", unlisted: true}), []string{"z/a.txt", "z/b.exe"}, "in no directory", false},
		{"two archives in a row", slices.Concat(two, second), []string{"z/a.txt", "z/b.exe"}, "two directories", false},
		{"no directory", two[:30+5+3], []string{"z/a.txt"}, "no directory", false},
		{"something before it", slices.Concat([]byte("MZ\x00\x00 stub "), two), []string{"z/a.txt"}, "", false},
		{"something behind it", slices.Concat(two, []byte("surprise")), []string{"z/a.txt"}, "behind the end", false},
		{"the same name twice", handZip(plainFile("a.txt", "one"), plainFile("A.txt", "two")), []string{"z/a.txt", "z/A.txt"}, "same name twice", false},
		{"overlapping", inside, []string{"z/a", "z/a/in", "z/b", "z/b"}, "overlapping", false},
		{"apart", overlap, []string{"z/a", "z/b"}, "", false},
		{"leads out", handZip(plainFile("../../x", "one")), []string{"z/../../x"}, "leads out", false},
		{"leads out by backslash", handZip(plainFile(`..\..\x`, "one")), []string{`z/..\..\x`}, "leads out", false},
		{"absolute", handZip(plainFile("/etc/passwd", "one")), []string{"z//etc/passwd"}, "absolute", false},
		{"drive letter", handZip(plainFile("C:x.exe", "one")), []string{"z/C:x.exe"}, "absolute", false},
		{"NUL in a name", handZip(plainFile("a.txt\x00.exe", "one")), []string{"z/a.txt\x00.exe"}, "control characters", false},
		{"symbolic link", handZip(rawZip{local: "l", central: "l", text: "/etc/passwd", mode: 0o120777}), []string{"z/l"}, "a link with an absolute name", false},
		{"Unicode name of another file", handZip(rawZip{local: "a.txt", central: "a.txt", text: "one", extra: unicodeName("x", "a.exe")}), []string{"z/a.txt"}, "another file", false},
		{"Unicode name that is another", handZip(rawZip{local: "a.txt", central: "a.txt", text: "one", extra: unicodeName("a.txt", "a.exe")}), []string{"z/a.txt"}, "two names", false},
		{"encrypted", handZip(rawZip{local: "a.txt", central: "a.txt", text: "one", flags: 1}), []string{"z/a.txt"}, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, n := bytes.NewReader(tt.zip), int64(len(tt.zip))
			s := &seen{content: map[string]string{}}
			w := lookAs(t, s)
			s.Result = w.open("z", "zip", r, n, 1)
			got := s.names()
			slices.Sort(got)
			slices.Sort(tt.files)
			if !slices.Equal(got, tt.files) {
				t.Errorf("files = %q, want %q (%+v)", got, tt.files, s.Result)
			}
			if tt.ambiguous == "" && len(s.Ambiguous) > 0 || tt.ambiguous != "" && !says(s.Ambiguous, tt.ambiguous) {
				t.Errorf("ambiguous = %q, want %q", s.Ambiguous, tt.ambiguous)
			}
			if s.Encrypted != tt.encrypted {
				t.Errorf("encrypted = %v", s.Encrypted)
			}
		})
	}
}

// TestZipNames: the names of both headers, and the Unicode one, are all told.
func TestZipNames(t *testing.T) {
	s := look(t, "z", handZip(rawZip{local: "a.exe", central: "a.txt", text: "one", extra: unicodeName("a.txt", "ä.scr")}), DefaultLimits())
	e := s.entry(t, "z/a.txt")
	for _, want := range []string{"a.txt", "a.exe", "ä.scr"} {
		if !slices.Contains(e.Names, want) {
			t.Errorf("names = %q, want %q among them", e.Names, want)
		}
	}
}

// TestZip64: the sizes and the end record in their long form.
func TestZip64(t *testing.T) {
	var b bytes.Buffer
	extra := "\x01\x00\x10\x00" + "\x03\x00\x00\x00\x00\x00\x00\x00" + "\x03\x00\x00\x00\x00\x00\x00\x00"
	crc := crc32.ChecksumIEEE([]byte("one"))
	const none = 0xffffffff
	put(&b, zipLocal, uint16(45), uint16(0), uint16(0), uint32(0), crc, uint32(none), uint32(none), uint16(5), uint16(20), "a.txt", extra, "one")
	dir := uint64(b.Len())
	put(&b, zipCentral, uint16(45), uint16(45), uint16(0), uint16(0), uint32(0), crc, uint32(none), uint32(none), uint16(5), uint16(20), uint16(0), uint16(0), uint16(0), uint32(0), uint32(0), "a.txt", extra)
	end := uint64(b.Len())
	put(&b, zipEnd64, uint64(44), uint16(45), uint16(45), uint32(0), uint32(0), uint64(1), uint64(1), end-dir, dir)
	put(&b, "PK\x06\x07", uint32(0), end, uint32(1))
	put(&b, zipEnd, uint16(0), uint16(0), uint16(0xffff), uint16(0xffff), uint32(none), uint32(none), uint16(0))
	if _, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len())); err != nil {
		t.Fatalf("the library doesn't read the test's zip: %v", err)
	}
	s := look(t, "z", b.Bytes(), DefaultLimits())
	if got := s.content["z/a.txt"]; got != "one" || len(s.Ambiguous)+len(s.Unseen) > 0 {
		t.Errorf("content %q, %+v", got, s.Result)
	}
}

// TestZipBehindPicture: a polyglot is shown as what is in it.
func TestZipBehindPicture(t *testing.T) {
	gif := "GIF89a\x01\x00\x01\x00\x00\x00\x00;"
	s := look(t, "a.gif", slices.Concat([]byte(gif), handZip(plainFile("x.exe", "MZ"))), DefaultLimits())
	s.entry(t, "a.gif/x.exe")
	s = look(t, "o.zip", zipped(t, file{"a.gif", gif + string(handZip(plainFile("x.exe", "MZ")))}), DefaultLimits())
	s.entry(t, "o.zip/a.gif/x.exe")
	if typ := s.entry(t, "o.zip/a.gif").Type; typ.Media != "image/gif" || typ.Also != "zip" {
		t.Errorf("type = %+v", typ)
	}
}

// TestZipMethodLie: content is decoded in both ways that the headers name.
func TestZipMethodLie(t *testing.T) {
	b := handZip(plainFile("a.txt", "one"))
	b[bytes.LastIndex(b, []byte(zipCentral))+10] = 8
	s := look(t, "z", b, DefaultLimits())
	if !says(s.Ambiguous, "another method") || s.content["z/a.txt"] != "one" || !says(s.Unseen, "not decoded") {
		t.Errorf("%q %+v", s.content, s.Result)
	}
}
