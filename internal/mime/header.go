package mime

import (
	"bytes"
	"strings"
)

// field is one field of a header.
type field struct {
	name  string // in lower case
	value string // unfolded; line ends that were in it are left out
	raw   string // as written, behind the colon
}

// header is one reading of a header.
type header struct {
	fields []field // those that say how the content is built
	at     int64   // where the content begins
}

func (h header) all(name string) []field {
	var found []field
	for _, f := range h.fields {
		if f.name == name {
			found = append(found, f)
		}
	}
	return found
}

// isMIME reports whether a field says how the content is built.
func (h header) isMIME() bool { return len(h.fields) > 0 }

const (
	firstHeader = 4 << 10
	maxHeader   = 264 << 10 // that of the message may have 256 KB
	maxFields   = 200
)

// headers returns the readings of the header at the beginning of s, that of most
// programs first.
func (w *walker) headers(s span) []header {
	var block []byte
	for n := min(s.size(), firstHeader); ; n = min(s.size(), maxHeader, n*8) {
		b, ok := w.read(s.src, make([]byte, n), s.from, s.to)
		if !ok {
			return nil
		}
		block = b
		if n == s.size() || n == maxHeader || endOfHeader(b) {
			break
		}
	}
	first := parseHeader(block, rules{})
	if int64(len(block)) < s.size() && first.end == len(block) {
		w.unseen(OverHeader)
	}
	readings := w.otherHeaders(block, first)
	out := make([]header, len(readings))
	for i, r := range readings {
		out[i] = header{fields: r.fields, at: s.from + int64(r.end)}
	}
	if first.lf != s.src.lf && first.eols > 0 {
		w.ambiguous(LineEnds)
	}
	return out
}

// endOfHeader reports whether b has an empty line with so much behind it that no
// reading of the header needs more.
func endOfHeader(b []byte) bool {
	for _, end := range []string{"\n\r\n", "\n\n"} {
		if bytes.Contains(b, []byte(end)) {
			return true
		}
	}
	return bytes.HasPrefix(b, []byte("\r\n")) || bytes.HasPrefix(b, []byte("\n"))
}

// otherHeaders adds to the first reading what other programs make of b.
func (w *walker) otherHeaders(b []byte, first parsed) []parsed {
	readings := []parsed{first}
	add := func(reason string, r rules) {
		p := parseHeader(b, r)
		if p.end == first.end && p.count == first.count {
			return
		}
		if !first.isMIME() && !p.isMIME() && first.count > 0 && p.count > 0 {
			return // the content is text in both, and all of it is in one of them
		}
		w.ambiguous(reason)
		readings = append(readings, p)
	}
	if first.blank {
		add(HeaderEnd, rules{blankEnds: true})
		add(HeaderEnd, rules{emptyOnly: true})
	}
	if first.junk {
		ends := parseHeader(b, rules{junkEnds: true})
		switch {
		case ends.count == 0 && !first.isMIME(): // no header at all
			return []parsed{ends}
		default:
			add(HeaderSyntax, rules{junkEnds: true})
		}
	}
	if bytes.IndexByte(first.block(b), '\r') >= 0 && hasBareCR(first.block(b)) {
		w.ambiguous(BareCR)
		readings = append(readings, parseHeader(crToLF(b), rules{}))
	}
	return readings
}

// rules is how a program reads a header.
type rules struct {
	blankEnds bool // at a line of blanks
	emptyOnly bool // not at a line with nothing but CR and NUL
	junkEnds  bool // at a line that is no field
}

type parsed struct {
	header
	end   int
	count int    // of all fields
	of    *field // to which a folded line belongs; nil: to one that is not kept
	blank bool   // there is a line of blanks, CR or NUL
	junk  bool   // there is a line that is no field
	lf    bool   // most lines end in LF alone
	eols  int
}

func (p parsed) block(b []byte) []byte { return b[:p.end] }

// parseHeader reads the header at the beginning of b.
func parseHeader(b []byte, r rules) parsed {
	var p parsed
	lfs := 0
	for p.end < len(b) {
		line, size := b[p.end:], len(b)-p.end
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line, size = line[:i], i+1
			p.eols++
			if !bytes.HasSuffix(line, []byte("\r")) {
				lfs++
			}
			line = bytes.TrimSuffix(line, []byte("\r"))
		}
		if len(line) == 0 || p.blankLine(line, r) {
			p.end += size
			break
		}
		if !p.add(line) {
			p.junk = true
			if r.junkEnds {
				break
			}
		}
		p.end += size
	}
	p.lf = lfs > p.eols/2
	if lfs > 0 && lfs < p.eols {
		p.lf = true
	}
	return p
}

// blankLine reports whether a line that looks empty ends the header.
func (p *parsed) blankLine(line []byte, r rules) bool {
	if len(bytes.Trim(line, "\r\x00")) == 0 {
		p.blank = true
		return !r.emptyOnly
	}
	if len(bytes.Trim(line, " \t\r\x00\v\f")) == 0 {
		p.blank = true
		return r.blankEnds
	}
	return false
}

// add takes a line into the header. Not ok: it is no field.
func (p *parsed) add(line []byte) bool {
	if (line[0] == ' ' || line[0] == '\t') && p.count > 0 {
		if p.of != nil && len(p.of.raw) < maxHeader {
			p.of.raw += "\n" + string(line)
			p.of.value += string(line)
		}
		return true
	}
	name, value, ok := bytes.Cut(line, []byte(":"))
	name = bytes.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufeff' || r == '\ufffd' {
			return -1
		}
		return r
	}, bytes.Trim(name, " \t\r\x00"))
	if !ok || len(name) == 0 || len(name) > 200 || bytes.ContainsAny(name, " \t()<>@,;\"/[]?=") {
		return false
	}
	p.count++
	p.of = nil
	if !isStructural(name) || len(p.fields) == maxFields {
		return true
	}
	v := string(value)
	p.fields = append(p.fields, field{name: strings.ToLower(string(name)), value: v, raw: v})
	p.of = &p.fields[len(p.fields)-1]
	return true
}

// isStructural reports whether a field says how the content is built; others
// are not kept.
func isStructural(name []byte) bool {
	return len(name) >= 8 && bytes.EqualFold(name[:8], []byte("content-")) || bytes.EqualFold(name, []byte("mime-version"))
}

// hasBareCR reports whether a CR stands where no line ends.
func hasBareCR(b []byte) bool {
	for i, c := range b {
		if c == '\r' && i+1 < len(b) && b[i+1] != '\n' && !(b[i+1] == '\r') {
			return true
		}
	}
	return false
}

// crToLF makes every CR that no LF follows a line end.
func crToLF(b []byte) []byte {
	out := bytes.Clone(b)
	for i, c := range out {
		if c == '\r' && (i+1 == len(out) || out[i+1] != '\n') {
			out[i] = '\n'
		}
	}
	return out
}
