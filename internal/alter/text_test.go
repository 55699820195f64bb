package alter

import (
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func TestSubject(t *testing.T) {
	tests := []struct{ name, in, tag, want string }{
		{"plain", "Subject: hello\n", "[SPAM]", "Subject: [SPAM] hello\n"},
		{"none", "From: a\n", "[SPAM]", "From: a\nSubject: [SPAM]\n"},
		{"empty", "Subject:\n", "[SPAM]", "Subject: [SPAM]\n"},
		{"only blanks", "Subject: \n", "[SPAM]", "Subject: [SPAM]\n"},
		{"there already", "Subject: [SPAM] hello\n", "[SPAM]", "Subject: [SPAM] hello\n"},
		{"in an answer", "Subject: Re: [SPAM] hello\n", "[SPAM]", "Subject: Re: [SPAM] hello\n"},
		{"in an encoded answer", "Subject: Re: =?utf-8?b?W1NQQU1dIGjDqQ==?=\n", "[SPAM]", "Subject: Re: =?utf-8?b?W1NQQU1dIGjDqQ==?=\n"},
		{"in an answer in latin-1", "Subject: Re: =?iso-8859-1?q?[T=E9g]_x?=\n", "[Tég]", "Subject: Re: =?iso-8859-1?q?[T=E9g]_x?=\n"},
		{"encoded subject", "Subject: =?utf-8?q?h=C3=A9?=\n =?utf-8?q?llo?=\n", "[SPAM]", "Subject: [SPAM] =?utf-8?q?h=C3=A9?=\n =?utf-8?q?llo?=\n"},
		{"encoded tag", "Subject: =?utf-8?q?h=C3=A9?=\n", "[Tég]", "Subject: =?utf-8?q?[T=C3=A9g]_?= =?utf-8?q?h=C3=A9?=\n"},
		{"folded at once", "Subject:\n hello\n", "[SPAM]", "Subject: [SPAM]\n hello\n"},
		{"long", "Subject: " + strings.Repeat("x", 70) + "\n", "[SPAM]", "Subject: [SPAM]\n " + strings.Repeat("x", 70) + "\n"},
		{"two fields", "Subject: a\nSubject: b\n", "[SPAM]", "Subject: [SPAM] a\nSubject: [SPAM] b\n"},
		{"spelt oddly", "sUBJECT :\thello\n", "[SPAM]", "sUBJECT : [SPAM] hello\n"},
		{"no control characters", "Subject: a\n", "x\r\nBcc: y", "Subject: x Bcc: y a\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := message(t, tt.in+"\nbody\n")
			after, err := altered(t, m, mail.TagSubject{Text: tt.tag})
			if err != nil {
				t.Fatal(err)
			}
			got, _, _ := strings.Cut(text(t, after), "\n\n")
			if got+"\n" != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			again, err := altered(t, after, mail.TagSubject{Text: tt.tag})
			if err != nil || text(t, again) != text(t, after) {
				t.Errorf("a second time: %v\n%s", err, text(t, again))
			}
		})
	}
}

