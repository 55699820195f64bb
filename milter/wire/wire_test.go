package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/emersion/go-milter"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	var out []byte
	for _, part := range strings.Split(s, "|") {
		if text, ok := strings.CutPrefix(part, `"`); ok {
			out = append(out, strings.ReplaceAll(text, `\0`, "\x00")...)
			continue
		}
		b, err := hex.DecodeString(strings.ReplaceAll(part, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

// Byte vectors as sendmail, Postfix and libmilter write them.
func TestVectors(t *testing.T) {
	tests := []struct {
		name string
		made []byte
		want string // hexadecimal; parts behind | that begin with a quote are text
	}{
		{"MTA's offer", Negotiation{Version: 6, Actions: AllActions, Protocol: AllProtocol}.Append(nil), "0000000d 4f 00000006 000001ff 001fffff"},
		{"filter's answer", Negotiation{Version: 6, Actions: 0x31, Protocol: 0x380, Macros: map[milter.Stage][]string{
			milter.StageConnect: {"j", "{client_addr}"}, milter.StageEOM: {"i"}, milter.StageEOH: {"i"}}}.Append(nil),
			`0000002d 4f 00000006 00000031 00000380 00000000|"j {client_addr}\0|00000005|"i\0|00000006|"i\0`},
		{"connect IPv4", Connect{"mx.example.org", FamilyIPv4, 40001, "192.0.2.25"}.Append(nil), `0000001e 43|"mx.example.org\0|34 9c41|"192.0.2.25\0`},
		{"connect IPv6", Connect{"mx.example.org", FamilyIPv6, 40001, "IPv6:2001:db8::25"}.Append(nil), `00000025 43|"mx.example.org\0|36 9c41|"IPv6:2001:db8::25\0`},
		{"connect unknown", Connect{Host: "x", Family: FamilyUnknown}.Append(nil), `00000004 43|"x\0|55`},
		{"mail", Envelope{"<a@example.org>", []string{"SIZE=123"}}.Append(nil, 'M'), `0000001a 4d|"<a@example.org>\0SIZE=123\0`},
		{"header", Header{Name: "Subject", Value: "hi"}.Append(nil, 'L'), `0000000c 4c|"Subject\0hi\0`},
		{"end of header", Append(nil, 'N'), "00000001 4e"},
		{"body", Append(nil, 'B', []byte("x\r\n")), "00000004 42 780d0a"},
		{"reply code", AppendText(nil, 'y', "550 5.7.1 100%% spam"), `00000016 79|"550 5.7.1 100%% spam\0`},
		{"insert header", Header{0, "X-A", "v"}.AppendIndexed(nil, 'i'), `0000000b 69 00000000|"X-A\0v\0`},
		{"change header", Header{1, "Subject", "new"}.AppendIndexed(nil, 'm'), `00000011 6d 00000001|"Subject\0new\0`},
		{"change sender", Envelope{Address: "<>"}.Append(nil, 'e'), `00000004 65|"<>\0`},
		{"NUL in a value", Header{Name: "X", Value: "a\x00b"}.Append(nil, 'L'), `00000007 4c|"X\0a?b\0`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if want := unhex(t, tt.want); !bytes.Equal(tt.made, want) {
				t.Errorf("got  %x\nwant %x", tt.made, want)
			}
		})
	}
}

func TestReaderBounds(t *testing.T) {
	tests := []struct {
		name, in string
		want     error
	}{
		{"nothing", "", io.EOF},
		{"cut length", "\x00\x00", io.ErrUnexpectedEOF},
		{"length 0", "\x00\x00\x00\x00", ErrMalformed},
		{"4 GB", "\xff\xff\xff\xff", ErrMalformed},
		{"over the limit", "\x00\x10\x02\x02B", ErrMalformed},
		{"no command", "\x00\x00\x00\x01", io.ErrUnexpectedEOF},
		{"cut data", "\x00\x00\x00\x03C", io.ErrUnexpectedEOF},
		{"a megabyte that never comes", "\x00\x10\x00\x00B", io.ErrUnexpectedEOF},
		{"good", "\x00\x00\x00\x01E", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Reader{R: strings.NewReader(tt.in)}
			if _, err := r.Next(); !errors.Is(err, tt.want) {
				t.Errorf("err = %v, want %v", err, tt.want)
			}
			if cap(r.buf) > 128<<10 {
				t.Errorf("%d bytes allocated for a packet that never came", cap(r.buf))
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	tests := []struct {
		name string
		err  error
	}{
		{"negotiation cut", second(DecodeNegotiation([]byte("\x00\x00\x00")))},
		{"negotiation list cut", second(DecodeNegotiation(append(make([]byte, 12), 0, 0)))},
		{"negotiation list without NUL", second(DecodeNegotiation(append(make([]byte, 12), 0, 0, 0, 0, 'j')))},
		{"connect empty", second(DecodeConnect(nil))},
		{"connect only a name", second(DecodeConnect([]byte("mx\x00")))},
		{"connect cut port", second(DecodeConnect([]byte("mx\x004\x00")))},
		{"connect without NUL", second(DecodeConnect([]byte("mx\x004\x00\x191.2.3.4")))},
		{"connect family", second(DecodeConnect([]byte("mx\x009\x00\x191.2.3.4\x00")))},
		{"macros empty", second(DecodeMacros(nil))},
		{"macros odd", second(DecodeMacros([]byte("Mi\x00")))},
		{"header with three strings", second(DecodeHeader([]byte("A\x00b\x00c\x00")))},
		{"header with one", second(DecodeHeader([]byte("A\x00")))},
		{"header without a name", second(DecodeHeader([]byte("\x00b\x00")))},
		{"header name with a line end", second(DecodeHeader([]byte("A\nB\x00b\x00")))},
		{"header without NUL", second(DecodeHeader([]byte("A\x00b")))},
		{"mail without NUL", second(DecodeEnvelope([]byte("<a@b>")))},
		{"mail empty", second(DecodeEnvelope(nil))},
		{"indexed header cut", second(DecodeIndexedHeader([]byte("\x00")))},
	}
	for _, tt := range tests {
		if !errors.Is(tt.err, ErrMalformed) {
			t.Errorf("%s: err = %v, want ErrMalformed", tt.name, tt.err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A decoder never panics, and what it decodes encodes to what decodes the same.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("O\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff\x00\x00\x00\x05i j\x00"))
	f.Add([]byte("Cmx\x004\x9c\x41192.0.2.1\x00"))
	f.Add([]byte("M<a@b>\x00SIZE=1\x00"))
	f.Add([]byte("DMi\x00q1\x00"))
	f.Add([]byte("LA\x00b\x00"))
	f.Add([]byte("m\x00\x00\x00\x01A\x00b\x00"))
	f.Add([]byte("Hx\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		data := in[1:]
		switch in[0] {
		case 'O':
			again(t, data, DecodeNegotiation, func(n Negotiation) []byte { return n.Append(nil) })
		case 'C':
			again(t, data, DecodeConnect, func(c Connect) []byte { return c.Append(nil) })
		case 'D':
			again(t, data, DecodeMacros, func(m Macros) []byte { return m.Append(nil) })
		case 'M', 'R':
			again(t, data, DecodeEnvelope, func(e Envelope) []byte { return e.Append(nil, 'M') })
		case 'L', 'h':
			again(t, data, DecodeHeader, func(h Header) []byte { return h.Append(nil, 'L') })
		case 'm', 'i':
			again(t, data, DecodeIndexedHeader, func(h Header) []byte { return h.AppendIndexed(nil, 'm') })
		default:
			again(t, data, DecodeText, func(s string) []byte { return AppendText(nil, 'H', s) })
		}
	})
}

func again[T any](t *testing.T, data []byte, decode func([]byte) (T, error), encode func(T) []byte) {
	t.Helper()
	v, err := decode(data)
	if err != nil {
		return
	}
	r := Reader{R: bytes.NewReader(encode(v))}
	p, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := decode(p.Data); err != nil || !reflect.DeepEqual(normal(back), normal(v)) {
		t.Fatalf("%q decodes to %+v, then to %+v, %v", data, v, back, err)
	}
}

// normal hides what two encodings of one thing may differ in: an empty list.
func normal(v any) any {
	if e, ok := v.(Envelope); ok && len(e.Args) == 0 {
		e.Args = nil
		return e
	}
	if n, ok := v.(Negotiation); ok {
		for stage, list := range n.Macros {
			if len(list) == 0 {
				n.Macros[stage] = nil
			}
		}
		return n
	}
	return v
}
