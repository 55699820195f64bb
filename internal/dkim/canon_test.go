package dkim

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"gatepost/internal/mail"
)

// The examples of RFC 6376 3.4.5.
func TestCanonicalForms(t *testing.T) {
	const header = "A: X\r\nB : Y\t\r\n\tZ  \r\n"
	const body = " C \r\nD \t E\r\n\r\n\r\n"
	h, _, err := mail.SplitHeader([]byte(header + "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		c            Canon
		header, body string
	}{
		{Relaxed, "a:X\r\nb:Y Z\r\n", " C\r\nD E\r\n"},
		{Simple, "A: X\r\nB : Y\t\r\n\tZ  \r\n", " C \r\nD \t E\r\n"},
	} {
		t.Run(string(tt.c), func(t *testing.T) {
			var got strings.Builder
			for _, f := range h {
				got.Write(tt.c.Field(f.Raw()))
			}
			if got.String() != tt.header {
				t.Errorf("header = %q, want %q", got.String(), tt.header)
			}
			checkHash(t, tt.c, body, tt.body)
		})
	}
}

// What stands at the end, and what is nothing at all.
func TestBodyForms(t *testing.T) {
	for _, tt := range []struct{ name, in, simple, relaxed string }{
		{"empty", "", "\r\n", ""},
		{"one empty line", "\r\n", "\r\n", ""},
		{"blanks only", " \t \r\n", " \t \r\n", ""},
		{"no line end", "a", "a\r\n", "a\r\n"},
		{"no line end, blanks", "a  \t", "a  \t\r\n", "a\r\n"},
		{"blanks at the beginning", "\t a", "\t a\r\n", " a\r\n"},
		{"empty lines inside", "a\r\n\r\n\r\nb\r\n\r\n", "a\r\n\r\n\r\nb\r\n", "a\r\n\r\n\r\nb\r\n"},
		{"line of blanks inside", "a\r\n \t\r\nb", "a\r\n \t\r\nb\r\n", "a\r\n\r\nb\r\n"},
		{"bare CR", "a\rb \r\r\n", "a\rb \r\r\n", "a\rb \r\r\n"},
		{"bare CR at the end", "a\r", "a\r\r\n", "a\r\r\n"},
		{"bare LF is text", "a\nb", "a\nb\r\n", "a\nb\r\n"},
		{"8 bit", "\xff\x00 \xc3", "\xff\x00 \xc3\r\n", "\xff\x00 \xc3\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkHash(t, Simple, tt.in, tt.simple)
			checkHash(t, Relaxed, tt.in, tt.relaxed)
		})
	}
}

func checkHash(t *testing.T, c Canon, in, want string) {
	t.Helper()
	got, err := BodyHash(section(in), c)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256([]byte(want)); string(got) != string(sum[:]) {
		t.Errorf("%s: hash of %q is not that of %q", c, in, want)
	}
}

func section(s string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(s), 0, int64(len(s)))
}

// The hashes of RFC 6376 A and of an empty body, as others print them.
func TestKnownHashes(t *testing.T) {
	for _, tt := range []struct {
		c          Canon
		body, want string
	}{
		{Simple, "Hi.\r\n\r\nWe lost the game. Are you hungry yet?\r\n\r\nJoe.\r\n", "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="},
		{Simple, "", "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="},
		{Relaxed, "", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
	} {
		got, err := BodyHash(section(tt.body), tt.c)
		if err != nil {
			t.Fatal(err)
		}
		if b := base64.StdEncoding.EncodeToString(got); b != tt.want {
			t.Errorf("%s of %q = %s, want %s", tt.c, tt.body, b, tt.want)
		}
	}
}

// A body that is shorter than it should be has no hash.
func TestBodyCutShort(t *testing.T) {
	short := io.NewSectionReader(strings.NewReader("abc"), 0, 10)
	if _, err := BodyHash(short, Relaxed); err == nil {
		t.Error("a hash of a body that ended early")
	}
	broken := io.NewSectionReader(readerAt{iotest.ErrReader(io.ErrClosedPipe)}, 0, 10)
	if _, err := BodyHash(broken, Relaxed); err == nil {
		t.Error("a hash of a body that could not be read")
	}
}

type readerAt struct{ io.Reader }

func (r readerAt) ReadAt(p []byte, _ int64) (int, error) { return r.Read(p) }

func TestWithoutSignature(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"at the end", "D: v=1; b=abc\r\n\t def\r\n", "D: v=1; b=\r\n"},
		{"in the middle", "D: b=abc;\r\n\tbh=b=; d=x\r\n", "D: b=;\r\n\tbh=b=; d=x\r\n"},
		{"blanks around the name", "D: v=1;\r\n b = abc; z=b=1\r\n", "D: v=1;\r\n b =; z=b=1\r\n"}, // D-5: only b= itself
		{"tags that end in b", "D: xb=1; b=2\r\n", "D: xb=1; b=\r\n"},
		{"none", "D: v=1\r\n", "D: v=1\r\n"},
	} {
		if got := string(WithoutSignature([]byte(tt.in))); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestParseTags(t *testing.T) {
	for _, tt := range []struct{ name, in string }{
		{"twice", "a=1; b=2; a=3"},
		{"no equals sign", "a=1; b"},
		{"no name", "=1"},
		{"odd name", "a-b=1"},
		{"NUL", "d=legit.example\x00.evil.example"},
		{"8 bit", "d=\xc3\xa9"},
		{"too many", strings.Repeat("a=1;", 1) + manyTags(70)},
	} {
		if got, err := ParseTags(tt.in); err == nil {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	got, err := ParseTags(" v = 1 ;\r\n\td=example.com;; h = From : To\r\n :\tcc ; ")
	if err != nil || got["v"] != "1" || got["d"] != "example.com" || strings.Join(got.List("h"), ",") != "from,to,cc" {
		t.Errorf("tags = %v, %v", got, err)
	}
}

func manyTags(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("t" + strings.Repeat("x", i) + "=1;")
	}
	return b.String()
}
