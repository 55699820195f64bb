package mime

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

func TestText(t *testing.T) {
	utf16be := func(s string) string {
		var b []byte
		for _, u := range utf16.Encode([]rune(s)) {
			b = append(b, byte(u>>8), byte(u))
		}
		return base64.StdEncoding.EncodeToString(b)
	}
	tests := []struct{ name, text, want string }{
		{"UTF-8", "Content-Type: text/plain; charset=utf-8\n\nGrüße", "Grüße"},
		{"Latin-1", "Content-Type: text/plain; charset=iso-8859-1\n\nGr\xfc\xdfe", "Grüße"},
		{"no charset", "Content-Type: text/plain\n\nGr\xfc\xdfe", "Grüße"},
		{"a charset that nobody knows", "Content-Type: text/plain; charset=x-none\n\nGr\xfc\xdfe", "Grüße"},
		{"M12 UTF-7", "Content-Type: text/plain; charset=utf-7\n\n+AFYAaQBhAGcAcgBh-! 1 +- 1", "Viagra! 1 + 1"},
		{"M12 UTF-16", "Content-Type: text/plain; charset=utf-16be\nContent-Transfer-Encoding: base64\n\n" + utf16be("Viagra ü"), "Viagra ü"},
		{"M12 UTF-16 with a mark", "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n" + utf16be("\ufeffViagra"), "Viagra"},
		{"M12 ISO-2022-JP", "Content-Type: text/plain; charset=iso-2022-jp\n\n\x1b$B$3$s\x1b(B!", "こん!"},
		{"HTML", "Content-Type: text/html\n\n<style>p{}</style><p>Gr&uuml;&szlig;e<br>an<b>d</b>ere</p><!-- no --><script>no</script>", "Grüße andere"},
		{"HTML that tells its charset", "Content-Type: text/html\n\n<meta charset=\"iso-8859-15\">\xa4", "€"},
		{"HTML said to be text", "Content-Type: text/plain\n\n<html><body><p>hello</p></body></html>", "hello"},
		{"quoted-printable", "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\na=\nb=20c=3D", "ab c="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := inspect(t, message(t, tt.text)).Text; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestURLs(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"in text", "see http://www.Example.com/x, and (https://a.example:8080/?q=1).", "www.example.com http://www.Example.com/x|a.example https://a.example:8080/?q=1"},
		{"without scheme", "www.example.com/x", "www.example.com www.example.com/x"},
		{"with a user", "http://www.bank.example@evil.example/", "evil.example http://www.bank.example@evil.example/"},
		{"international", "http://bücher.example/", "xn--bcher-kva.example http://bücher.example/"},
		{"full-width", "http://ｅvil.example/", "evil.example http://ｅvil.example/"},
		{"each once", "http://a.example http://a.example", "a.example http://a.example"},
		{"none", "a:b http: x ://", ""},
		{"link", "<html><a href='HTTP://A.example/'>x</a>", "a.example HTTP://A.example/"},
		{"link with line ends in it", "<html><a href='ht\ntp://a.ex\nample/'>x</a>", "a.example http://a.example/"},
		{"link without scheme", "<html><a href='//a.example/'>x</a>", "a.example //a.example/"},
		{"backslashes", `<html><a href='http:\\a.example\x'>x</a>`, `a.example http:\\a.example\x`},
		{"one slash", `<html><a href='https:/a.example/x'>x</a>`, `a.example https:/a.example/x`},
		{"form, image, refresh", "<html><form action=https://f.example><img src=https://i.example/x><meta http-equiv=refresh content='0; url=https://r.example'>", "f.example https://f.example|i.example https://i.example/x|r.example https://r.example"},
		{"entities", "<html><a href='&#104;ttp&colon;//a.example'>x</a>", "a.example http://a.example"},
		{"percent", "<html><a href='http://%61.example/'>x</a>", "a.example http://%61.example/"},
		{"mailto", "<html><a href='mailto:a@b.example'>x</a>", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			kind := "text/plain; charset=utf-8"
			if strings.HasPrefix(tt.text, "<html>") {
				kind = "text/html; charset=utf-8"
			}
			for _, u := range inspect(t, message(t, "Content-Type: "+kind+"\n\n"+tt.text)).URLs {
				got = append(got, u.Host+" "+u.Text)
			}
			if s := strings.Join(got, "|"); s != tt.want {
				t.Errorf("got %q, want %q", s, tt.want)
			}
		})
	}
}

func TestCleanNames(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"ordinary", "invoice.pdf", "invoice.pdf"},
		{"M6 turned around", "inv\u202efdp.exe", "invfdp.exe"},
		{"M6 dots and blanks", "a.exe. . ", "a.exe"},
		{"M6 stream", "a.exe::$DATA", "a.exe"},
		{"M6 other stream", "a.exe:x.txt", "a.exe"},
		{"M6 NUL", "a.exe\x00.txt", "a.exe"},
		{"M6 path", `..\..\a.exe`, "a.exe"},
		{"M6 full-width", "ａ．ｅｘｅ", "a.exe"},
		{"M6 zero width", "a.e\u200bx\u2060e", "a.exe"},
		{"M6 long", strings.Repeat("a", 251) + ".exe.txt", strings.Repeat("a", 251) + ".exe"},
		{"quotes", `a."exe`, "a.exe"},
		{"blanks before the extension", "a.pdf          .exe", "a.pdf .exe"},
		{"umlauts stay", "Prüfbericht.pdf", "Prüfbericht.pdf"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := append(CleanNames(tt.in), tt.in)
			if !slices.Contains(got, tt.want) {
				t.Errorf("got %q, want %q among them", got, tt.want)
			}
		})
	}
}

func TestLocationName(t *testing.T) {
	for in, want := range map[string]string{
		"http://www.example.com/files/a.exe?x=1#y": "a.exe", "http://www.example.com": "", "http://www.example.com/": "", "a.exe": "a.exe", "dir/a.exe": "a.exe", "cid:x": "cid:x", "": "",
	} {
		if got := locationName(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
