package archive

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// Type is what content is, told from its bytes.
type Type struct {
	// Media type in lower case without parameters, "application/octet-stream"
	// where nothing is known.
	Media string
	// Program says of what kind, "" for none: "pe", "dos", "elf", "mach-o",
	// "java", "jar", "apk", "lnk", "msi", "chm", "script" and others.
	Program string
	// Archive is the kind that Open takes, or can name but not open; "" for none.
	Archive string
	// Document is "ole", "ooxml", "odf", "rtf", "pdf", "onenote" or "access":
	// those may hold code; Office looks into the first three. Such a document
	// isn't an Archive as well, though most are zips.
	Document string
	// Also is an archive that the content is as well: a zip behind a picture.
	Also string
}

// headLen is how much shows all that can be seen at the beginning: an ISO image
// has its mark behind 32 KB.
const headLen = 36 << 10

const unknownMedia = "application/octet-stream"

// Detect tells what content is from its beginning, of which it looks at 36 KB.
func Detect(head []byte) Type {
	head = head[:min(len(head), headLen)]
	t := Type{Media: unknownMedia}
	if m, _, _ := strings.Cut(mimetype.Detect(head[:min(len(head), 3072)]).String(), ";"); m != "" {
		t.Media = strings.ToLower(m)
	}
	if byMagic(&t, head) {
		return t
	}
	byMedia(&t)
	if t.Program == "" && t.Archive == "" {
		byText(&t, head)
	}
	if t.Archive == "" {
		t.Also = embedded(head)
	}
	return t
}

// DetectFile also looks at the end, where zip and disk images have their mark.
func DetectFile(r io.ReaderAt, size int64) Type {
	head := make([]byte, min(size, headLen))
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		n = 0
	}
	t := Detect(head[:n])
	isZip := t.Archive == "zip" || t.Document == "ooxml" || t.Document == "odf"
	switch names := zipNames(r, size); {
	case names == nil:
	case isZip:
		t.Document = ""
		t.Archive = "zip"
		byZipNames(&t, names)
	case t.Also == "":
		t.Also = "zip"
	}
	if t.Archive == "" && t.Document == "" {
		byFooter(&t, r, size)
	}
	return t
}

// byMedia says what follows from a media type that the library found.
func byMedia(t *Type) {
	switch t.Media {
	case "application/java-archive":
		t.Program = "jar"
	case "application/vnd.android.package-archive":
		t.Program = "apk"
	case "application/x-ms-installer":
		t.Program = "msi"
	case "text/x-shellscript", "text/x-perl", "text/x-python", "text/x-ruby", "text/x-tcl", "text/x-php", "text/x-lua":
		t.Program = "script"
	}
}

// byZipNames tells documents and programs from other zips, by what lies in them.
func byZipNames(t *Type, names map[string]bool) {
	has := func(n string) bool { return names[n] }
	switch {
	case has("[content_types].xml") && has("_rels/.rels"):
		t.Document, t.Archive = "ooxml", ""
		if t.Media == "application/zip" || t.Media == unknownMedia {
			t.Media = "application/vnd.openxmlformats-officedocument"
		}
	case has("mimetype") && has("meta-inf/manifest.xml"):
		t.Document, t.Archive = "odf", ""
	case has("androidmanifest.xml"):
		t.Program, t.Media = "apk", "application/vnd.android.package-archive"
	case has("meta-inf/manifest.mf"):
		t.Program, t.Media = "jar", "application/java-archive"
	case strings.HasPrefix(t.Media, "application/vnd.openxmlformats"),
		strings.HasPrefix(t.Media, "application/vnd.oasis"):
		t.Media = "application/zip"
	}
}

// zipNames gives names in lower case out of a zip's directory, enough to know
// what it is; nil where there is no directory.
func zipNames(r io.ReaderAt, size int64) map[string]bool {
	const most = 512
	ends, err := zipEnds(r, size)
	if err != nil {
		return nil
	}
	for _, at := range ends {
		d, err := readEnd(r, at)
		if err != nil {
			continue
		}
		for _, base := range []int64{d.base, 0} {
			if base < 0 || d.at > size-base {
				continue
			}
			b := make([]byte, min(size-base-d.at, 64<<10))
			n, _ := r.ReadAt(b, base+d.at)
			names := map[string]bool{}
			for b = b[:n]; len(names) < most; {
				f, length, err := readCentral(b)
				if err != nil {
					break
				}
				names[strings.ToLower(strings.ReplaceAll(f.names[0], `\`, "/"))] = true
				b = b[length:]
			}
			if len(names) > 0 {
				return names
			}
		}
	}
	return nil
}

// byFooter knows disk images by their last sector.
func byFooter(t *Type, r io.ReaderAt, size int64) {
	var foot [512]byte
	if size < int64(len(foot)) {
		return
	}
	if _, err := r.ReadAt(foot[:], size-int64(len(foot))); err != nil && !errors.Is(err, io.EOF) {
		return
	}
	switch {
	case bytes.HasPrefix(foot[:], []byte("conectix")):
		t.Media, t.Archive = "application/x-vhd", "vhd"
	case bytes.HasPrefix(foot[:], []byte("koly")):
		t.Media, t.Archive = "application/x-apple-diskimage", "dmg"
	}
}

// embedded finds an archive behind something else.
func embedded(head []byte) string {
	for _, m := range []struct{ sig, kind string }{
		{"Rar!\x1a\x07", "rar"}, {"7z\xbc\xaf\x27\x1c\x00", "7z"},
	} {
		if bytes.Contains(head, []byte(m.sig)) {
			return m.kind
		}
	}
	return ""
}
