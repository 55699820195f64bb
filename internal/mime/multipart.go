package mime

import (
	"bytes"
	"slices"
	"strings"
)

// multipart walks the parts of a multipart, for each of its boundaries and as it
// stands and behind its encoding.
func (w *walker) multipart(e *entity, r structure, content span) {
	boundaries := w.boundaries(e, r)
	if len(boundaries) == 0 {
		w.ambiguous(BoundaryMissing)
		boundaries = w.guess(content)
	}
	inner := *e
	inner.protected = e.protected || r.signedParts || r.cryptParts
	inner.encrypted = e.encrypted || r.cryptParts
	inner.digest = r.digest
	inner.boundaries = slices.Concat(e.boundaries, boundaries)
	found := false
	for i, b := range boundaries {
		reading := inner
		reading.primary = e.primary && i == 0
		marks := w.split(&reading, content, b)
		if len(marks) > 0 && !found { // around other boundaries stands what has just been walked
			w.aside(&inner, span{content.src, content.from, marks[0].at}, Preamble)
			w.aside(&inner, epilogue(content, marks), Epilogue)
			found = true
		}
	}
	if !found && !w.isBlank(content) {
		w.ambiguous(NoDelimiter)
		w.asText(e, r, content)
	}
	for _, encoding := range r.encodings {
		if encoding == "" {
			continue
		}
		behind, ok := w.decodedSource(content, encoding)
		if !ok {
			continue
		}
		for _, b := range boundaries {
			reading := inner
			reading.primary = e.primary && !found
			if len(w.split(&reading, behind, b)) > 0 && !found {
				w.ambiguous(EncodedMultipart)
			}
		}
	}
}

// asText walks the content of a multipart that can't be split.
func (w *walker) asText(e *entity, r structure, content span) {
	r.media, r.multipart, r.leaf, r.message, r.undeclared = "", false, true, false, true
	if !(len(r.names) > 0 || r.encodings[0] != "") { // else reading does it
		w.leaf(e, r, content)
	}
}

// decodedSource is what is behind an encoding.
func (w *walker) decodedSource(content span, encoding string) (span, bool) {
	v, ok := w.open(content, newDecoder(encoding))
	if !ok {
		return span{}, false
	}
	src := w.sourceOf(v, content.src)
	return span{src, 0, src.size}, true
}

const (
	longBoundary = 100      // RFC 2046 5.1.1 allows 70
	maxBoundary  = 4 << 10  // as much of a line as is looked at
	suspicious   = `;"\<>,` // not all of them are in use, and programs read them in different ways
)

// boundaries are what programs may take for the boundary.
func (w *walker) boundaries(e *entity, r structure) []string {
	var found []string
	for _, b := range r.boundaries {
		variants := []string{strings.ReplaceAll(b, "\n", ""), unfolded(b)}
		variants = append(variants, strings.TrimRight(variants[0], " \t\x00"), decodeWords(variants[0]))
		for _, v := range variants {
			if len(v) <= maxBoundary {
				found = with(found, v)
			}
		}
		if b == "" || len(b) > longBoundary || strings.ContainsAny(b, suspicious) || strings.IndexFunc(b, isControl) >= 0 || strings.Trim(b, " \t") != b {
			w.ambiguous(BoundaryDiffers)
		}
	}
	if len(found) > 1 {
		w.ambiguous(BoundaryDiffers)
	}
	if len(found) > 3*maxReadings {
		w.unseen(OverReadings)
		found = found[:3*maxReadings]
	}
	for _, b := range found {
		for _, outer := range e.boundaries {
			if outer != "" && strings.HasPrefix(b, outer) {
				w.ambiguous(BoundaryNested)
			}
		}
		if b != "" {
			w.declared[b] = true
		}
	}
	return found
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7f }

// unfolded takes the blanks at folds away too, as some programs do.
func unfolded(b string) string {
	lines := strings.Split(b, "\n")
	for i := range lines {
		if i > 0 {
			lines[i] = strings.TrimLeft(lines[i], " \t")
		}
	}
	return strings.Join(lines, "")
}

// delimiter is a line with a boundary.
type delimiter struct {
	at, next int64
	close    bool
	loose    bool // not all programs take it for one
}

// split walks the parts between the delimiters of one boundary, which it returns.
func (w *walker) split(e *entity, content span, boundary string) []delimiter {
	all := w.delimiters(content, boundary)
	if len(all) == 0 {
		return nil
	}
	var strict []delimiter
	closed := false
	for _, d := range all {
		if content.src == w.message {
			w.used[d.at] = true
		}
		switch {
		case d.loose:
			w.ambiguous(DelimiterDiffers)
		case closed:
			w.ambiguous(AfterClose)
		default:
			strict = append(strict, d)
			closed = d.close
		}
	}
	if boundary == "" {
		w.ambiguous(BoundaryDiffers)
	}
	if len(strict) > 0 {
		w.parts(e, content, strict)
	}
	if len(strict) < len(all) {
		other := *e
		other.primary = e.primary && len(strict) == 0
		w.parts(&other, content, all)
	}
	return all
}

// epilogue is what stands behind the parts.
func epilogue(content span, marks []delimiter) span {
	last := marks[len(marks)-1]
	if !last.close {
		return span{content.src, content.to, content.to}
	}
	return span{content.src, last.next, content.to}
}

