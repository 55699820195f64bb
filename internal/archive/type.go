package archive

import "io"

// Type is what content is, told from its bytes.
type Type struct {
	// Media type in lower case without parameters, "application/octet-stream"
	// where nothing is known.
	Media string
	// Program says for what system, "" for none: "pe", "dos", "elf", "mach-o",
	// "java", "lnk", "msi", "script", "hta", "jar", "apk", "chm", "autorun"…
	Program string
	// Archive is the kind that Open takes, or can name but not open; "" for none.
	Archive string
	// Document is "ole", "ooxml", "odf", "rtf", "pdf" or "onenote": those may
	// hold code; Office looks into the first three.
	Document string
	// Also is an archive that the content is as well: a zip behind a picture.
	Also string
}

// Detect tells what content is from its beginning; 36 KB of it show all that
// can be seen there.
func Detect(head []byte) Type { return detect(head) }

// DetectFile also looks at the end, where zip and disk images have their mark.
func DetectFile(r io.ReaderAt, size int64) Type { return detectFile(r, size) }
