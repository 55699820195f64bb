package forward

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type countingConn struct {
	net.Conn
	writes int
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes++
	return c.Conn.Write(p)
}

// dotted writes parts through a dotWriter.
func dotted(t interface{ Fatal(...any) }, dots bool, parts ...string) string {
	var out bytes.Buffer
	w := dotWriter{w: &out, dots: dots, buf: make([]byte, 0, bufferSize)}
	for _, p := range parts {
		if n, err := w.Write([]byte(p)); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// model is the rule, one byte at a time.
func model(s string, dots bool) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.ReplaceAll(s, "\r", "\n")
	var b strings.Builder
	for _, line := range strings.SplitAfter(s, "\n") {
		if line == "" {
			continue
		}
		if dots && line[0] == '.' {
			b.WriteByte('.')
		}
		b.WriteString(strings.TrimSuffix(line, "\n") + "\r\n")
	}
	if dots {
		b.WriteString(".\r\n")
	}
	return b.String()
}

func TestDotWriter(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"nothing", "", ".\r\n"},
		{"E7 one dot", ".", "..\r\n.\r\n"},
		{"E7 two dots", "..\r\n", "...\r\n.\r\n"},
		{"E7 first line", ".x\r\ny\r\n", "..x\r\ny\r\n.\r\n"},
		{"E7 dot in the middle", "a.b\r\n", "a.b\r\n.\r\n"},
		{"E7 no CRLF at the end", "a\r\nb", "a\r\nb\r\n.\r\n"},
		{"E7 a CR at the end", "a\r", "a\r\n.\r\n"},
		{"end of data within", "a\r\n.\r\nMAIL\r\n", "a\r\n..\r\nMAIL\r\n.\r\n"},
		{"E1 LF . LF", "a\n.\nMAIL", "a\r\n..\r\nMAIL\r\n.\r\n"},
		{"E1 LF . CRLF", "a\n.\r\nMAIL", "a\r\n..\r\nMAIL\r\n.\r\n"},
		{"E1 CR . CR", "a\r.\rMAIL", "a\r\n..\r\nMAIL\r\n.\r\n"},
		{"E2 CRLF . LF", "a\r\n.\nMAIL", "a\r\n..\r\nMAIL\r\n.\r\n"},
		{"E2 CRLF . CR", "a\r\n.\rMAIL", "a\r\n..\r\nMAIL\r\n.\r\n"},
		{"E3 CR CR LF", "a\r\r\n.\r\nb", "a\r\n\r\n..\r\nb\r\n.\r\n"},
		{"E3 . CR CR LF", "a\r\n.\r\r\n.\r\n", "a\r\n..\r\n\r\n..\r\n.\r\n"},
		{"LF CR", "a\n\rb", "a\r\n\r\nb\r\n.\r\n"},
		{"NUL", "\r\n\x00.\r\n", "\r\n\x00.\r\n.\r\n"},
		{"empty lines", "\r\n\r\n", "\r\n\r\n.\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if m := model(tt.in, true); m != tt.want {
				t.Errorf("the model says %q, want %q", m, tt.want)
			}
			for i := range len(tt.in) + 1 { // E7, E8: every split
				if got := dotted(t, true, tt.in[:i], tt.in[i:]); got != tt.want {
					t.Errorf("split at %d: got %q, want %q", i, got, tt.want)
				}
			}
			if got := dotted(t, true, strings.Split(tt.in, "")...); got != tt.want {
				t.Errorf("in single bytes: got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestDotWriterBlocks: the same at every place around the edge of a block.
func TestDotWriterBlocks(t *testing.T) {
	for _, tricky := range []string{"\r\n.\r\n", "\r\n..\r\n", "\n.\n", "\r.\r", "\r\r\n.", "x\r\n"} {
		for shift := -8; shift <= 8; shift++ {
			for _, block := range []int{blockSize, 2 * blockSize, flushAt} {
				in := strings.Repeat("0123456789abcd\r\n", block/16+2)[:block+shift-len(tricky)/2]
				in += tricky + "rest\r\n"
				if got, want := dotted(t, true, in), model(in, true); got != want {
					t.Fatalf("%q at %d%+d differs", tricky, block, shift)
				}
			}
		}
	}
}

func TestDotWriterIsTheModel(t *testing.T) {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{"\r\n", "\n", "\r", ".", "..", "\r\n.\r\n", "\r\n.", "a", "\x00", "\xff", "From "}),
		rapid.StringMatching(`[ -~]{0,80}`),
		rapid.Custom(func(t *rapid.T) string { return strings.Repeat("x.", rapid.IntRange(1, 3*blockSize).Draw(t, "long")) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(piece).Draw(t, "parts")
		dots := rapid.Bool().Draw(t, "dots")
		if got, want := dotted(t, dots, parts...), model(strings.Join(parts, ""), dots); got != want {
			t.Fatalf("got %q\nwant %q", got, want)
		}
	})
}

func FuzzDotWriter(f *testing.F) {
	for _, s := range []string{"", ".", "\r\n.\r\n", "a\n.\nb", "\r\r\n.\r", "a\r\n.\rX"} {
		f.Add(s, uint(1))
	}
	f.Fuzz(func(t *testing.T, s string, at uint) {
		i := int(at % uint(len(s)+1))
		got := dotted(t, true, s[:i], s[i:])
		if want := model(s, true); got != want {
			t.Fatalf("got %q\nwant %q", got, want)
		}
		body := strings.TrimSuffix(got, ".\r\n")
		if strings.Contains("\r\n"+body, "\r\n.\r\n") || strings.ContainsAny(strings.ReplaceAll(body, "\r\n", ""), "\r\n") {
			t.Fatalf("the data may end early: %q", got)
		}
	})
}

// TestDotWriterStops after an error of the connection.
func TestDotWriterStops(t *testing.T) {
	w := dotWriter{w: brokenWriter{}, dots: true, buf: make([]byte, 0, bufferSize)}
	large := bytes.Repeat([]byte("0123456789\r\n"), 1<<20)
	n, err := w.Write(large)
	if err != errBroken || n == len(large) {
		t.Errorf("Write: %d, %v", n, err)
	}
	if err := w.end(); err != errBroken {
		t.Errorf("end: %v", err)
	}
	if cap(w.buf) > 2*bufferSize {
		t.Errorf("the buffer grew to %d", cap(w.buf))
	}
}

var errBroken = errors.New("broken")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }
