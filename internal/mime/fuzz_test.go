package mime

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/testkit"

	"pgregory.net/rapid"
)

// FuzzInspect holds the walk to what it promises of any message: it ends within
// its limits, parts stand where they are said to stand, content has the size and
// is what the sum says.
func FuzzInspect(f *testing.F) {
	for i, h := range testkit.HostileMail("hello") {
		if i%15 == 0 {
			f.Add([]byte(h.Raw))
		}
	}
	f.Add([]byte("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\n--a--"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := mail.ReadMessage(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return
		}
		c := DefaultConfig()
		c.Parts, c.Decoded = 100, 8<<20
		in := Walk(context.Background(), m, c, func(p mail.Part, r io.Reader) error {
			n, err := io.Copy(io.Discard, r)
			if p.SHA256 != "" && (err != nil || n != p.Size) {
				t.Errorf("%s: %d bytes of %d: %v", p.Path, n, p.Size, err)
			}
			return nil
		})
		if len(in.Parts) > c.Parts || int64(len(in.Text)) > c.Text {
			t.Errorf("%d parts, %d bytes of text", len(in.Parts), len(in.Text))
		}
		paths := make(map[string]int)
		for _, p := range in.Parts {
			if p.At < 0 || p.Length < 0 || p.At+p.Length > m.BodySize() {
				t.Errorf("%s: %d bytes at %d of %d", p.Path, p.Length, p.At, m.BodySize())
			}
			paths[p.Path]++
		}
		nodes, again := Tree(context.Background(), m, c)
		if !slices.Equal(in.Ambiguous, again.Ambiguous) || len(in.Parts) != len(again.Parts) {
			t.Errorf("the second walk differs: %q, then %q", in.Ambiguous, again.Ambiguous)
		}
		for i, n := range nodes {
			if n.Parent >= i || n.At < 0 || n.At+n.Length > m.BodySize() || n.HeaderLength < 0 {
				t.Errorf("node %d: %+v", i, n)
			}
		}
	})
}

// FuzzParameters: whatever a field says, nothing panics and little comes out.
func FuzzParameters(f *testing.F) {
	f.Add(`attachment; filename*0*=utf-8''a%20; filename*1="b"`)
	f.Add(`attachment; filename="a\"b`)
	f.Add("=?utf-8?q?a=2Eb?= (c(d) ;;boundary = 'x'")
	f.Fuzz(func(t *testing.T, raw string) {
		s := parseStructured(raw, "filename", "boundary")
		for _, key := range []string{"filename", "boundary", "charset"} {
			values, sure := s.values(key)
			if sure > len(values) {
				t.Errorf("%d of %d are sure", sure, len(values))
			}
			for _, v := range values {
				if len(v) > 4*len(raw)+16 {
					t.Errorf("%d bytes of %d", len(v), len(raw))
				}
				for _, n := range CleanNames(v) {
					if strings.ContainsRune(n, 0) || strings.HasSuffix(n, ".") {
						t.Errorf("%q is not clean", n)
					}
				}
			}
		}
		decodeWords(raw)
		hostOf(raw)
	})
}

// FuzzDecoders: the pieces in which encoded text comes make no difference, nor
// does it where reading begins.
func FuzzDecoders(f *testing.F) {
	f.Add([]byte("QUJD=REVG\r\n=\r\n"), uint16(3))
	f.Add([]byte("a=20 \r\nb= \r\n=\rc=Z=4"), uint16(1))
	f.Add([]byte("begin 644 x\r\n#0V%T\r\n`\r\nend\r\n"), uint16(5))
	f.Add([]byte("=y=}\r\n*+\r\n=yend"), uint16(2))
	f.Add([]byte(":#3Im\"rr:"), uint16(2))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		for _, fresh := range []func() decoder{
			func() decoder { return newDecoder("base64") }, func() decoder { return &base64Decoder{ignorePad: true, urlSafe: true} }, func() decoder { return newDecoder("quoted-printable") },
			func() decoder { return newDecoder("uuencode") }, func() decoder { return &yencDecoder{} }, func() decoder { return &binhexDecoder{} },
		} {
			d := fresh()
			whole := d.end(d.decode(nil, in))
			at := int(cut) % (len(in) + 1)
			d = fresh()
			first := d.decode(nil, in[:at])
			copied := d.clone()
			d.end(d.decode(nil, in[at:])) // must not change the copy
			if got := copied.end(copied.decode(first, in[at:])); !bytes.Equal(got, whole) {
				t.Errorf("%T: %q in two pieces at %d: %q, in one: %q", d, in, at, got, whole)
			}
		}
	})
}

// FuzzSigned: any bytes may be said to be a signature.
func FuzzSigned(f *testing.F) {
	f.Add(cmsSignedData([]byte("hello"), false))
	f.Add(cmsSignedData([]byte("hello"), true))
	f.Fuzz(func(t *testing.T, in []byte) {
		_, pieces, _ := cmsContent(bytes.NewReader(in), int64(len(in)))
		for _, p := range pieces {
			if p.from < 0 || p.from > p.to || p.to > int64(len(in)) {
				t.Errorf("a piece from %d to %d of %d", p.from, p.to, len(in))
			}
		}
	})
}

