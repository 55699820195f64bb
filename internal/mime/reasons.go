package mime

import "slices"

// The reasons in Inside.Ambiguous, beside those of archives, which begin with
// "archive: " and "office: ".
const (
	TypeDiffers      = "content-type"         // several types, or one that can't be read, in one header
	EncodingDiffers  = "transfer-encoding"    // several encodings, or a misspelt one
	BoundaryDiffers  = "boundary"             // several boundaries, or one that programs read in different ways
	BoundaryMissing  = "boundary-missing"     // a multipart without boundary
	BoundaryNested   = "boundary-nested"      // a multipart with the boundary of one around it, or one that begins with it
	DelimiterDiffers = "delimiter"            // a line that is a delimiter to some programs only
	DelimiterStray   = "stray-delimiter"      // a delimiter outside of its multipart
	NoDelimiter      = "no-delimiter"         // a multipart in which its boundary does not occur
	AfterClose       = "after-close"          // parts behind the closing delimiter
	Preamble         = "preamble"             // something like a part in front of the first one
	Epilogue         = "epilogue"             // something like a part behind the last one
	HeaderEnd        = "header-end"           // a line that ends the header to some programs only
	HeaderSyntax     = "header-syntax"        // a line in a header that is no field
	BareCR           = "bare-cr"              // a CR alone where structure is
	LineEnds         = "line-ends"            // LF and CRLF mixed where structure is
	NameDiffers      = "name"                 // names with different extensions for one part
	Disposition      = "disposition"          // several dispositions
	EncodedMultipart = "encoded-multipart"    // a multipart behind a transfer encoding
	Base64           = "base64"               // base64 that decoders read in different ways
	QuotedPrintable  = "quoted-printable"     // the same
	Undeclared       = "undeclared-multipart" // what looks like a multipart and is not declared as one
)

// The reasons in Inside.Unseen, beside those of archives.
const (
	OverDepth    = "depth"         // parts deeper than the limit
	OverParts    = "parts"         // more parts than the limit
	OverDecoded  = "decoded"       // more content than the limit
	OverTime     = "time"          // longer than the limit
	OverWork     = "work"          // readings that cost far more than the message's size
	OverHeader   = "header"        // a header larger than the limit
	OverReadings = "readings"      // more readings of one header than are followed
	Partial      = "partial"       // message/partial: the rest is in other messages
	ExternalBody = "external-body" // message/external-body: the content is elsewhere
	SignedInside = "signed-inside" // signed content that could not be taken out of its signature
	Unreadable   = "unreadable"    // the message could not be read
	Visited      = "visited"       // who was shown the parts wanted no more
)

func (w *walker) ambiguous(reason string) { w.inside.Ambiguous = once(w.inside.Ambiguous, reason) }
func (w *walker) unseen(reason string)    { w.inside.Unseen = once(w.inside.Unseen, reason) }

// maxReasons bounds what archives have to say.
const maxReasons = 50

func once(list []string, s string) []string {
	if s == "" || len(list) >= maxReasons || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
