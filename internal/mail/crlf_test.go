package mail

import (
	"bytes"
	"testing"
)

func TestCRLFWriter(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"a\r\nb\r\n", "a\r\nb\r\n"},
		{"a\nb\rc\r\n", "a\r\nb\r\nc\r\n"},
		{"\r\r\n\n\r", "\r\n\r\n\r\n\r\n"},
		{"", ""},
		{"x", "x"},
	} {
		for i := range len(tt.in) + 1 {
			var b bytes.Buffer
			w := CRLFWriter{W: &b}
			for _, p := range []string{tt.in[:i], tt.in[i:]} {
				if _, err := w.Write([]byte(p)); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if b.String() != tt.want {
				t.Errorf("%q cut at %d: %q, want %q", tt.in, i, b.String(), tt.want)
			}
		}
	}
}