func TestAddText(t *testing.T) {
	top := mail.AddText{Text: "from outside\n", Top: true}
	end := mail.AddText{Text: "Acme Ltd.\nLondon"}
	umlaut := mail.AddText{Text: "Grüße"}
	euro := mail.AddText{Text: "5 €"}
	tests := []struct {
		name, in string
		add      []mail.Alteration
		want     string // "": as it was
	}{
		{"plain", "A: b\n\nhello\n", []mail.Alteration{top, end}, "A: b\n\nfrom outside\n\nhello\n\nAcme Ltd.\nLondon\n"},
		{"no line end", "A: b\n\nhello", []mail.Alteration{end}, "A: b\n\nhello\n\nAcme Ltd.\nLondon\n"},
		{"empty", "A: b\n\n", []mail.Alteration{end}, "A: b\n\n\nAcme Ltd.\nLondon\n"},
		{"two footers", "A: b\n\nhello\n", []mail.Alteration{end, mail.AddText{Text: "second"}}, "A: b\n\nhello\n\nAcme Ltd.\nLondon\n\nsecond\n"},
		{"not ASCII", "A: b\n\nhello\n", []mail.Alteration{umlaut}, "A: b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\nMIME-Version: 1.0\n\nhello\n\nGr=C3=BC=C3=9Fe\n"},
		{"latin-1, 8bit", "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nl\xe4\n", []mail.Alteration{umlaut}, "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nl\xe4\n\nGr\xfc\xdfe\n"},
		{"latin-1 lacks it", "MIME-Version: 1.0\nContent-Type: text/plain; charset=iso-8859-1; format=flowed\nContent-Transfer-Encoding: quoted-printable\n\nl=E4\n", []mail.Alteration{euro}, "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8; format=flowed\nContent-Transfer-Encoding: quoted-printable\n\nl=C3=A4\n\n5 =E2=82=AC\n"},
		{"utf-8, base64", "Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: BASE64\n\nbMOkCg==\n", []mail.Alteration{euro}, "Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: BASE64\n\nbMOkCgo1IOKCrAo=\n"},
		{"quoted-printable ends softly", "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\nhello=\n", []mail.Alteration{end}, "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\nhello\n\nAcme Ltd.\nLondon\n"},
		{"flowed", "Content-Type: text/plain; format=flowed\n\nhello \n", []mail.Alteration{mail.AddText{Text: "From us \n> x"}}, "Content-Type: text/plain; format=flowed\n\nhello \n\n From us\n > x\n"},
		{"japanese", "Content-Type: text/plain; charset=iso-2022-jp\n\n\x1b$B$\"\x1b(B\n", []mail.Alteration{end}, "Content-Type: text/plain; charset=iso-2022-jp\n\n\x1b$B$\"\x1b(B\n\nAcme Ltd.\nLondon\n"},
		{"unknown charset, ASCII", "Content-Type: text/plain; charset=x-nobody\n\nhello\n", []mail.Alteration{end}, "Content-Type: text/plain; charset=x-nobody\n\nhello\n\nAcme Ltd.\nLondon\n"},
		{"unknown charset, not ASCII", "Content-Type: text/plain; charset=x-nobody\n\nhello\n", []mail.Alteration{euro}, ""},
		{"utf-7", "Content-Type: text/plain; charset=utf-7\n\nhello\n", []mail.Alteration{end}, ""},
		{"utf-16", "Content-Type: text/plain; charset=utf-16be\nContent-Transfer-Encoding: base64\n\nAGgA6Q==\n", []mail.Alteration{end}, ""},
		{"HTML", "Content-Type: text/html\n\n<html><head><title></body></title></head><BODY bgcolor=\">\"><p>x</p></Body></html>\n", []mail.Alteration{top, umlaut}, "Content-Type: text/html\n\n<html><head><title></body></title></head><BODY bgcolor=\">\">\n<div>from outside</div><p>x</p>\n<div>Gr&#252;&#223;e</div></Body></html>\n"},
		{"HTML with its own form", "Content-Type: text/html; charset=utf-8\n\n<p>x\n", []mail.Alteration{mail.AddText{Text: "a<b", HTML: "<b>é</b>"}}, "Content-Type: text/html; charset=utf-8\n\n<p>x\n\n<div><b>&#233;</b></div>"},
		{"HTML, text is escaped", "Content-Type: text/html\n\n<p>x\n", []mail.Alteration{mail.AddText{Text: "a<b\nc", Top: true}}, "Content-Type: text/html\n\n\n<div>a&lt;b<br>\nc</div><p>x\n"},
		{"body in a comment", "Content-Type: text/html\n\n<!-- <body> --><head></head>x\n", []mail.Alteration{top}, "Content-Type: text/html\n\n<!-- <body> --><head></head>\n<div>from outside</div>x\n"},
		{"OpenPGP", "A: b\n\n-----BEGIN PGP SIGNED MESSAGE-----\nx\n", []mail.Alteration{end}, ""},
		{"S/MIME", "Content-Type: application/pkcs7-mime; name=smime.p7m\nContent-Transfer-Encoding: base64\n\nMII=\n", []mail.Alteration{end}, ""},
		{"an attachment", "Content-Type: text/plain\nContent-Disposition: attachment; filename=a.txt\n\nx\n", []mail.Alteration{end}, ""},
		{"bad base64", "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\nQUJD=REVG\n", []mail.Alteration{end}, ""},
		{"unknown encoding", "Content-Type: text/plain\nContent-Transfer-Encoding: x-uu\n\nx\n", []mail.Alteration{end}, ""},
		{"a notification", "Content-Type: multipart/report; boundary=b\n\n--b\n\nx\n--b--\n", []mail.Alteration{end}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			after, err := altered(t, message(t, tt.in), tt.add...)
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if want == "" {
				want = tt.in
			}
			if got := text(t, after); got != want {
				t.Errorf("got\n%q\nwant\n%q", got, want)
			}
		})
	}
}

const alternative = `Content-Type: multipart/mixed; boundary=m

--m
Content-Type: multipart/alternative; boundary=a

--a
Content-Type: text/plain

hello
--a
Content-Type: multipart/related; boundary=r

--r
Content-Type: text/html

<body>hello</body>
--r
Content-Type: image/png
Content-Transfer-Encoding: base64

iVBORw0KGgo=
--r--

--a--

--m
Content-Type: text/plain
Content-Disposition: inline; filename=a.txt

file
--m
Content-Type: message/rfc822

A: b

attached
--m--
`

// What only looks like text must not become a part when text is added.
func TestAddTextMakesNoParts(t *testing.T) {
	const evil = "--b\nContent-Type: application/x-msdownload; name=a.exe\n\nMZ\n"
	hidden := strings.ReplaceAll(evil, "--b", "=2D-b")
	around := func(part string) string {
		return "Content-Type: multipart/mixed; boundary=b\n\n--b\n" + part + "\n--b--\n"
	}
	tests := []struct{ name, in string }{
		{"quoted-printable", around("Content-Transfer-Encoding: quoted-printable\n\n" + hidden)},
		{"quoted-printable HTML", around("Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n<body>" + hidden)},
		{"many dashes", around("Content-Transfer-Encoding: quoted-printable\n\n" + strings.Repeat("=2D", 500) + "b\n" + hidden)},
		{"in the middle of a line", around("Content-Type: text/html\n\n<body>" + evil)},
		{"in front of the end", around("Content-Type: text/html\n\n<body>x--b</body>--b\nContent-Type: x/y; name=a.exe\n\nMZ\n")},
		{"EBCDIC", around("Content-Type: text/plain; charset=ibm037\nContent-Transfer-Encoding: 8bit\n\n\x60\x60\x82\x25\n")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			after, err := altered(t, message(t, tt.in), mail.AddText{Text: "täp", Top: true}, mail.AddText{Text: "end €"})
			if err != nil {
				t.Fatal(err)
			}
			if parts := split(t, after); len(parts) != 1 {
				t.Errorf("%d parts in\n%s", len(parts), text(t, after))
			}
		})
	}
}

func TestAddTextToAllForms(t *testing.T) {
	after, err := altered(t, message(t, alternative), mail.AddText{Text: "top", Top: true}, mail.AddText{Text: "end"})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(
		"\n\nhello\n", "\n\ntop\n\nhello\n\nend\n\n",
		"<body>hello</body>", "<body>\n<div>top</div>hello\n<div>end</div></body>").Replace(alternative)
	if got := text(t, after); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
