package alter

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	stdmime "mime"
	"mime/multipart"
	netmail "net/mail"
	"runtime"
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/internal/mail"
)

// message reads a text with bare line feeds.
func message(t testing.TB, text string) *mail.Message {
	t.Helper()
	text = strings.ReplaceAll(text, "\n", "\r\n")
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// inspect is a simple stand-in for internal/mime: what the standard library
// decodes, at the places where this package sees it.
func inspect(_ context.Context, m *mail.Message) *mail.Inside {
	root, err := parse(m)
	if err != nil {
		return &mail.Inside{Ambiguous: []string{err.Error()}}
	}
	inside := new(mail.Inside)
	var walk func(n *node, path string)
	walk = func(n *node, path string) {
		for i, c := range n.children {
			p := fmt.Sprint(i + 1)
			if path != "" {
				p = path + "." + p
			}
			walk(c, p)
		}
		if len(n.children) > 0 && n.media != "message/rfc822" {
			return
		}
		raw := make([]byte, n.end-n.at)
		_, _ = m.Body().ReadAt(raw, n.at)
		content, _ := decode(raw, n.encoding())
		sum := sha256.Sum256(content)
		p := mail.Part{Path: path, Declared: n.media, Detected: n.media, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:]), At: n.at, Length: n.end - n.at, Protected: n.isProtected()}
		if path == "" {
			p.Path = "1"
		}
		for _, name := range []string{"Content-Disposition", "Content-Type"} {
			if _, params, err := stdmime.ParseMediaType(n.header.Get(name)); err == nil && params["filename"]+params["name"] != "" {
				p.Names = append(p.Names, params["filename"]+params["name"])
			}
		}
		inside.Parts = append(inside.Parts, p)
	}
	walk(root, "")
	return inside
}