// parts walks what is between delimiters.
func (w *walker) parts(e *entity, content span, marks []delimiter) {
	for i, d := range marks {
		last := i == len(marks)-1
		end := content.to
		if !last {
			end = w.beforeEOL(content.src, d.next, marks[i+1].at)
		}
		part := span{content.src, min(d.next, end), end}
		if d.close && last {
			break
		}
		if part.size() == 0 && (last || d.close) {
			continue
		}
		w.entity(&entity{span: part, path: e.child(i + 1), primary: e.primary, parent: e.parent, delimiter: d.at, depth: e.depth + 1,
			boundaries: e.boundaries, digest: e.digest, protected: e.protected, encrypted: e.encrypted})
	}
}

// beforeEOL is the end of the content in front of a delimiter: the line end
// belongs to that.
func (w *walker) beforeEOL(src *source, from, at int64) int64 {
	var b [2]byte
	n := min(int64(2), at-from)
	if _, err := src.r.ReadAt(b[2-n:], at-n); n <= 0 || err != nil {
		return max(from, at)
	}
	switch {
	case b[1] == '\n' && b[0] == '\r' && n == 2:
		return at - 2
	case b[1] == '\n' || b[1] == '\r':
		return at - 1
	}
	return at
}

// delimiters finds the lines with a boundary.
func (w *walker) delimiters(content span, boundary string) []delimiter {
	var found []delimiter
	whole := []byte("--" + boundary)
	add := func(d delimiter) bool {
		found = append(found, d)
		if len(found) > w.cfg.Parts+1 {
			w.unseen(OverParts)
			return false
		}
		return true
	}
	w.lines(content, func(at int64, line []byte, next int64) bool {
		if i := bytes.IndexByte(line, '\r'); i >= 0 {
			if !bytes.HasPrefix(line, whole) {
				if i = bytes.Index(line, append([]byte("\r"), whole...)); i >= 0 && len(boundary) > 0 {
					return add(delimiter{at: at + int64(i) + 1, next: next, loose: true})
				}
			}
		}
		if bytes.HasPrefix(line, whole) {
			d := delimiter{at: at, next: next}
			tail := line[len(whole):]
			if d.close = bytes.HasPrefix(tail, []byte("--")); d.close {
				tail = tail[2:]
			}
			d.loose = len(bytes.Trim(tail, " \t")) > 0 || boundary == "" && d.close
			crlf := next-at-int64(len(line)) == 2
			if !d.loose && next < content.to && crlf == content.src.lf && len(line) < maxLine {
				w.ambiguous(LineEnds)
			}
			return add(d)
		}
		if len(boundary) >= 6 && len(line) <= len(whole)+20 {
			bare := bytes.TrimSuffix(bytes.Trim(line, " \t\x00\v\f"), []byte("--"))
			if bytes.Equal(bare, whole) || bytes.Equal(bare, whole[1:]) || bytes.Equal(bare, whole[2:]) {
				return add(delimiter{at: at, next: next, loose: true})
			}
		}
		return true
	})
	return found
}

// isBlank reports whether there is nothing in s.
func (w *walker) isBlank(s span) bool {
	blank := true
	w.lines(s, func(_ int64, line []byte, _ int64) bool {
		blank = len(bytes.TrimSpace(line)) == 0
		return blank
	})
	return blank
}

// aside looks at what is in front of and behind the parts, which programs do not
// show, whether there is something that some do.
func (w *walker) aside(e *entity, s span, reason string) {
	if s.size() < 8 {
		return
	}
	header, begin, coded := int64(-1), s.from, 0
	other := false
	w.lines(s, func(at int64, line []byte, next int64) bool {
		switch {
		case len(bytes.TrimSpace(line)) == 0:
			begin = next
		case isContentField(line):
			header = begin
			return false
		case isUUBegin(line) || bytes.HasPrefix(line, []byte("=ybegin ")) || bytes.HasPrefix(line, []byte(binhexMark)):
			other = true
		case isBase64Line(line):
			if coded++; coded > 1 {
				other = true
			}
		default:
			coded = 0
		}
		return true
	})
	if header >= 0 {
		w.ambiguous(reason)
		w.entity(&entity{span: span{s.src, header, s.to}, path: join(e.path, reason), parent: -1, delimiter: -1, depth: e.depth + 1})
	}
	if other {
		w.ambiguous(reason)
		aside := entity{span: s, path: join(e.path, reason), parent: -1, delimiter: -1, depth: e.depth + 1}
		w.leaf(&aside, structure{leaf: true, encodings: []string{"", "base64"}, undeclared: true}, s)
	}
}

func isContentField(line []byte) bool {
	if len(line) < 12 || !strings.EqualFold(string(line[:8]), "content-") {
		return false
	}
	name, _, ok := strings.Cut(strings.ToLower(string(line[8:min(len(line), 60)])), ":")
	name = strings.Trim(name, " \t\x00")
	return ok && (name == "type" || name == "disposition" || name == "transfer-encoding")
}

// isBase64Line reports whether a line is one of encoded content.
func isBase64Line(line []byte) bool {
	if len(line) < 56 || len(line)%4 != 0 {
		return false
	}
	for _, c := range bytes.TrimRight(line, "=") {
		if !isBase64Byte(c) {
			return false
		}
	}
	return true
}

// guess returns what looks like boundaries that nobody declared.
func (w *walker) guess(content span) []string {
	var found []string
	var before string
	w.lines(content, func(_ int64, line []byte, _ int64) bool {
		if before != "" && isContentField(line) {
			found = with(found, before)
		}
		before = ""
		if len(line) > 2 && len(line) < 300 && line[0] == '-' && line[1] == '-' {
			before = strings.TrimRight(string(line[2:]), " \t")
		}
		return len(found) < maxReadings
	})
	return found
}
