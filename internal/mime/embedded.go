package mime

import (
	"bytes"
	"strings"

	"gatepost/internal/archive"
	"gatepost/internal/mail"
)

// embedded finds files that stand in text: uuencode, yEnc, BinHex. Programs show
// them as attachments.
func (w *walker) embedded(e *entity, v *view, path string) {
	content := w.spanOf(v)
	var found []file
	var open *file
	binhex := false
	w.lines(content, func(at int64, line []byte, next int64) bool {
		switch {
		case open != nil:
			open.to = next
			if isEnd(open.kind, line) {
				found = append(found, *open)
				open = nil
			}
		case isUUBegin(line):
			open = &file{kind: "uuencode", name: uuName(line), from: at, to: next}
		case bytes.HasPrefix(line, []byte("=ybegin ")):
			open = &file{kind: "yenc", name: yencName(line), from: next, to: next}
		case bytes.Contains(line, []byte(binhexMark)):
			binhex = true
		case binhex && len(line) > 0 && line[0] == ':':
			open, binhex = &file{kind: "binhex", from: at, to: next}, false
			if len(line) > 1 && isEnd("binhex", line[1:]) {
				found = append(found, *open)
				open = nil
			}
		}
		return len(found) <= w.cfg.Parts
	})
	if open != nil {
		found = append(found, *open)
	}
	for _, f := range found {
		w.file64(e, f, content.src, path)
	}
}

// file is a file that was found in text.
type file struct {
	kind, name string
	from, to   int64
}

func isEnd(kind string, line []byte) bool {
	switch kind {
	case "uuencode":
		return string(bytes.TrimSpace(line)) == "end" || string(bytes.TrimSpace(line)) == "===="
	case "yenc":
		return bytes.HasPrefix(line, []byte("=yend"))
	default:
		return bytes.HasSuffix(bytes.TrimSpace(line), []byte(":"))
	}
}

// file64 makes a part of a file in text.
func (w *walker) file64(e *entity, f file, src *source, path string) {
	var d decoder
	switch f.kind {
	case "uuencode":
		d = &uuDecoder{}
	case "yenc":
		d = &yencDecoder{}
	default:
		d = &binhexDecoder{}
	}
	v, ok := w.open(span{src, f.from, f.to}, d)
	if !ok {
		return
	}
	if b, ok := d.(*binhexDecoder); ok {
		f.name = string(b.name)
	}
	var names []string
	names = addName(names, f.name)
	for _, n := range CleanNames(f.name) {
		names = withName(names, n)
	}
	t := archive.DetectFile(v, v.size)
	p := mail.Part{Path: path + "/" + clean(f.name), Names: names, Detected: t.Media, Size: v.size, SHA256: v.sum,
		Archive: t.Archive, Program: t.Program != "", Protected: e.protected}
	if at, length, ok := v.enc.inBody(); ok {
		p.At, p.Length = at, length
	}
	index := w.add(p)
	if index < 0 || !w.show(&w.inside.Parts[index], v) {
		return
	}
	w.within(e, structure{names: names}, v, t, index)
}

// uuName returns the name in a line that begins a uuencoded file, "" for another.
func uuName(line []byte) string {
	if !bytes.HasPrefix(line, []byte("begin")) {
		return ""
	}
	rest := bytes.TrimPrefix(line[5:], []byte("-base64"))
	if len(rest) == 0 || rest[0] != ' ' && rest[0] != '\t' {
		return ""
	}
	rest = bytes.TrimLeft(rest, " \t")
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '7' {
		n++
	}
	if n < 3 || n > 6 || n == len(rest) || rest[n] != ' ' && rest[n] != '\t' {
		return ""
	}
	return strings.TrimSpace(string(rest[n:]))
}

// yencName returns the name in "=ybegin line=128 size=1 name=a.exe".
func yencName(line []byte) string {
	_, name, _ := bytes.Cut(line, []byte("name="))
	return strings.TrimSpace(string(name))
}

// yencDecoder decodes yEnc: each byte has 42 added, "=" escapes.
type yencDecoder struct {
	escaped bool
	begin   bool // of a line
	skip    bool // the rest of a line that begins with =y
	started bool
}

func (d *yencDecoder) clone() decoder        { c := *d; return &c }
func (d *yencDecoder) odd() bool             { return false }
func (d *yencDecoder) end(dst []byte) []byte { return dst }

func (d *yencDecoder) decode(dst, src []byte) []byte {
	for _, c := range src {
		if !d.started {
			d.started, d.begin = true, true
		}
		switch {
		case c == '\r' || c == '\n':
			d.begin, d.escaped, d.skip = true, false, false
			continue
		case d.skip:
		case d.escaped && d.begin && c == 'y':
			d.skip = true
		case d.escaped:
			dst = append(dst, c-64-42)
			d.escaped, d.begin = false, false
		case c == '=':
			d.escaped = true
			continue
		default:
			dst = append(dst, c-42)
			d.begin = false
		}
		d.escaped = false
	}
	return dst
}

// binhexMark is in the line in front of BinHex.
const binhexMark = "(This file must be converted with BinHex"

// binhexDecoder decodes BinHex 4.0: six bits a digit, runs, a header with the
// name and the lengths of two forks, of which the first is the content.
type binhexDecoder struct {
	begun, done bool
	bits        uint32
	n           int
	last        byte
	marker      bool // behind the byte that says how long a run is

	head []byte // as far as it is read
	name []byte
	left int64 // of the content
	in   bool  // in the content
}

const binhexDigits = "!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"

func (d *binhexDecoder) clone() decoder {
	c := *d
	c.head, c.name = bytes.Clone(d.head), bytes.Clone(d.name)
	return &c
}

func (d *binhexDecoder) odd() bool             { return false }
func (d *binhexDecoder) end(dst []byte) []byte { return dst }

func (d *binhexDecoder) decode(dst, src []byte) []byte {
	for _, c := range src {
		switch {
		case d.done:
			return dst
		case c == ':':
			d.done, d.begun = d.begun, true
			continue
		case !d.begun:
			continue
		}
		v := strings.IndexByte(binhexDigits, c)
		if v < 0 {
			continue
		}
		d.bits, d.n = d.bits<<6|uint32(v), d.n+6
		if d.n >= 8 {
			d.n -= 8
			dst = d.run(dst, byte(d.bits>>d.n))
		}
	}
	return dst
}

// run takes one byte in front of which runs were not yet made of it.
func (d *binhexDecoder) run(dst []byte, c byte) []byte {
	switch {
	case d.marker:
		d.marker = false
		if c == 0 {
			d.last = 0x90
			return d.put(dst, 0x90)
		}
		for range int(c) - 1 {
			dst = d.put(dst, d.last)
		}
		return dst
	case c == 0x90:
		d.marker = true
		return dst
	}
	d.last = c
	return d.put(dst, c)
}

// put takes one byte of the file: of its header, or of its content.
func (d *binhexDecoder) put(dst []byte, c byte) []byte {
	if d.in {
		if d.left > 0 {
			d.left--
			dst = append(dst, c)
		}
		return dst
	}
	d.head = append(d.head, c)
	// length of the name, name, version, type, creator, flags, two lengths, CRC
	n := int(d.head[0])
	if len(d.head) == 1+n+1+4+4+2+4+4+2 {
		b := d.head[1+n+1+4+4+2:]
		d.name = d.head[1 : 1+n]
		d.left = int64(b[0])<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3])
		d.in = true
	}
	return dst
}