// cmsSignedData is an opaque signature without signers.
func cmsSignedData(content []byte, indefinite bool) []byte {
	wrap := func(tag byte, in ...[]byte) []byte {
		b := bytes.Join(in, nil)
		switch {
		case indefinite && tag&0x20 != 0:
			return append(append([]byte{tag, 0x80}, b...), 0, 0)
		case len(b) < 128:
			return append([]byte{tag, byte(len(b))}, b...)
		}
		return append([]byte{tag, 0x82, byte(len(b) >> 8), byte(len(b))}, b...)
	}
	data := wrap(0x04, content)
	if indefinite {
		data = wrap(0x24, wrap(0x04, content[:len(content)/2]), wrap(0x04, content[len(content)/2:]))
	}
	oid := func(last byte) []byte {
		return wrap(0x06, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, last})
	}
	return wrap(0x30, oid(2), wrap(0xa0, wrap(0x30, wrap(0x02, []byte{1}), wrap(0x31), wrap(0x30, oid(1), wrap(0xa0, data)), wrap(0x31))))
}

// Whatever well-formed message is drawn, we find each part that the standard
// library finds, with its name and content, and have no doubts.
func TestAsStandard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := "MIME-Version: 1.0\r\n" + drawEntity(t, 0)
		want := standardParts(t, raw)
		m, err := mail.ReadMessage(strings.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		in := Walk(context.Background(), m, DefaultConfig(), nil)
		for _, p := range in.Parts {
			name := ""
			if len(p.Names) > 0 {
				name = p.Names[0]
			}
			got = append(got, fmt.Sprintf("%s %q %d", p.Declared, name, p.Size))
		}
		if !slices.Equal(got, want) || len(in.Ambiguous)+len(in.Unseen) > 0 {
			t.Fatalf("%s\ngot  %q %q %q\nwant %q", raw, got, in.Ambiguous, in.Unseen, want)
		}
	})
}

// drawEntity draws header and content.
func drawEntity(t *rapid.T, depth int) string {
	if depth < 4 && rapid.IntRange(0, 2).Draw(t, "multi") == 0 {
		b := fmt.Sprintf("=_%d_%s", depth, rapid.StringMatching(`[a-z]{8,20}`).Draw(t, "boundary"))
		s := "Content-Type: multipart/" + rapid.SampledFrom([]string{"mixed", "related", "alternative"}).Draw(t, "kind") + "; boundary=\"" + b + "\"\r\n\r\n"
		for range rapid.IntRange(1, 4).Draw(t, "parts") {
			s += "--" + b + "\r\n" + drawEntity(t, depth+1) + "\r\n"
		}
		return s + "--" + b + "--\r\n"
	}
	content := rapid.SliceOfN(rapid.ByteRange('a', 'p'), 1, 300).Draw(t, "content")
	s := "Content-Type: " + rapid.SampledFrom([]string{"text/plain", "image/x-thing", "application/octet-stream"}).Draw(t, "type") + "\r\n"
	if name := rapid.StringMatching(`([a-z][a-z ]{0,8}[a-z]\.txt)?`).Draw(t, "name"); name != "" {
		s += "Content-Disposition: " + mime.FormatMediaType("attachment", map[string]string{"filename": name}) + "\r\n"
	}
	switch rapid.IntRange(0, 2).Draw(t, "encoding") {
	case 0:
		return s + "Content-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(content) + "\r\n"
	case 1:
		var b strings.Builder
		w := quotedprintable.NewWriter(&b)
		w.Write(content)
		w.Close()
		return s + "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b.String()
	}
	return s + "\r\n" + string(content)
}

// standardParts takes raw apart with the standard library.
func standardParts(t *rapid.T, raw string) []string {
	head, body, _ := strings.Cut(raw, "\r\n\r\n")
	h := make(textproto.MIMEHeader)
	for line := range strings.SplitSeq(head, "\r\n") {
		name, value, _ := strings.Cut(line, ": ")
		h.Set(name, value)
	}
	return standardEntity(t, h, strings.NewReader(body))
}

func standardEntity(t *rapid.T, h textproto.MIMEHeader, r io.Reader) []string {
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(media, "multipart/") {
		var all []string
		parts := multipart.NewReader(r, params["boundary"])
		for {
			p, err := parts.NextRawPart()
			if errors.Is(err, io.EOF) {
				return all
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, standardEntity(t, p.Header, p)...)
		}
	}
	switch h.Get("Content-Transfer-Encoding") {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	name := ""
	if d := h.Get("Content-Disposition"); d != "" {
		_, params, _ := mime.ParseMediaType(d)
		name = params["filename"]
	}
	return []string{fmt.Sprintf("%s %q %d", media, name, len(content))}
}