func finisher(t testing.TB) *Finisher {
	f, err := New(Config{Hostname: "mx1.example.com", Inspect: inspect, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// altered is what goes out.
func altered(t testing.TB, m *mail.Message, alter ...mail.Alteration) (*mail.Message, error) {
	t.Helper()
	tx := &mail.Transaction{ID: "ID1", Stage: mail.StageMessage, Message: m, Inside: inspect(context.Background(), m)}
	edits, err := finisher(t).Finish(context.Background(), tx, mail.Verdict{Alter: alter})
	if err != nil {
		return nil, err
	}
	_, after := mail.Apply(mail.Envelope{}, m, edits)
	return after, nil
}

func text(t testing.TB, m *mail.Message) string {
	t.Helper()
	b, err := io.ReadAll(m.Reader())
	if err != nil || int64(len(b)) != m.Size() {
		t.Fatalf("read %d bytes of %d: %v", len(b), m.Size(), err)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

const mixed = `From: a@sender.test
Subject: papers
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b1"

preamble
--b1
Content-Type: text/plain

hello
--b1
Content-Type: application/octet-stream; name="a.exe"
Content-Description: a.exe
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="a.exe"
X-Own: kept

TVqQAAMAAAAEAAAA
--b1  
Content-Type: image/png; name=b.png
Content-Transfer-Encoding: base64

iVBORw0KGgo=

--b1--
epilogue
`

func TestStrip(t *testing.T) {
	after, err := altered(t, message(t, mixed), mail.StripParts{Paths: []string{"2"}, Why: "ends in .exe (list standard)"})
	if err != nil {
		t.Fatal(err)
	}
	got := text(t, after)
	before, rest, _ := strings.Cut(mixed, `Content-Type: application/octet-stream`)
	_, behind, _ := strings.Cut(rest, "TVqQAAMAAAAEAAAA")
	if !strings.HasPrefix(got, before) || !strings.HasSuffix(got, behind) {
		t.Errorf("other parts are not as they were:\n%s", got)
	}
	for _, want := range []string{"Name:      a.exe", "Reason:    ends in .exe (list standard)", "Reference: ID1 at mx1.example.com", "Type:      application/octet-stream"} {
		if !strings.Contains(got, want) {
			t.Errorf("the note lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "TVqQ") || strings.Contains(got, `"a.exe"`) {
		t.Errorf("the part is still there:\n%s", got)
	}
	if parts := split(t, after); len(parts) != 3 || !strings.Contains(parts[1], "An attachment was removed") {
		t.Errorf("the standard library sees %q", parts)
	}
}

// split is what mime/multipart sees at the top.
func split(t *testing.T, m *mail.Message) []string {
	t.Helper()
	parsed, err := netmail.ReadMessage(m.Reader())
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := stdmime.ParseMediaType(parsed.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	r := multipart.NewReader(parsed.Body, params["boundary"])
	var all []string
	for {
		p, err := r.NextPart()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(b))
	}
}

func TestStripAll(t *testing.T) {
	m := message(t, "From: a@sender.test\nContent-Type: application/x-msdownload; name=\"a.exe\"\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment;\n filename=a.exe\nX-Last: 1\n\nTVqQAAMAAAAEAAAA\n")
	after, err := altered(t, m, mail.StripParts{Paths: []string{"1"}, Why: "no"}, mail.AddText{Text: "banner", Top: true})
	if err != nil {
		t.Fatal(err)
	}
	got := text(t, after)
	want := "From: a@sender.test\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\nX-Last: 1\nMIME-Version: 1.0\n\nAn attachment was removed"
	if !strings.HasPrefix(got, want) || strings.Contains(got, "TVq") {
		t.Errorf("got\n%s\nwant\n%s…", got, want)
	}
}

func TestRename(t *testing.T) {
	after, err := altered(t, message(t, mixed), mail.RenameParts{Paths: []string{"2"}})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(
		"application/octet-stream; name=\"a.exe\"", "application/octet-stream",
		"Content-Description: a.exe\n", "",
		"filename=\"a.exe\"", "filename=a.DEFANGED-exe").Replace(mixed)
	if got := text(t, after); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	root := message(t, "Content-Type: application/x-msdownload; name=\"é.exe\"\nContent-Transfer-Encoding: base64\n\nTVqQ\n")
	after, err = altered(t, root, mail.RenameParts{Paths: []string{"1"}})
	if err != nil {
		t.Fatal(err)
	}
	got := text(t, after)
	if got != "Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename*=utf-8''%C3%A9.DEFANGED-exe\n\nTVqQ\n" {
		t.Errorf("got\n%s", got)
	}
}

func TestDefanged(t *testing.T) {
	for name, want := range map[string]string{
		"USELESS_EYE_CANDY.EXE": "USELESS_EYE_CANDY.DEFANGED-EXE",
		"a.pdf.exe":             "a.pdf.DEFANGED-exe",
		"a":                     "a.DEFANGED",
		"a.":                    "a.DEFANGED",
		".exe":                  ".DEFANGED-exe",
		"a.DEFANGED-exe":        "a.DEFANGED-exe",
	} {
		if got := defanged(name); got != want {
			t.Errorf("defanged(%q) = %q, want %q", name, got, want)
		}
	}
}

// What can't be done for certain is held, and nothing is changed.
func TestHeld(t *testing.T) {
	signed := strings.Replace(mixed, "multipart/mixed", `multipart/signed; micalg=sha256; protocol="application/pgp-signature"`, 1)
	tests := []struct {
		name, text string
		change     func(*mail.Inside)
		want       string
	}{
		{"signed", signed, nil, "is signed or encrypted"},
		{"marked as protected", mixed, func(i *mail.Inside) { i.Parts[1].Protected = true }, "is signed or encrypted"},
		{"ambiguous", mixed, func(i *mail.Inside) { i.Ambiguous = []string{"boundary"} }, "in different ways (boundary)"},
		{"no such part", mixed, func(i *mail.Inside) { i.Parts = i.Parts[:1] }, `no part "2"`},
		{"seen elsewhere", mixed, func(i *mail.Inside) { i.Parts[1].At += 4 }, "other programs may not see"},
		{"M1 two types", strings.Replace(mixed, "Content-Type", "Content-Type: text/plain\nContent-Type", 1), nil, "different ways"},
		{"M8 no end", strings.Replace(mixed, "--b1--", "", 1), nil, "different ways"},
		{"M8 prefix", strings.Replace(mixed, "hello", "--b12\nhello", 1), nil, "different ways"},
		{"M8 behind the end", mixed + "--b1\n\nmore\n", nil, "different ways"},
		{"M8 bare line feed", strings.Replace(mixed, "hello", "hello\r--b1\rx", 1), nil, ""},
		{"M9 no empty line", strings.Replace(mixed, "X-Own: kept\n", "X-Own: kept\nno field\n", 1), nil, "different ways"},
		{"encoded multipart", strings.Replace(mixed, "MIME-Version: 1.0", "MIME-Version: 1.0\nContent-Transfer-Encoding: base64", 1), nil, "different ways"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := message(t, tt.text)
			inside := inspect(context.Background(), m)
			if tt.change != nil {
				tt.change(inside)
			}
			for _, a := range []mail.Alteration{mail.StripParts{Paths: []string{"2"}}, mail.RenameParts{Paths: []string{"2"}}} {
				tx := &mail.Transaction{Message: m, Inside: inside}
				edits, err := finisher(t).Finish(context.Background(), tx, mail.Verdict{Alter: []mail.Alteration{a}})
				var hold *filters.HoldError
				if tt.want != "" && (!errors.As(err, &hold) || !strings.Contains(hold.Reason, tt.want) || edits != nil) {
					t.Errorf("%T: %v, %v; want held: %s", a, edits, err, tt.want)
				}
				if tt.want == "" && err != nil {
					t.Errorf("%T: %v", a, err)
				}
			}
		})
	}
}

// A result in which the part is still seen never goes out.
func TestVerify(t *testing.T) {
	m := message(t, mixed)
	before := inspect(context.Background(), m)
	for name, after := range map[string]func(*mail.Inside) *mail.Inside{
		"nothing changed": func(*mail.Inside) *mail.Inside { return before },
		"still there, of another name": func(i *mail.Inside) *mail.Inside {
			p := before.Parts[1]
			p.Names = nil
			i.Parts = append(i.Parts, p)
			return i
		},
		"name still there": func(i *mail.Inside) *mail.Inside {
			i.Parts = append(i.Parts, mail.Part{Names: []string{"A.exe"}})
			return i
		},
		"another part lost": func(i *mail.Inside) *mail.Inside { i.Parts = i.Parts[1:]; return i },
		"ambiguous":         func(i *mail.Inside) *mail.Inside { i.Ambiguous = []string{"x"}; return i },
		"over a limit":      func(i *mail.Inside) *mail.Inside { i.Unseen = []string{"x"}; return i },
		"not inspected":     func(*mail.Inside) *mail.Inside { return nil },
	} {
		f := finisher(t)
		f.cfg.Inspect = func(ctx context.Context, m *mail.Message) *mail.Inside { return after(inspect(ctx, m)) }
		tx := &mail.Transaction{Message: m, Inside: before}
		_, err := f.Finish(context.Background(), tx, mail.Verdict{Alter: []mail.Alteration{mail.StripParts{Paths: []string{"2"}}}})
		var hold *filters.HoldError
		if !errors.As(err, &hold) {
			t.Errorf("%s: %v, want held", name, err)
		}
	}
	tx := &mail.Transaction{Message: m}
	if _, err := finisher(t).Finish(context.Background(), tx, mail.Verdict{Alter: []mail.Alteration{mail.StripParts{Paths: []string{"2"}}}}); err == nil {
		t.Error("a message that was not taken apart: no error")
	}
}

// What lies in an archive goes with the archive; two parts go at once.
func TestStripSeveral(t *testing.T) {
	m := message(t, mixed)
	inside := inspect(context.Background(), m)
	inside.Parts = append(inside.Parts, mail.Part{Path: "2/x/y.exe", Names: []string{"y.exe"}, Depth: 1, SHA256: "of y"})
	tx := &mail.Transaction{Message: m, Inside: inside}
	edits, err := finisher(t).Finish(context.Background(), tx, mail.Verdict{Alter: []mail.Alteration{
		mail.StripParts{Paths: []string{"2/x/y.exe"}, Why: "x"}, mail.StripParts{Paths: []string{"2", "3"}, Why: "y"}, mail.RenameParts{Paths: []string{"3"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, after := mail.Apply(mail.Envelope{}, m, edits)
	got := split(t, after)
	if len(got) != 3 || strings.Count(strings.Join(got, ""), "was removed") != 2 || got[0] != "hello" {
		t.Errorf("parts %q", got)
	}
}

func TestSplice(t *testing.T) {
	old := "0123456789"
	s := splice(strings.NewReader(old), 10, []piece{{4, 2, []byte("XYZ")}, {0, 1, nil}, {4, 1, []byte("never")}, {10, 0, []byte("end")}, {7, 0, []byte("-")}})
	want := "123XYZ6-789end"
	got, err := io.ReadAll(io.NewSectionReader(s, 0, s.size))
	if string(got) != want || err != nil || s.size != int64(len(want)) {
		t.Fatalf("got %q %v, want %q", got, err, want)
	}
	for off := range len(want) + 2 {
		for n := range len(want) + 2 {
			b := make([]byte, n)
			got, err := s.ReadAt(b, int64(off))
			w := want[min(off, len(want)):min(off+n, len(want))]
			if string(b[:got]) != w || (got < n) != (err == io.EOF) {
				t.Fatalf("ReadAt(%d, %d) = %q, %v; want %q", n, off, b[:got], err, w)
			}
		}
	}
}

// A large body is never held: what is read of it for a strip near its end is
// little more than a pass for its lines.
func TestLargeBody(t *testing.T) {
	line := strings.Repeat("A", 76) + "\r\n"
	head := strings.ReplaceAll("Content-Type: multipart/mixed; boundary=b1\n\n--b1\nContent-Type: application/zip; name=big.zip\n\n", "\n", "\r\n")
	tail := strings.ReplaceAll("\n--b1\nContent-Type: application/x; name=a.exe\n\nMZ\n--b1--\n", "\n", "\r\n")
	big := head + strings.Repeat(line, 300_000) + tail // 23 MB
	m, err := mail.ReadMessage(strings.NewReader(big), int64(len(big)))
	if err != nil {
		t.Fatal(err)
	}
	inside := inspect(context.Background(), m)
	f := finisher(t)
	f.cfg.Inspect = func(context.Context, *mail.Message) *mail.Inside {
		return &mail.Inside{Parts: inside.Parts[:1]}
	}
	var before, behind runtime.MemStats
	runtime.ReadMemStats(&before)
	edits, err := f.Finish(context.Background(), &mail.Transaction{Message: m, Inside: inside}, mail.Verdict{Alter: []mail.Alteration{mail.StripParts{Paths: []string{"2"}}}})
	runtime.ReadMemStats(&behind)
	if err != nil {
		t.Fatal(err)
	}
	if allocated := behind.TotalAlloc - before.TotalAlloc; allocated > 4<<20 {
		t.Errorf("%d bytes allocated", allocated)
	}
	_, after := mail.Apply(mail.Envelope{}, m, edits)
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(after.Body(), 0, int64(len(head)-2+300_000*len(line)))); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 200)
	if _, err := after.Body().ReadAt(b, after.BodySize()-200); err != nil || !bytes.HasSuffix(b, []byte("\r\n--b1--\r\n")) {
		t.Errorf("the end is %q, %v", b, err)
	}
}

// Whatever the message is, nothing panics, and what goes out with a part taken
// out does not have it any more.
func FuzzFinish(f *testing.F) {
	f.Add(mixed)
	f.Add("Content-Type: text/html; charset=utf-16\n\n<body>")
	f.Add("Content-Type: text/plain; charset=iso-2022-jp; format=flowed\nContent-Transfer-Encoding: quoted-printable\n\n=1B$B")
	f.Add("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n<body>=2D-b\n--b\n\nx\n--b--\n")
	f.Add("Subject: =?utf-8?q?a?=\n b\nContent-Type: multipart/alternative; boundary=x\n\n--x\nContent-Type: message/rfc822\n\nA: b\n\nc\n--x--")
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ReplaceAll(s, "\n", "\r\n")
		m, err := mail.ReadMessage(strings.NewReader(s), int64(len(s)))
		if err != nil {
			return
		}
		inside := inspect(context.Background(), m)
		var paths []string
		for _, p := range inside.Parts {
			paths = append(paths, p.Path)
		}
		all := []mail.Alteration{mail.TagSubject{Text: "[tég]"}, mail.AddText{Text: "ünten\n"}, mail.AddText{Text: "top", HTML: "<b>ö</b>", Top: true}}
		if len(paths) > 1 {
			all = append(all, mail.StripParts{Paths: paths[1:2]}, mail.RenameParts{Paths: paths[len(paths)-1:]})
		}
		tx := &mail.Transaction{Message: m, Inside: inside}
		edits, err := finisher(t).Finish(context.Background(), tx, mail.Verdict{Alter: all})
		if err != nil {
			return
		}
		_, after := mail.Apply(mail.Envelope{}, m, edits)
		out, err := io.ReadAll(after.Reader())
		if err != nil || int64(len(out)) != after.Size() {
			t.Fatalf("read %d of %d: %v", len(out), after.Size(), err)
		}
		if again := inspect(context.Background(), after); len(again.Parts) > len(inside.Parts) {
			t.Fatalf("%d parts, then %d in\n%q", len(inside.Parts), len(again.Parts), out)
		}
		if again, err := mail.ReadMessage(bytes.NewReader(out), int64(len(out))); err == nil && len(again.Header) != len(after.Header) {
			t.Fatalf("%d fields, then %d", len(after.Header), len(again.Header))
		}
	})
}

// An attached message goes with all that is in it.
func TestStripMessage(t *testing.T) {
	m := message(t, alternative)
	after, err := altered(t, m, mail.StripParts{Paths: []string{"3"}, Why: "no"})
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(alternative, "Content-Type: message/rfc822")
	if got := text(t, after); !strings.HasPrefix(got, before) || strings.Contains(got, "attached\n") || !strings.HasSuffix(got, "\n--m--\n") {
		t.Errorf("got\n%s", got)
	}
	inside := inspect(context.Background(), m)
	inside.Parts = append(inside.Parts, mail.Part{Path: "2/a.exe", Names: []string{"a.exe"}, At: 10, Length: 20}) // uuencoded
	tx := &mail.Transaction{Message: m, Inside: inside}
	_, err = finisher(t).Finish(context.Background(), tx, mail.Verdict{Alter: []mail.Alteration{mail.StripParts{Paths: []string{"2/a.exe"}}}})
	var hold *filters.HoldError
	if !errors.As(err, &hold) || !strings.Contains(hold.Reason, "in the text of another part") {
		t.Errorf("a file in a text: %v, want held", err)
	}
}

// A part that goes and text that is added do not get in each other's way.
func TestStripAndText(t *testing.T) {
	after, err := altered(t, message(t, mixed), mail.StripParts{Paths: []string{"2"}, Why: "no"}, mail.AddText{Text: "top", Top: true}, mail.TagSubject{Text: "[x]"}, mail.RenameParts{Paths: []string{"3"}})
	if err != nil {
		t.Fatal(err)
	}
	got := text(t, after)
	for _, want := range []string{"Subject: [x] papers\n", "\n\ntop\n\nhello\n--b1\n", "was removed", "filename=b.DEFANGED-png", "\niVBORw0KGgo=\n\n--b1--\nepilogue\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
}
