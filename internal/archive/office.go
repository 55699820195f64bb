package archive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
)

// OfficeReport is what is in an Office document beside text.
type OfficeReport struct {
	Macros    bool // VBA, Excel 4 macros, ActiveX controls, Basic in OpenDocument
	Encrypted bool // can't be read without a password
	// External: a template, object or frame is loaded from elsewhere, or DDE
	// runs a program.
	External []string
	// Embedded files, which are no part of the document itself: packages,
	// attachments of a saved message, and whatever else lies in it.
	Embedded  []Entry
	Ambiguous []string // such as macros in a document whose name says it has none
	Unseen    []string // what couldn't be read
}

const (
	maxEmbedded = 256
	maxXML      = 2 << 20 // of one part of a document that is searched
)

// office is one Office: a document, and those embedded in it.
type office struct {
	*walk
	name  string
	depth int
	rep   *OfficeReport
}

// Office looks into a document that Detect calls "ole", "ooxml" or "odf". The
// error is the one of ctx or of reading.
func Office(ctx context.Context, name string, r io.ReaderAt, size int64, b *Budget) (rep OfficeReport, err error) {
	src := &source{ctx: ctx, r: r}
	o := &office{walk: &walk{ctx: ctx, budget: b}, name: name, rep: &rep}
	o.visit = o.part
	o.document(DetectFile(src, size).Document, src, size)
	if rep.Macros && saysNoMacros(name) {
		rep.Ambiguous = append(rep.Ambiguous, visible(name+": macros in a document whose name says that it has none"))
	}
	if src.err != nil {
		return rep, fmt.Errorf("archive: read a document: %w", src.err)
	}
	if o.err != nil {
		return rep, fmt.Errorf("archive: read a document: %w", o.err)
	}
	return rep, nil
}

func saysNoMacros(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".docx", ".xlsx", ".pptx", ".dotx", ".xltx", ".potx", ".ppsx":
		return true
	}
	return false
}

// document reads one document; what it can't read is told.
func (o *office) document(kind string, r io.ReaderAt, size int64) {
	if o.depth > o.budget.limits.Depth {
		o.say(&o.rep.Unseen, "too many documents in each other")
		return
	}
	o.depth++
	defer func() {
		o.depth--
		if p := recover(); p != nil {
			o.say(&o.rep.Unseen, "the reader panicked: %v", p)
		}
	}()
	switch kind {
	case "ole":
		if err := o.ole(r, size); err != nil {
			o.say(&o.rep.Unseen, "%v", err)
		}
	case "ooxml", "odf":
		res := o.open(o.name, "zip", r, size, o.depth)
		o.rep.Encrypted = o.rep.Encrypted || res.Encrypted
		o.rep.Ambiguous = append(o.rep.Ambiguous, res.Ambiguous...)
		o.rep.Unseen = append(o.rep.Unseen, res.Unseen...)
	}
}

func (o *office) say(to *[]string, format string, args ...any) {
	text := visible(o.name + ": " + fmt.Sprintf(format, args...))
	if len(*to) < maxTold && !slices.Contains(*to, text) {
		*to = append(*to, text)
	}
}

