package mime

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// message makes a message of text with LF line ends.
func message(t testing.TB, text string) *mail.Message {
	t.Helper()
	raw := strings.ReplaceAll(text, "\n", "\r\n")
	m, err := mail.ReadMessage(strings.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func inspect(t testing.TB, m *mail.Message) *mail.Inside {
	t.Helper()
	return Inspect(context.Background(), m, DefaultConfig())
}

// brief shows parts in one line each.
func brief(in *mail.Inside) string {
	var b strings.Builder
	for _, p := range in.Parts {
		fmt.Fprintf(&b, "%s %s", p.Path, p.Declared)
		if len(p.Names) > 0 {
			fmt.Fprintf(&b, " %q", p.Names[0])
		}
		for _, f := range []struct {
			set  bool
			name string
		}{{p.Protected, "protected"}, {p.Encrypted, "encrypted"}, {p.Program, "program"}, {!p.Inline, "attached"}} {
			if f.set {
				b.WriteString(" " + f.name)
			}
		}
		fmt.Fprintf(&b, " %d\n", p.Size)
	}
	if len(in.Ambiguous) > 0 {
		fmt.Fprintf(&b, "ambiguous %s\n", strings.Join(in.Ambiguous, ", "))
	}
	if len(in.Unseen) > 0 {
		fmt.Fprintf(&b, "unseen %s\n", strings.Join(in.Unseen, ", "))
	}
	return b.String()
}

func TestInspect(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"no header", "\nhello\n", "1  7\n"},
		{"one part", "Content-Type: text/html\n\n<p>hello\n", "1 text/html 10\n"},
		{"nested", `Content-Type: multipart/mixed; boundary=a

--a
Content-Type: multipart/alternative; boundary=b

--b
Content-Type: text/plain

one
--b
Content-Type: text/html

two
--b--
--a
Content-Type: image/png; name=x.png
Content-Disposition: attachment

three
--a--
`, "1.1 text/plain 3\n1.2 text/html 3\n2 image/png \"x.png\" attached 5\n"},
		{"a message in a message", `Content-Type: multipart/mixed; boundary=a

--a
Content-Type: message/rfc822

Content-Type: multipart/mixed; boundary=b

--b

one
--b
Content-Type: message/rfc822

Subject: x

two
--b--
--a--
`, "1 message/rfc822 118\n1.1  3\n1.2 message/rfc822 17\n1.2.1  3\n"},
		{"a program, by its content", "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(append([]byte("MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00"), make([]byte, 200)...)) + "\n", "1 text/plain program 216\n"},
		{"M12 uuencode", "\nhello\nbegin 644 a.exe\n#0V%T\n`\nend\nbye\n", "1  44\n1/a.exe  \"a.exe\" attached 3\n"},
		{"M8 epilogue", "Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n--a--\nContent-Type: text/x-a; name=b.exe\n\ntwo\n", "1  3\nepilogue text/x-a \"b.exe\" 5\nambiguous epilogue\n"},
		{"M8 behind the close", "Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n--a--\n--a\nContent-Type: text/x-a; name=b.exe\n\ntwo\n--a--\n", "1  3\n3 text/x-a \"b.exe\" 3\nambiguous after-close\n"},
		{"M1 two boundaries", "Content-Type: multipart/mixed; boundary=a; boundary=b\n\n--a\n\none\n--a--\n--b\n\ntwo\n--b--\n", "1  3\n1~2  3\nambiguous boundary\n"},
		{"M7 padding in the middle", "Content-Type: text/x-a\nContent-Transfer-Encoding: base64\n\nQUJD\nRA==\nRUZH\n", "1 text/x-a 7\n1~2 text/x-a 4\n1~3 text/x-a 7\nambiguous base64\n"},
		{"S/MIME, opaque", "Content-Type: application/pkcs7-mime; name=smime.p7m; smime-type=signed-data\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(cmsSignedData([]byte("Content-Type: text/x-a; name=a.exe\r\n\r\nhello"), true)) + "\n",
			"1 application/pkcs7-mime \"smime.p7m\" protected 104\n1.1 text/x-a \"a.exe\" protected 5\n"},
		{"S/MIME, broken", "Content-Type: application/pkcs7-mime; name=smime.p7m\n\nhello\n", "1 application/pkcs7-mime \"smime.p7m\" protected 7\nunseen signed-inside\n"},
		{"S/MIME, encrypted", "Content-Type: application/pkcs7-mime\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte("\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03\xa0\x00")) + "\n", "1 application/pkcs7-mime protected encrypted 15\n"},
		{"PGP/MIME, signed", "Content-Type: multipart/signed; boundary=a\n\n--a\n\nx\n--a\nContent-Type: application/pgp-signature\n\ny\n--a--\n", "1  protected 1\n2 application/pgp-signature protected 1\n"},
		{"PGP/MIME, encrypted", "Content-Type: multipart/encrypted; boundary=a\n\n--a\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--a\nContent-Type: application/octet-stream\n\ny\n--a--\n", "1 application/pgp-encrypted protected 10\n2 application/octet-stream protected encrypted 1\n"},
		{"message/partial", "Content-Type: message/partial; id=x; number=1; total=2\n\nSubject: x\n\nhello\n", "1 message/partial 21\n1.1  7\nunseen partial\n"},
		{"encoded, and nothing says so", "Content-Type: image/png\n\n" + strings.Repeat("QUJD", 15) + "\n", "1 image/png 62\n1~2 image/png 45\n"},
		{"a multipart that is none", "Content-Type: multipart/mixed; boundary=a\n\nhello\n", "1  7\nambiguous no-delimiter\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := brief(inspect(t, message(t, tt.text))); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

// Where a node or part is said to stand, there it stands.
func TestTree(t *testing.T) {
	const text = `Content-Type: multipart/mixed; boundary=a

preamble
--a
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: Quoted-Printable

one
--a
Content-Type: message/rfc822

Content-Type: multipart/signed; boundary="b"

--b
Content-Type: text/plain; name=x

two
--b--

--a--
epilogue
`
	m := message(t, text)
	body, err := io.ReadAll(m.Body())
	if err != nil {
		t.Fatal(err)
	}
	nodes, in := Tree(context.Background(), m, DefaultConfig())
	var got []string
	for _, n := range nodes {
		delimiter := ""
		if n.DelimiterAt >= 0 {
			delimiter, _, _ = strings.Cut(string(body[n.DelimiterAt:]), "\r\n")
		}
		got = append(got, fmt.Sprintf("%s<%d %s %s %s %q %s %q %v", n.Path, n.Parent, n.Type, n.Encoding, n.Boundary, body[n.HeaderAt:n.HeaderAt+n.HeaderLength], delimiter, shorten(body[n.At:n.At+n.Length]), n.Protected))
	}
	want := []string{
		`<-1 multipart/mixed  a ""  "preamb…logue\r\n" false`,
		`1<0 text/plain quoted-printable  "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\n" --a "one" false`,
		`2<0 message/rfc822   "Content-Type: message/rfc822\r\n\r\n" --a "Conten…--b--\r\n" false`,
		`2<2 multipart/signed  b "Content-Type: multipart/signed; boundary=\"b\"\r\n\r\n"  "--b\r\nC…--b--\r\n" true`,
		`2.1<3 text/plain   "Content-Type: text/plain; name=x\r\n\r\n" --b "two" true`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, p := range in.Parts {
		content, err := io.ReadAll(Decode("quoted-printable", bytes.NewReader(body[p.At:p.At+p.Length])))
		if err != nil || int64(len(content)) != p.Size {
			t.Errorf("%s: %q is not of %d bytes: %v", p.Path, content, p.Size, err)
		}
	}
}

func shorten(b []byte) string {
	if len(b) <= 20 {
		return string(b)
	}
	return string(b[:6]) + "…" + string(b[len(b)-7:])
}

func TestWalkShowsEachContentOnce(t *testing.T) {
	m := message(t, "Content-Type: multipart/mixed; boundary=a; boundary=b\n\n--a\n\nsame\n--a\nContent-Transfer-Encoding: base64\n\nc2FtZQ==\n--a\n\nother\n--a--\n--b\n\nsame\n--b--\n")
	var got []string
	Walk(context.Background(), m, DefaultConfig(), func(p mail.Part, r io.Reader) error {
		b, err := io.ReadAll(r)
		got = append(got, p.Path+" "+string(b))
		return err
	})
	if want := []string{"1 same", "3 other"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWalkEnds(t *testing.T) {
	m := message(t, "Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n--a\n\ntwo\n--a--\n")
	calls := 0
	in := Walk(context.Background(), m, DefaultConfig(), func(mail.Part, io.Reader) error {
		calls++
		return errors.New("enough")
	})
	if calls != 1 || !slices.Contains(in.Unseen, Visited) {
		t.Errorf("%d calls, unseen %q", calls, in.Unseen)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if in := Inspect(ctx, m, DefaultConfig()); !slices.Contains(in.Unseen, OverTime) {
		t.Errorf("without time: unseen %q", in.Unseen)
	}
	broken := mail.NewMessage(m.Header, failing{}, 100)
	if in := Inspect(context.Background(), broken, DefaultConfig()); !slices.Contains(in.Unseen, Unreadable) {
		t.Errorf("a body that can't be read: unseen %q", in.Unseen)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errors.New("disk on fire") }

func TestLimits(t *testing.T) {
	parts := "Content-Type: multipart/mixed; boundary=a\n\n" + strings.Repeat("--a\n\nx\n", 20) + "--a--\n"
	deep := "\nx\n"
	for i := range 8 {
		deep = fmt.Sprintf("Content-Type: multipart/mixed; boundary=a.%d.\n\n--a.%d.\n%s\n--a.%d.--\n", i, i, deep, i)
	}
	tests := []struct {
		name, text, want string
		c                Config
	}{
		{"parts", parts, OverParts, Config{Parts: 10}},
		{"depth", deep, OverDepth, Config{Depth: 5}},
		{"decoded", "Content-Type: image/png\nContent-Transfer-Encoding: base64\n\n" + strings.Repeat("QUJD", 1000) + "\n", OverDecoded, Config{Decoded: 1000}},
		{"header", "Content-Type: multipart/mixed; boundary=a\n\n--a\n" + strings.Repeat("A: "+strings.Repeat("x", 900)+"\n", 400), OverHeader, Config{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if in := Inspect(context.Background(), message(t, tt.text), tt.c); !slices.Contains(in.Unseen, tt.want) {
				t.Errorf("unseen %q, want %q", in.Unseen, tt.want)
			}
			if in := inspect(t, message(t, tt.text)); len(in.Unseen) > 0 && tt.want != OverHeader {
				t.Errorf("with ordinary limits: unseen %q", in.Unseen)
			}
		})
	}
}
