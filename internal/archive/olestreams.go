package archive

import (
	"bytes"
	"io"
	"path"
	"strings"
)

// The names that a saved Outlook message has, MS-OXMSG 2.2.
const (
	outlookAttachment = "__attach_version1.0_"
	outlookData       = "__substg1.0_37010102"
)

const maxWorkbook = 4 << 20 // of a workbook, whose sheets are named at the beginning

// ole looks at every stream of a compound file.
func (o *office) ole(r io.ReaderAt, size int64) error {
	f, err := openOLE(r, size)
	if err != nil {
		return err
	}
	if f.cut {
		o.say(&o.rep.Unseen, "more than %d streams", oleMaxEntries)
	}
	for _, e := range f.entries {
		if err := o.ctx.Err(); err != nil {
			return err
		}
		switch e.kind {
		case oleStorage:
			if e.name == "_VBA_PROJECT_CUR" || e.name == "VBA" || e.name == "Macros" {
				o.rep.Macros = true
			}
		case oleStream:
			if err := o.stream(f, e); err != nil {
				return err
			}
		}
	}
	o.attachments(f)
	return nil
}

// stream looks at one stream of a compound file.
func (o *office) stream(f *oleFile, e oleEntry) error {
	switch strings.TrimLeft(e.name, "\x01\x02\x03\x05\x06") {
	case "_VBA_PROJECT":
		o.rep.Macros = true
	case "EncryptedPackage", "EncryptionInfo", "EncryptedSummary":
		o.rep.Encrypted = true
	case "WordDocument":
		if b := f.content(e, 32); len(b) >= 12 && le16(b[10:])&0x100 != 0 {
			o.rep.Encrypted = true
		}
	case "Workbook", "Book":
		b, release, err := o.held(f, e, maxWorkbook)
		if err != nil {
			return nil
		}
		defer release()
		o.workbook(b)
	case "Ole10Native":
		return o.native(f, e)
	case "Package", "CONTENTS":
		return o.take(f, e, path.Join("embedded", e.name))
	case outlookData:
		if e.parent >= 0 && strings.HasPrefix(f.entries[e.parent].name, outlookAttachment) {
			return nil // attachments looks at it
		}
		return o.take(f, e, e.name)
	default:
		// A program in a stream of any name. The beginning tells.
		if t := Detect(f.content(e, 512)); t.Program == "pe" || t.Program == "dos" || t.Program == "elf" {
			o.embed(Entry{Path: o.name + "/" + e.name, Names: []string{cutName(e.name)}, Size: e.size, Kind: "ole", Depth: o.depth, Type: t})
		}
	}
	return nil
}

// workbook reads the records of an old Excel file.
func (o *office) workbook(b []byte) {
	for len(b) >= 4 {
		id, n := le16(b), int(le16(b[2:]))
		if n > len(b)-4 {
			return
		}
		body := b[4 : 4+n]
		switch id {
		case 0x2f: // FILEPASS
			o.rep.Encrypted = true
		case 0x85: // BOUNDSHEET
			if n >= 6 && body[5] == 1 {
				o.rep.Macros = true // Excel 4
			}
		case 0xd3: // OBPROJ
			o.rep.Macros = true
		case 0x1ae: // SUPBOOK
			if bytes.HasPrefix(body, []byte{0, 0}) && n > 4 && bytes.IndexByte(body, 3) > 0 {
				o.say(&o.rep.External, "DDE")
			}
		}
		b = b[4+n:]
	}
}

// native takes the file out of a package that Windows' packager made.
func (o *office) native(f *oleFile, e oleEntry) error {
	b, release, err := o.held(f, e, e.size)
	if err != nil {
		return nil
	}
	defer release()
	names, data := nativeParts(b)
	if len(names) == 0 {
		names = []string{e.name}
	}
	return o.embedded(names, data)
}