// part takes one file out of a document that is a zip.
func (o *office) part(e Entry, r io.Reader) error {
	head, err := io.ReadAll(io.LimitReader(r, maxXML))
	if err != nil {
		o.say(&o.rep.Unseen, "%v", err)
	}
	if len(head) == maxXML && strings.HasSuffix(strings.ToLower(e.Names[0]), ".rels") {
		o.say(&o.rep.Unseen, "relationships of more than %d bytes", maxXML)
	}
	full := strings.ToLower(strings.ReplaceAll(e.Names[0], `\`, "/"))
	switch base := path.Base(full); {
	case e.Encrypted:
		o.rep.Encrypted = true
	case e.Type.Document == "ole":
		o.nested(e, r, head)
		if base == "vbaproject.bin" || base == "vbaprojectsignature.bin" || strings.HasPrefix(base, "oleobject") {
			return nil
		}
	case base == "vbaproject.bin" || base == "vbadata.xml" || strings.Contains(full, "/macrosheets/") ||
		strings.Contains(full, "/activex/") || strings.HasPrefix(full, "basic/") || strings.HasPrefix(full, "scripts/"):
		o.rep.Macros = true
	case strings.HasSuffix(full, ".rels"):
		o.relations(head)
	default:
		o.text(full, head)
	}
	if isStructure(full, e.Type) {
		return nil
	}
	o.embed(e)
	if e.Type.Document != "ole" {
		o.nested(e, r, head)
	}
	return nil
}

// nested reads a document in the document.
func (o *office) nested(e Entry, r io.Reader, head []byte) {
	if e.Type.Document == "" {
		return
	}
	if whole, ok := r.(*bytes.Reader); ok {
		o.document(e.Type.Document, whole, whole.Size())
		return
	}
	o.document(e.Type.Document, bytes.NewReader(head), int64(len(head)))
	o.say(&o.rep.Unseen, "an embedded document of more than %d bytes", len(head))
}

func (o *office) embed(e Entry) {
	if len(o.rep.Embedded) >= maxEmbedded {
		o.say(&o.rep.Unseen, "more than %d embedded files", maxEmbedded)
		return
	}
	o.rep.Embedded = append(o.rep.Embedded, e)
}

// isStructure says what a document is made of: markup, pictures, fonts and sound.
func isStructure(name string, t Type) bool {
	if t.Program != "" || t.Archive != "" || t.Document != "" || t.Also != "" {
		return false
	}
	switch path.Ext(name) {
	case ".xml", ".rels", ".vml", ".rdf", ".bin", ".fntdata", ".odttf", ".emf", ".wmf", ".xsd":
		return true
	case "": // mimetype, and thumbnails of OpenDocument
		return true
	}
	for _, p := range []string{"image/", "font/", "audio/", "video/"} {
		if strings.HasPrefix(t.Media, p) {
			return true
		}
	}
	return false
}

// relations finds what is loaded from elsewhere as soon as the document opens.
func (o *office) relations(xml []byte) {
	for _, rel := range bytes.Split(xml, []byte("<"))[:min(bytes.Count(xml, []byte("<"))+1, 1<<16)] {
		lower := strings.ToLower(string(rel[:min(len(rel), 4096)]))
		if !strings.HasPrefix(lower, "relationship") || !strings.Contains(lower, "external") {
			continue
		}
		for _, kind := range []string{"attachedtemplate", "oleobject", "/frame", "subdocument", "externallinkpath", "/package", "afchunk", "control"} {
			if strings.Contains(lower, kind+`"`) || strings.Contains(lower, kind+"'") {
				o.say(&o.rep.External, "%s", target(string(rel)))
			}
		}
	}
}

// target is what a relationship points to, for people to read.
func target(rel string) string {
	_, rest, ok := strings.Cut(rel, "Target=")
	if !ok || len(rest) < 2 {
		return "somewhere"
	}
	to, _, _ := strings.Cut(rest[1:], rest[:1])
	return to
}

// text looks for DDE, and for what the types of the parts and the manifest say.
func (o *office) text(name string, xml []byte) {
	switch {
	case name == "[content_types].xml":
		lower := bytes.ToLower(xml)
		if bytes.Contains(lower, []byte("macroenabled")) || bytes.Contains(lower, []byte("vbaproject")) {
			o.rep.Macros = true
		}
	case name == "meta-inf/manifest.xml":
		if bytes.Contains(xml, []byte("encryption-data")) {
			o.rep.Encrypted = true
		}
	case strings.Contains(name, "externallinks/"):
		if bytes.Contains(xml, []byte("<ddeLink")) {
			o.say(&o.rep.External, "DDE")
		}
	case strings.HasPrefix(name, "word/"):
		if dde.MatchString(fieldCodes(xml)) {
			o.say(&o.rep.External, "DDE")
		}
	}
}

// dde is a field that runs a program.
var dde = regexp.MustCompile(`(^|[\s";])DDE(AUTO)?\s`)

// fieldCodes puts field codes together, which are often spread over many runs.
func fieldCodes(xml []byte) string {
	var codes strings.Builder
	for rest := xml; codes.Len() < 64<<10; {
		i := bytes.Index(rest, []byte("instr"))
		if i < 0 {
			break
		}
		rest = rest[i+5:]
		// <w:instrText>…</w:instrText>, or <w:fldSimple w:instr="…">
		begin := `"`
		if bytes.HasPrefix(rest, []byte("Text")) {
			begin = ">"
		}
		from := bytes.IndexAny(rest[:min(len(rest), 128)], begin)
		if from < 0 {
			continue
		}
		to := bytes.IndexAny(rest[from+1:], `<"`)
		if to < 0 {
			break
		}
		codes.Write(rest[from+1 : from+1+min(to, 1024)])
	}
	return strings.ToUpper(codes.String())
}
