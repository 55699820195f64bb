package mail

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestSplitHeader(t *testing.T) {
	tests := []struct {
		name, in string
		names    string // joined by blanks
		body     string
	}{
		{"ordinary", "A: 1\r\nB: 2\r\n\r\nbody", "A B", "body"},
		{"folded", "A: 1\r\n 2\r\n\t3\r\nB: 4\r\n\r\n", "A B", ""},
		{"empty message", "", "", ""},
		{"no header", "\r\nbody", "", "body"},
		{"header only", "A: 1\r\n", "A", ""},
		{"no CRLF at the end", "A: 1", "A", ""},
		{"no empty line", "A: 1\r\nnot a field\r\n\r\nB: 2\r\n", "A", "not a field\r\n\r\nB: 2\r\n"},
		{"mbox line", "From x\r\nA: 1\r\n\r\nbody", "", "From x\r\nA: 1\r\n\r\nbody"},
		{"continuation of nothing", " A: 1\r\n\r\nbody", "", " A: 1\r\n\r\nbody"},
		{"blank before the colon", "From : a@b\r\n\r\n", "From", ""},
		{"line of blanks is a continuation", "A: 1\r\n \r\nB: 2\r\n\r\nbody", "A B", "body"},
		{"NUL in the name", "Fr\x00m: a\r\n\r\n", "", "Fr\x00m: a\r\n\r\n"},
		{"no name", ": a\r\n\r\n", "", ": a\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, at, err := SplitHeader([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range h {
				names = append(names, f.Name())
			}
			if got := strings.Join(names, " "); got != tt.names {
				t.Errorf("names = %q, want %q", got, tt.names)
			}
			if got := tt.in[at:]; got != tt.body {
				t.Errorf("body = %q, want %q", got, tt.body)
			}
		})
	}
}

func TestSplitHeaderLimits(t *testing.T) {
	tests := []struct{ name, in string }{
		{"too many fields", strings.Repeat("A: b\r\n", MaxHeaderCount+1)},
		{"too long a field", "A: " + strings.Repeat("x", MaxHeaderField) + "\r\n\r\n"},
		{"too large", strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 300)},
		{"no end in sight", "A: " + strings.Repeat("x", 2*MaxHeaderSize)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadMessage(strings.NewReader(tt.in), int64(len(tt.in)))
			if !errors.Is(err, ErrHeader) {
				t.Errorf("err = %v, want ErrHeader", err)
			}
		})
	}
}

// Whatever comes in, header and body together are all of it, and every consumer
// of what goes out splits it in the same place.
func FuzzReadMessage(f *testing.F) {
	f.Add([]byte("A: 1\r\n\r\nbody"))
	f.Add([]byte("A: 1\r\nbody"))
	f.Add([]byte("\r\n\r\n"))
	f.Add([]byte("A: 1\r\n 2"))
	f.Add(bytes.Repeat([]byte("A: 1\r\n"), 900))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := ReadMessage(bytes.NewReader(in), int64(len(in)))
		if err != nil {
			return
		}
		out, err := io.ReadAll(m.Reader())
		if err != nil || int64(len(out)) != m.Size() {
			t.Fatalf("read %d bytes of %d: %v", len(out), m.Size(), err)
		}
		body, _ := io.ReadAll(m.Body())
		if !bytes.HasSuffix(in, body) {
			t.Fatalf("body %q is not the end of %q", body, in)
		}
		again, err := ReadMessage(bytes.NewReader(out), int64(len(out)))
		if errors.Is(err, ErrHeader) {
			return // grown over a limit by the CRLF that was missing
		}
		if err != nil || len(again.Header) != len(m.Header) || again.BodySize() != m.BodySize() {
			t.Fatalf("%q: %d fields and %d bytes, then %d and %d: %v", in, len(m.Header), m.BodySize(), len(again.Header), again.BodySize(), err)
		}
	})
}

func TestReadMessageKeepsOnlyTheHeader(t *testing.T) {
	in := "A: 1\r\n\r\n" + strings.Repeat("x", 1<<20)
	m, err := ReadMessage(strings.NewReader(in), int64(len(in)))
	if err != nil {
		t.Fatal(err)
	}
	if got := cap(m.Header[0].Raw()); got > 64 {
		t.Errorf("a field of 6 bytes keeps %d alive", got)
	}
}

func TestNewField(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"plain", "v", "X-A: v\r\n"},
		{"injection", "v\r\nX-Evil: 1", "X-A: v X-Evil: 1\r\n"},
		{"bare CR, NUL, escape", "a\rb\x00c\x1bd", "X-A: a b c d\r\n"},
		{"C1 and line separator", "a\u0085b\u2028c", "X-A: a b c\r\n"},
		{"broken UTF-8", "a\xffb", "X-A: a?b\r\n"},
		{"empty", "", "X-A:\r\n"},
		{"folds", strings.Repeat("word ", 20), "X-A:" + strings.Repeat(" word", 14) + "\r\n" + strings.Repeat(" word", 6) + "\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(NewField("X-A", tt.value).Raw()); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	for line := range strings.SplitSeq(string(NewField("X-A", strings.Repeat("é", 5000)).Raw()), "\r\n") {
		if len(line) > 998 {
			t.Errorf("line of %d octets", len(line))
		}
	}
}

func FuzzNewField(f *testing.F) {
	f.Add("v\r\nX: 1")
	f.Add(strings.Repeat("x", 3000))
	f.Fuzz(func(t *testing.T, value string) {
		raw := NewField("X-A", value).Raw()
		h, at, err := SplitHeader(append(bytes.Clone(raw), "\r\nbody"...))
		if errors.Is(err, ErrHeader) {
			return
		}
		if err != nil || len(h) != 1 || at != len(raw)+2 || !bytes.Equal(h[0].Raw(), raw) {
			t.Fatalf("%q makes %d fields, body at %d of %d: %v", value, len(h), at, len(raw)+2, err)
		}
	})
}