// nativeParts reads the stream of a package: names with paths, then the file.
func nativeParts(b []byte) (names []string, data []byte) {
	if len(b) < 6 {
		return nil, b
	}
	rest := b[6:]
	text := func() []byte {
		s := untilNUL(rest)
		rest = rest[min(len(rest), len(s)+1):]
		return s
	}
	add := func(s []byte) {
		if n := path.Base(strings.ReplaceAll(string(s), `\`, "/")); len(s) > 0 {
			names = append(names, decodeName([]byte(n), false)...)
		}
	}
	add(text())
	add(text())
	if len(rest) < 8 {
		return names, rest
	}
	n := le32(rest[4:])
	rest = rest[8:]
	if int64(n) > int64(len(rest)) {
		return names, rest
	}
	add(untilNUL(rest[:n]))
	rest = rest[n:]
	if len(rest) < 4 {
		return names, rest
	}
	n = le32(rest)
	rest = rest[4:]
	return names, rest[:min(int64(n), int64(len(rest)))]
}

// take reads a stream that is a file by itself.
func (o *office) take(f *oleFile, e oleEntry, name string) error {
	b, release, err := o.held(f, e, e.size)
	if err != nil {
		return nil
	}
	defer release()
	return o.embedded([]string{name}, b)
}

// held reads a stream into memory that the budget gives. Many streams may be the
// same sectors, so each counts.
func (o *office) held(f *oleFile, e oleEntry, most int64) (b []byte, release func(), err error) {
	n := min(e.size, most, f.size)
	err = o.budget.decoded(int(n))
	if err == nil {
		err = o.budget.hold(2 * n)
	}
	if err != nil {
		o.say(&o.rep.Unseen, "%s: %v", e.name, err)
		return nil, nil, err
	}
	return f.content(e, n), func() { o.budget.release(2 * n) }, nil
}

// embedded tells of one embedded file, and looks into it when it is a document
// or an archive.
func (o *office) embedded(names []string, data []byte) error {
	if err := o.budget.file(); err != nil {
		o.say(&o.rep.Unseen, "%v", err)
		return nil
	}
	size := int64(len(data))
	src := &source{ctx: o.ctx, r: bytes.NewReader(data)}
	for i := range names {
		names[i] = cutName(names[i])
	}
	e := Entry{Names: names, Path: o.name + "/" + names[0], Size: size, Kind: "ole", Depth: o.depth, Whole: true, Type: DetectFile(src, size)}
	o.embed(e)
	if e.Type.Document != "" {
		o.document(e.Type.Document, src, size)
	}
	if kind := e.Type.Archive; kind != "" {
		inside := *o.walk
		inside.visit = func(e Entry, _ io.Reader) error { o.embed(e); return nil }
		res := inside.open(e.Path, kind, src, size, o.depth+1)
		o.rep.Encrypted = o.rep.Encrypted || res.Encrypted
		o.rep.Ambiguous = append(o.rep.Ambiguous, res.Ambiguous...)
		o.rep.Unseen = append(o.rep.Unseen, res.Unseen...)
	}
	return nil
}

// attachments takes those of a saved Outlook message, which are storages with a
// stream for each property.
func (o *office) attachments(f *oleFile) {
	type attachment struct {
		names []string
		data  *oleEntry
	}
	found := map[int]*attachment{}
	var order []int
	for i, e := range f.entries {
		if e.parent < 0 || !strings.HasPrefix(f.entries[e.parent].name, outlookAttachment) {
			continue
		}
		a := found[e.parent]
		if a == nil {
			a = &attachment{}
			found[e.parent] = a
			order = append(order, e.parent)
		}
		tag := strings.ToUpper(strings.TrimPrefix(e.name, "__substg1.0_"))
		switch {
		case e.name == outlookData:
			a.data = &f.entries[i]
		case strings.HasPrefix(tag, "3707"), strings.HasPrefix(tag, "3704"), strings.HasPrefix(tag, "3001"):
			p := mapiProp{kind: mapiUnicode, value: f.content(e, 2*maxName)}
			if strings.HasSuffix(tag, "1E") {
				p.kind = mapiString
			}
			a.names = append(a.names, p.text())
		}
	}
	for _, i := range order {
		a := found[i]
		if len(a.names) == 0 {
			a.names = []string{"attachment"}
		}
		if a.data == nil {
			continue
		}
		b, release, err := o.held(f, *a.data, a.data.size)
		if err != nil {
			continue
		}
		_ = o.embedded(a.names, b)
		release()
	}
}
