package mime

// base64Decoder decodes base64 (RFC 2045 6.8). What is not in the alphabet is
// passed over; behind padding it goes on. The other ways are in the options.
type base64Decoder struct {
	stopAtPad  bool // nothing counts behind padding
	ignorePad  bool // padding is passed over like any junk
	stopAtJunk bool
	urlSafe    bool // - and _ are digits

	bits    uint32
	n       int // sextets in bits
	padded  bool
	stopped bool
	strange bool // junk, or something behind padding
	urls    bool // - or _ was met
}

const (
	notBase64 = 0xff
	blank64   = 0xfe
	pad64     = 0xfd
	url64     = 0xfc
)

var sextets = func() (t [256]byte) {
	for i := range t {
		t[i] = notBase64
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	for _, c := range []byte(" \t\r\n") {
		t[c] = blank64
	}
	t['='], t['-'], t['_'] = pad64, url64, url64
	return t
}()

func (d *base64Decoder) clone() decoder { c := *d; return &c }
func (d *base64Decoder) odd() bool      { return d.strange }

func (d *base64Decoder) decode(dst, src []byte) []byte {
	for i := 0; i < len(src) && !d.stopped; i++ {
		for d.n == 0 && !d.padded && i+4 <= len(src) { // whole groups, as almost all are
			a, b, c, e := sextets[src[i]], sextets[src[i+1]], sextets[src[i+2]], sextets[src[i+3]]
			if (a|b|c|e)&0xc0 != 0 {
				break
			}
			dst = append(dst, a<<2|b>>4, b<<4|c>>2, c<<6|e)
			i += 4
		}
		if i == len(src) {
			break
		}
		dst = d.one(dst, src[i])
	}
	return dst
}

// one takes one byte.
func (d *base64Decoder) one(dst []byte, c byte) []byte {
	v := sextets[c]
	switch {
	case v < 64:
	case v == blank64:
		return dst
	case v == pad64:
		return d.pad(dst)
	case v == url64 && d.urlSafe:
		v = 62
		if c == '_' {
			v = 63
		}
	default:
		d.strange = true
		d.urls = d.urls || v == url64
		d.stopped = d.stopAtJunk
		return dst
	}
	if d.padded {
		d.strange = true
	}
	d.bits = d.bits<<6 | uint32(v)
	if d.n++; d.n == 4 {
		dst = append(dst, byte(d.bits>>16), byte(d.bits>>8), byte(d.bits))
		d.bits, d.n = 0, 0
	}
	return dst
}

func (d *base64Decoder) pad(dst []byte) []byte {
	if d.n < 2 && !d.padded {
		d.strange = true // a group of padding alone
	}
	d.padded = true
	if d.ignorePad {
		return dst
	}
	d.stopped = d.stopAtPad
	return d.end(dst)
}

// end gives what is in a group that is not full.
func (d *base64Decoder) end(dst []byte) []byte {
	switch d.n {
	case 2:
		dst = append(dst, byte(d.bits>>4))
	case 3:
		dst = append(dst, byte(d.bits>>10), byte(d.bits>>2))
	}
	d.bits, d.n = 0, 0
	return dst
}

// others are the other ways to decode what this one found odd.
func (d *base64Decoder) others() []decoder {
	all := []decoder{&base64Decoder{stopAtPad: true}, &base64Decoder{ignorePad: true}, &base64Decoder{stopAtJunk: true}}
	if d.urls {
		all = append(all, &base64Decoder{urlSafe: true})
	}
	return all
}
