package mime

import "io"

// Decode returns the content behind a transfer encoding, as most programs
// decode it; of an encoding that is not known the bytes as they are.
func Decode(encoding string, r io.Reader) io.Reader {
	d := newDecoder(encoding)
	if d == nil {
		return r
	}
	return &decoding{r: r, d: d, in: make([]byte, 8<<10)}
}

// decoder turns encoded bytes into content. It is fed in pieces of any size; a
// clone goes on by itself from where it was made.
type decoder interface {
	decode(dst, src []byte) []byte // appends to dst
	end(dst []byte) []byte
	clone() decoder
	// odd reports whether other decoders may have made something else of it.
	odd() bool
}

// newDecoder returns the decoder of an encoding, nil where there is nothing to
// decode.
func newDecoder(encoding string) decoder {
	switch encoding {
	case "base64":
		return &base64Decoder{}
	case "quoted-printable":
		return &quotedDecoder{}
	case "uuencode":
		return &uuDecoder{}
	}
	return nil
}

// decoding reads through a decoder.
type decoding struct {
	r       io.Reader
	d       decoder
	in, out []byte
	rest    []byte // of out
	err     error
}

func (d *decoding) Read(p []byte) (int, error) {
	for len(d.rest) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		n, err := d.r.Read(d.in)
		d.out = d.d.decode(d.out[:0], d.in[:n])
		if err == io.EOF {
			d.out = d.d.end(d.out)
		}
		d.err, d.rest = err, d.out
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}
