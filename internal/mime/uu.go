package mime

// uuDecoder decodes uuencode: lines that begin with their length, up to "end".
// A line with "begin" in front is passed over.
type uuDecoder struct {
	line    []byte
	begun   bool
	ended   bool
	base64  bool // begin-base64
	inner   base64Decoder
	strange bool
}

const maxUULine = 256

func (d *uuDecoder) clone() decoder {
	c := *d
	c.line = append([]byte(nil), d.line...)
	return &c
}

func (d *uuDecoder) odd() bool { return d.strange || d.inner.strange }

func (d *uuDecoder) others() []decoder { return nil }

func (d *uuDecoder) decode(dst, src []byte) []byte {
	for _, c := range src {
		if c == '\n' {
			dst = d.whole(dst)
			continue
		}
		if len(d.line) < maxUULine {
			d.line = append(d.line, c)
		}
	}
	return dst
}

func (d *uuDecoder) end(dst []byte) []byte {
	if len(d.line) > 0 {
		dst = d.whole(dst)
	}
	return d.inner.end(dst)
}

// whole decodes the line that was gathered.
func (d *uuDecoder) whole(dst []byte) []byte {
	line := d.line
	d.line = d.line[:0]
	for len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	}
	switch {
	case d.ended || len(line) == 0:
		return dst
	case string(line) == "end" || d.base64 && string(line) == "====":
		d.ended = true
		return dst
	case !d.begun && isUUBegin(line):
		d.begun, d.base64 = true, len(line) > 6 && line[5] == '-'
		return dst
	case d.base64:
		return d.inner.decode(dst, line)
	}
	n := int(line[0]-' ') & 0x3f
	line = line[1:]
	digit := func(i int) byte {
		if i >= len(line) {
			return 0
		}
		return (line[i] - ' ') & 0x3f
	}
	for i := 0; n > 0; i += 4 {
		a, b, c, e := digit(i), digit(i+1), digit(i+2), digit(i+3)
		three := [3]byte{a<<2 | b>>4, b<<4 | c>>2, c<<6 | e}
		dst = append(dst, three[:min(n, 3)]...)
		n -= 3
	}
	return dst
}

// isUUBegin reports whether a line begins an encoded file.
func isUUBegin(line []byte) bool { return uuName(line) != "" }
