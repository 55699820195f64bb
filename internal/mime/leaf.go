package mime

import (
	"bytes"
	"io"
	"path"
	"strings"

	"gatepost/internal/archive"
	"gatepost/internal/mail"
)

// maxLayers is how many encodings may lie in each other.
const maxLayers = 4

// leaf looks at the content of a part, for each encoding that it may have and
// for each way to decode that.
func (w *walker) leaf(e *entity, r structure, content span) {
	if content.src.layers >= maxLayers {
		w.unseen(OverDepth)
		return
	}
	sums := make(map[string]bool)
	one := func(d decoder) *view {
		v, ok := w.open(content, d)
		if !ok {
			return nil
		}
		if !sums[v.sum] {
			sums[v.sum] = true
			w.content(e, r, v, len(sums) == 1)
		}
		return v
	}
	for _, encoding := range r.encodings {
		v := one(newDecoder(encoding))
		if v == nil || v.odd == nil {
			continue
		}
		others, ok := v.odd.(interface{ others() []decoder })
		if !ok {
			continue
		}
		switch {
		case encoding == "base64":
			w.ambiguous(Base64)
		case encoding == "quoted-printable" && !isText(r.media): // text is full of broken escapes
			w.ambiguous(QuotedPrintable)
		}
		for _, d := range others.others() {
			one(d)
		}
	}
	if len(r.encodings) == 1 && r.encodings[0] == "" && !isText(r.media) && w.isBase64(content) {
		one(newDecoder("base64")) // the field may have been lost on the way
	}
}

// isBase64 reports whether content that is said to stand as it is looks encoded.
func (w *walker) isBase64(content span) bool {
	yes := false
	w.lines(content, func(_ int64, line []byte, _ int64) bool {
		yes = isBase64Line(line)
		return len(bytes.TrimSpace(line)) == 0
	})
	return yes
}

func isText(media string) bool { return media == "" || strings.HasPrefix(media, "text/") }

// content makes a Part of what is behind one reading, and looks into it. first:
// it is what most programs see.
func (w *walker) content(e *entity, r structure, v *view, first bool) {
	t := archive.DetectFile(v, v.size)
	part := mail.Part{
		Path: e.path, Names: r.names, Declared: r.media, Detected: t.Media, Inline: r.inline, Size: v.size, SHA256: v.sum,
		Archive: t.Archive, Program: t.Program != "", Encrypted: e.encrypted && !isControlPart(r.media),
		Protected: e.protected || r.smime || r.pgp || r.signedParts || r.cryptParts,
	}
	if e.root && !r.multipart {
		part.Path = join(e.path, "1")
	}
	if part.Path == "" {
		part.Path = "0" // a multipart at the top that has content of its own
	}
	if at, length, ok := v.enc.inBody(); ok {
		part.At, part.Length = at, length
	}
	text := w.textKind(r, t)
	if text != "" {
		markOpenPGP(v, &part)
	}
	index := w.add(part)
	if index < 0 || !w.show(&w.inside.Parts[index], v) {
		return
	}
	if text != "" {
		w.readText(r, text, v)
		w.embedded(e, v, w.inside.Parts[index].Path)
	}
	w.within(e, r, v, t, index)
	if r.undeclared && first {
		w.undeclared(e, v)
	}
}

// isControlPart is the part of an encrypted multipart that can be read.
func isControlPart(media string) bool { return media == "application/pgp-encrypted" }

// add takes a part into the result. Below 0: there are too many.
func (w *walker) add(p mail.Part) int {
	if len(w.inside.Parts) >= w.cfg.Parts {
		w.stop(OverParts)
		return -1
	}
	unique := p.Path
	for n := '2'; w.paths[p.Path] && n < '9'; n++ {
		p.Path = unique + "~" + string(n)
	}
	w.paths[p.Path] = true
	w.inside.Parts = append(w.inside.Parts, p)
	return len(w.inside.Parts) - 1
}

// show lets who walks see content, each once.
func (w *walker) show(p *mail.Part, v *view) bool {
	if w.visit == nil || w.shown[v.sum] {
		return true
	}
	w.shown[v.sum] = true
	if err := w.visit(*p, v.reader()); err != nil {
		w.stop(Visited)
		return false
	}
	return true
}

// within looks into content that has something in it.
func (w *walker) within(e *entity, r structure, v *view, t archive.Type, index int) {
	name := w.inside.Parts[index].Path + "/" + baseName(r.names)
	switch {
	case t.Archive != "" || t.Also != "":
		w.archive(e, name, v, index)
	case isTNEF(r.media, v):
		w.tnef(e, name, v, index)
	case r.smime || hasExtension(r.names, ".p7m"):
		w.signed(e, v, index)
	}
	if t.Document != "" {
		w.office(v, index)
	}
	switch {
	case r.media == "message/partial":
		w.unseen(Partial)
	case r.media == "message/external-body":
		w.unseen(ExternalBody)
	}
	if r.message || hasExtension(r.names, ".eml", ".mht", ".mhtml", ".nws") && t.Archive == "" {
		inner := &entity{span: w.spanOf(v), path: w.inside.Parts[index].Path, root: true, primary: e.primary && r.message, parent: e.parent, delimiter: -1,
			depth: e.depth + 1, boundaries: e.boundaries, protected: e.protected, encrypted: e.encrypted}
		w.entity(inner)
	}
}

func baseName(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return path.Base(clean(names[0]))
}

func hasExtension(names []string, extensions ...string) bool {
	for _, n := range names {
		for _, ext := range extensions {
			if strings.HasSuffix(strings.ToLower(n), ext) {
				return true
			}
		}
	}
	return false
}

