package archive

import (
	"context"
	"io"
)

// OfficeReport is what is in an Office document beside text.
type OfficeReport struct {
	Macros    bool // VBA, Excel 4 macros, or a template with them from elsewhere
	Encrypted bool // can't be read without a password
	// External: a template, object or frame is loaded from elsewhere, or DDE runs a program.
	External []string
	// Embedded files, which are no part of the document itself: packages and
	// whatever else lies in it. Whole says that the type was told from all of it.
	Embedded  []Entry
	Ambiguous []string // such as macros in a document whose type says it has none
	Unseen    []string // what couldn't be read
}

// Office looks into a document that Detect calls "ole", "ooxml" or "odf".
func Office(ctx context.Context, r io.ReaderAt, size int64, b *Budget) (OfficeReport, error) {
	return OfficeReport{}, nil
}
