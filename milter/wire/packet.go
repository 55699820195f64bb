// Package wire encodes and decodes the packets of the milter protocol, versions
// 2 to 6: a length of four bytes in network order, which counts the command
// byte, the command byte, and its data.
//
// The shapes are those of libmilter's mfdef.h and engine.c; the constants are
// go-milter's, so that both sides of the project use one vocabulary. Nothing is
// allocated by a length that was not checked, and a malformed packet is an
// error: the connection it came on is of no more use.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits on the data of one packet.
const (
	MaxBody   = 65535       // SMFI_CHUNK_SIZE: the longest chunk of a body that may be sent
	MaxPacket = 1<<20 + 512 // the longest packet that any negotiated size allows (MDS_1M)
)

// ErrMalformed is wrapped by all that a decoder refuses.
var ErrMalformed = errors.New("malformed milter packet")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Packet is a command or a reply.
type Packet struct {
	Code byte
	Data []byte
}

// Reader reads packets from a connection. It keeps one buffer, which grows to
// the longest packet seen and never above Limit.
type Reader struct {
	R     io.Reader
	Limit int // of a packet's data; 0 is MaxPacket
	buf   []byte
}

// Next reads a packet. Its data is valid until the next call. io.EOF is a
// connection closed between packets; inside one it is io.ErrUnexpectedEOF.
func (r *Reader) Next() (Packet, error) {
	var head [5]byte
	if _, err := io.ReadFull(r.R, head[:4]); err != nil {
		return Packet{}, err
	}
	n := binary.BigEndian.Uint32(head[:4])
	limit := uint32(MaxPacket)
	if r.Limit > 0 {
		limit = uint32(r.Limit)
	}
	if n == 0 {
		return Packet{}, malformed("length 0")
	}
	if n-1 > limit {
		return Packet{}, malformed("length %d, at most %d", n, limit+1)
	}
	if _, err := io.ReadFull(r.R, head[4:]); err != nil {
		return Packet{}, unexpected(err)
	}
	data, err := r.data(int(n - 1))
	return Packet{Code: head[4], Data: data}, err
}

// data reads n bytes. The buffer grows as the bytes come: a peer that announces
// a megabyte and sends nothing gets no megabyte.
func (r *Reader) data(n int) ([]byte, error) {
	const step = 64 << 10
	for have := 0; have < n; {
		want := min(n, have+step)
		if want > len(r.buf) {
			r.buf = append(r.buf[:have], make([]byte, want-have)...)
		}
		got, err := io.ReadFull(r.R, r.buf[have:want])
		have += got
		if err != nil {
			return nil, unexpected(err)
		}
	}
	return r.buf[:n:n], nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Append adds a packet of the given data, in pieces, to b.
func Append(b []byte, code byte, data ...[]byte) []byte {
	n := 1
	for _, d := range data {
		n += len(d)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = append(b, code)
	for _, d := range data {
		b = append(b, d...)
	}
	return b
}

// appendStrings adds a packet of a fixed part and strings that end in NUL.
// A NUL inside a string would end it early and shift the others: it becomes a
// question mark, as nothing that the protocol carries may hold one.
func appendStrings(b []byte, code byte, fixed []byte, s ...string) []byte {
	n := 1 + len(fixed)
	for _, x := range s {
		n += len(x) + 1
	}
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = append(b, code)
	b = append(b, fixed...)
	for _, x := range s {
		for i := 0; i < len(x); i++ {
			c := x[i]
			if c == 0 {
				c = '?'
			}
			b = append(b, c)
		}
		b = append(b, 0)
	}
	return b
}

// cutStrings splits data into strings that each end in NUL, at least min and at
// most max of them.
func cutStrings(data []byte, min, max int) ([]string, error) {
	var s []string
	for start, i := 0, 0; i < len(data); i++ {
		if data[i] != 0 {
			continue
		}
		if len(s) == max {
			return nil, malformed("more than %d strings", max)
		}
		s = append(s, string(data[start:i]))
		start = i + 1
	}
	if len(data) > 0 && data[len(data)-1] != 0 {
		return nil, malformed("string without its NUL")
	}
	if len(s) < min {
		return nil, malformed("%d strings, at least %d wanted", len(s), min)
	}
	return s, nil
}