// archive visits the files in an archive.
func (w *walker) archive(e *entity, name string, v *view, index int) {
	res, err := archive.Open(w.ctx, name, v, v.size, w.archives, w.entry(e))
	w.result(res, err, index)
}

func (w *walker) tnef(e *entity, name string, v *view, index int) {
	res, err := archive.TNEF(w.ctx, name, v, v.size, w.archives, w.entry(e))
	w.result(res, err, index)
}

// result takes in what an archive has to say.
func (w *walker) result(res archive.Result, err error, index int) {
	p := &w.inside.Parts[index]
	if res.Kind != "" {
		p.Archive = res.Kind
	}
	p.Encrypted = p.Encrypted || res.Encrypted
	for _, why := range res.Ambiguous {
		w.ambiguous("archive: " + why)
	}
	for _, why := range res.Unseen {
		w.unseen("archive: " + why)
	}
	if err != nil {
		w.broken(err)
	}
}

// entry makes a Part of a file in an archive.
func (w *walker) entry(e *entity) archive.Visit {
	return func(f archive.Entry, r io.Reader) error {
		p := mail.Part{
			Path: f.Path, Names: entryNames(f.Names), Detected: f.Type.Media, Size: max(f.Size, 0), Archive: f.Type.Archive,
			Depth: f.Depth, Encrypted: f.Encrypted, Program: f.Type.Program != "", Protected: e.protected,
		}
		index := w.add(p)
		if index < 0 {
			return errBudget
		}
		if !f.Whole {
			return nil
		}
		return w.file(index, f, r)
	}
}

func entryNames(names []string) []string {
	all := names
	for _, n := range names {
		for _, c := range CleanNames(n) {
			all = withName(all, c)
		}
	}
	return all
}

// file reads a file in an archive: for its sum, for who walks, and for what
// Office may have in it.
func (w *walker) file(index int, f archive.Entry, r io.Reader) error {
	sum := newSum(r)
	if w.visit != nil {
		if err := w.visit(w.inside.Parts[index], sum); err != nil {
			w.stop(Visited)
			return errBudget
		}
	}
	if _, err := io.Copy(io.Discard, sum); err == nil {
		w.inside.Parts[index].SHA256, w.inside.Parts[index].Size = sum.hex(), sum.n
	}
	at, ok := r.(interface {
		io.ReaderAt
		Size() int64
	})
	if ok && f.Type.Document != "" {
		w.officeAt(at, at.Size(), index)
	}
	return nil
}

func (w *walker) office(v *view, index int) { w.officeAt(v, v.size, index) }

// officeAt looks into a document.
func (w *walker) officeAt(r io.ReaderAt, size int64, index int) {
	report, err := archive.Office(w.ctx, w.inside.Parts[index].Path, r, size, w.archives)
	p := &w.inside.Parts[index]
	p.Macros = p.Macros || report.Macros
	p.Encrypted = p.Encrypted || report.Encrypted
	for _, why := range report.Ambiguous {
		w.ambiguous("office: " + why)
	}
	for _, why := range report.Unseen {
		w.unseen("office: " + why)
	}
	path, protected := p.Path, p.Protected
	for _, f := range report.Embedded {
		w.add(mail.Part{Path: path + "/" + baseName(f.Names), Names: entryNames(f.Names), Detected: f.Type.Media, Size: max(f.Size, 0), Archive: f.Type.Archive,
			Depth: max(f.Depth, 1), Encrypted: f.Encrypted, Program: f.Type.Program != "", Protected: protected})
	}
	if err != nil && w.ctx.Err() != nil {
		w.broken(err)
	}
}

// isTNEF reports whether it is a winmail.dat, whatever its name.
func isTNEF(media string, v *view) bool {
	var magic [4]byte
	n, _ := v.ReadAt(magic[:], 0)
	return n == 4 && magic == [4]byte{0x78, 0x9f, 0x3e, 0x22} || media == "application/ms-tnef" || media == "application/vnd.ms-tnef"
}

// markOpenPGP notes what is signed or encrypted within text.
func markOpenPGP(v *view, p *mail.Part) {
	head := make([]byte, min(v.size, 16<<10))
	n, _ := v.ReadAt(head, 0)
	head = head[:n]
	if bytes.Contains(head, []byte("-----BEGIN PGP MESSAGE-----")) {
		p.Encrypted, p.Protected = true, true
	}
	if bytes.Contains(head, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		p.Protected = true
	}
}

// undeclared looks for a multipart that nothing declares: programs that guess
// find it.
func (w *walker) undeclared(e *entity, v *view) {
	content := w.spanOf(v)
	first := w.firstLine(content)
	if e.root && !w.declaresMIME(e) && !strings.HasPrefix(first, "--") {
		return // plain text of old, such as a bounce with a message in it
	}
	guessed := w.guess(content)
	if len(guessed) == 0 {
		return
	}
	w.ambiguous(Undeclared)
	for _, b := range guessed {
		inner := *e
		inner.primary, inner.parent = false, -1
		w.split(&inner, content, b)
	}
}

// declaresMIME reports whether the header of an entity says how it is built.
func (w *walker) declaresMIME(e *entity) bool {
	for _, h := range w.headers(e.span) {
		if h.isMIME() {
			return true
		}
	}
	return false
}

func (w *walker) firstLine(s span) string {
	first := ""
	w.lines(s, func(_ int64, line []byte, _ int64) bool {
		first = string(bytes.TrimSpace(line))
		return first == ""
	})
	return first
}
