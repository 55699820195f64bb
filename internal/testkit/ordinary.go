package testkit

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// mailer is how a mail program writes.
type mailer struct {
	name     string
	boundary string // with the level and the number in it
	preamble string
	header   string
	names    func(typ, name string) (contentType, disposition string)
	text     string // encoding of text
	width    int    // of base64
}

func quotedNames(typ, name string) (string, string) {
	w := name
	if !plainASCII(name) {
		w = "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte(name)) + "?="
	}
	return fmt.Sprintf("Content-Type: %s;\n\tname=%q\n", typ, w), fmt.Sprintf("Content-Disposition: attachment;\n\tfilename=%q\n", w)
}

func extendedNames(typ, name string) (string, string) {
	if plainASCII(name) {
		return fmt.Sprintf("Content-Type: %s; name=\"%s\"\n", typ, name), fmt.Sprintf("Content-Disposition: attachment; filename=\"%s\"\n", name)
	}
	esc := ""
	for _, b := range []byte(name) {
		if b >= 0x80 || b == ' ' {
			esc += fmt.Sprintf("%%%02X", b)
		} else {
			esc += string(rune(b))
		}
	}
	return fmt.Sprintf("Content-Type: %s; name=\"=?UTF-8?B?%s?=\"\n", typ, base64.StdEncoding.EncodeToString([]byte(name))), "Content-Disposition: attachment; filename*=UTF-8''" + esc + "\n"
}

func sectionNames(typ, name string) (string, string) {
	_, d := extendedNames(typ, name)
	if _, esc, ok := strings.Cut(d, "''"); ok && len(esc) > 14 {
		esc = strings.TrimSpace(esc)
		cut := strings.LastIndexByte(esc[:12], '%')
		d = fmt.Sprintf("Content-Disposition: attachment;\n filename*0*=UTF-8''%s;\n filename*1*=%s\n", esc[:cut], esc[cut:])
	}
	return "Content-Type: " + typ + "\n", d
}

func unquotedNames(typ, name string) (string, string) {
	return fmt.Sprintf("Content-Type: %s; name=%s\n", typ, name), fmt.Sprintf("Content-Disposition: attachment; filename=%s; size=1234\n", name)
}

var mailers = []mailer{
	{name: "Outlook", boundary: "----=_NextPart_00%d_00%d0_01DB3C2A.5F1E7A30", preamble: "This is a multi-part message in MIME format.\n\n", header: "X-Mailer: Microsoft Outlook 16.0\nThread-Index: AdsYf==\n", names: quotedNames, text: "quoted-printable", width: 76},
	{name: "Exchange", boundary: "_00%d_%d0AM6PR08MB4567eurprd08prod_", header: "X-MS-Has-Attach: yes\nX-MS-TNEF-Correlator:\nAccept-Language: de-DE\n", names: quotedNames, text: "base64", width: 76},
	{name: "Apple Mail", boundary: "Apple-Mail=_%dF0A3B1C-%dD2E-4B5A-9C1D-0E2F3A4B5C6D", header: "Mime-Version: 1.0 (Mac OS X Mail 16.0 \\(3731.700.6\\))\nX-Mailer: Apple Mail (2.3731.700.6)\n", names: extendedNames, text: "quoted-printable", width: 76},
	{name: "iPhone", boundary: "Apple-Mail-%dA1B2C3D-%d", header: "X-Mailer: iPhone Mail (21A329)\n", names: extendedNames, text: "7bit", width: 72},
	{name: "Gmail", boundary: "000000000000%da8b7c06%d12a3b4c", header: "X-Gm-Message-State: AOJu0Yx\n", names: extendedNames, text: "quoted-printable", width: 76},
	{name: "Thunderbird", boundary: "------------%dq2w3e4r5t6z7u8i9o0p%d", preamble: "This is a multi-part message in MIME format.\n", header: "User-Agent: Mozilla Thunderbird\nContent-Language: en-US\n", names: extendedNames, text: "8bit", width: 76},
	{name: "mutt", boundary: "liOOAslEiF7prFV%d%d", header: "User-Agent: Mutt/2.2.9 (2022-11-12)\n", names: sectionNames, text: "8bit", width: 76},
	{name: "Python", boundary: "===============%d8274519023847561%d==", header: "", names: extendedNames, text: "base64", width: 76},
	{name: "JavaMail", boundary: "----=_Part_%d_129384756.171234567%d", header: "X-Mailer: JavaMail\n", names: quotedNames, text: "quoted-printable", width: 76},
	{name: "PHPMailer", boundary: "b%d_nUqD8vWqR2y7%d", preamble: "This is a multi-part message in MIME format.\n", header: "X-Mailer: PHPMailer 6.8.0\n", names: quotedNames, text: "8bit", width: 76},
	{name: "Lotus Notes", boundary: "=_mixed 00%d5D4A5C12589%d_=", header: "X-Mailer: Lotus Notes Release 9.0.1FP8\n", names: quotedNames, text: "quoted-printable", width: 72},
	{name: "KMail", boundary: "nextPart%d.123456%dP0", header: "User-Agent: KMail/5.24\n", names: sectionNames, text: "7Bit", width: 76},
	{name: "Perl", boundary: "_----------=_%d1712345678%d", header: "X-Mailer: MIME::Lite 3.033\n", preamble: "This is a multi-part message in MIME format.\n", names: unquotedNames, text: "BINARY", width: 76},
	{name: "Roundcube", boundary: "=_%df0e1d2c3b4a%d9687", header: "User-Agent: Roundcube Webmail/1.6.5\n", names: sectionNames, text: "quoted-printable", width: 76},
	{name: "Sendgrid", boundary: "%d9c8b7a6f5e4d%d3c2b1a", header: "X-SG-EID: abc\nList-Unsubscribe: <mailto:x@example.net>\n", names: quotedNames, text: "quoted-printable", width: 76},
}

const prose = "Dear all,\n\nplease find the figures for the quarter below. They are 3 = 2 + 1, and\nthe rest is at https://www.example.net/report?year=2026&x=1 as always.\n\n> begin of what you wrote: see section 644 of it\n> --- cut here ---\n\n-- \nJane Doe\n"

func (c mailer) encode(text string) (encoding, content string) {
	switch strings.ToLower(c.text) {
	case "base64":
		return c.text, c.base64([]byte(text))
	case "quoted-printable":
		return c.text, strings.ReplaceAll(strings.ReplaceAll(text, "=", "=3D"), "ü", "=C3=BC")
	}
	return c.text, text
}

func (c mailer) base64(b []byte) string {
	s, out := base64.StdEncoding.EncodeToString(b), ""
	for len(s) > c.width {
		out, s = out+s[:c.width]+"\n", s[c.width:]
	}
	return out + s + "\n"
}

func (c mailer) textPart(typ, text string) string {
	encoding, content := c.encode(text)
	return fmt.Sprintf("Content-Type: %s; charset=\"utf-8\"\nContent-Transfer-Encoding: %s\n\n%s", typ, encoding, content)
}

func (c mailer) filePart(typ, name string, data []byte) string {
	t, d := c.names(typ, name)
	return t + d + "Content-Transfer-Encoding: base64\n\n" + c.base64(data)
}

func (c mailer) multi(kind string, level int, extra string, parts ...string) string {
	b := fmt.Sprintf(c.boundary, level, level+3)
	out := fmt.Sprintf("Content-Type: multipart/%s;\n\tboundary=\"%s\"%s\n\n", kind, b, extra)
	if level == 1 {
		out += c.preamble
	}
	for _, p := range parts {
		out += "--" + b + "\n" + p + "\n"
	}
	return out + "--" + b + "--\n"
}

func (c mailer) alternative(level int) string {
	return c.multi("alternative", level, "", c.textPart("text/plain", prose), c.textPart("text/html", "<html><body><p>Dear all,<br>see <a href=\"https://www.example.net/x?a=1&amp;b=2\">this</a></p></body></html>\n"))
}

var onePixel = append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00"), bytes.Repeat([]byte{7, 1, 0}, 300)...)

// smallDocument is a Word document as far as its names go.
func smallDocument() []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range []string{"[Content_Types].xml", "word/document.xml"} {
		f, err := z.Create(name)
		if err == nil {
			_, err = io.WriteString(f, `<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>`)
		}
		if err != nil {
			panic(err) // a bytes.Buffer takes everything
		}
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// shapes are what people send with such a program, without the header.
func (c mailer) shapes() map[string]string {
	pdf := append([]byte("%PDF-1.4\n"), bytes.Repeat([]byte("1 0 obj << /Type /Catalog >> endobj\n"), 40)...)
	forwarded := "Content-Type: message/rfc822\nContent-Disposition: attachment\n\nFrom: c@example.org\nSubject: before\nMIME-Version: 1.0\n" + c.multi("mixed", 7, "", c.textPart("text/plain", prose), c.filePart("image/png", "photo.png", onePixel))
	invite := "BEGIN:VCALENDAR\nMETHOD:REQUEST\nBEGIN:VEVENT\nSUMMARY:Meeting\nEND:VEVENT\nEND:VCALENDAR\n"
	return map[string]string{
		"plain":       c.textPart("text/plain", prose),
		"alternative": c.alternative(1),
		"related": c.multi("mixed", 1, "", c.multi("related", 2, ";\n\ttype=\"multipart/alternative\"", c.alternative(3),
			"Content-Type: image/png; name=\"image001.png\"\nContent-Description: image001.png\nContent-Disposition: inline; filename=\"image001.png\"\nContent-ID: <image001.png@01DB>\nContent-Transfer-Encoding: base64\n\n"+c.base64(onePixel))),
		"PDF":            c.multi("mixed", 1, "", c.alternative(2), c.filePart("application/pdf", "report.pdf", pdf)),
		"name with ü":    c.multi("mixed", 1, "", c.textPart("text/plain", prose), c.filePart("application/pdf", "Prüfbericht März.pdf", pdf)),
		"long name":      c.multi("mixed", 1, "", c.textPart("text/plain", prose), c.filePart("application/pdf", "Übersicht der Ergebnisse und aller Zahlen (Entwurf 2).pdf", pdf)),
		"several":        c.multi("mixed", 1, "", c.alternative(2), c.filePart("image/png", "a.png", onePixel), c.filePart("application/octet-stream", "data.csv", []byte("a;b\r\n1;2\r\n")), c.filePart("text/csv", "data 2.csv", []byte("a;b\r\n1;2\r\n"))),
		"document":       c.multi("mixed", 1, "", c.textPart("text/plain", prose), c.filePart("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "letter.docx", smallDocument())),
		"forwarded":      c.multi("mixed", 1, "", c.textPart("text/plain", prose), forwarded),
		"invitation":     c.multi("alternative", 1, "", c.textPart("text/plain", prose), "Content-Type: text/calendar; charset=\"utf-8\"; method=REQUEST\nContent-Transfer-Encoding: base64\n\n"+c.base64([]byte(invite)), c.filePart("application/ics", "invite.ics", []byte(invite))),
		"S/MIME":         c.multi("signed", 1, "; protocol=\"application/pkcs7-signature\"; micalg=sha-256", c.alternative(2), c.filePart("application/pkcs7-signature", "smime.p7s", []byte{0x30, 3, 2, 1, 0})),
		"PGP/MIME":       c.multi("signed", 1, ";\n protocol=\"application/pgp-signature\"; micalg=\"pgp-sha512\"", c.textPart("text/plain", prose), "Content-Type: application/pgp-signature; name=\"signature.asc\"\nContent-Description: OpenPGP digital signature\n\n-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCgAdFiEE\n=abcd\n-----END PGP SIGNATURE-----\n"),
		"PGP encrypted":  c.multi("encrypted", 1, "; protocol=\"application/pgp-encrypted\"", "Content-Type: application/pgp-encrypted\nContent-Description: PGP/MIME version identification\n\nVersion: 1\n", "Content-Type: application/octet-stream; name=\"encrypted.asc\"\nContent-Disposition: inline; filename=\"encrypted.asc\"\n\n-----BEGIN PGP MESSAGE-----\n\nhQIMA7\n=abcd\n-----END PGP MESSAGE-----\n"),
		"through a list": c.multi("mixed", 1, "", c.alternative(2), "Content-Type: text/plain; charset=\"us-ascii\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\nContent-Disposition: inline\n\n_______________________________________________\nusers mailing list -- users@lists.example.org\nTo unsubscribe send an email to users-leave@lists.example.org\n"),
	}
}

// OrdinaryMail returns messages, by name, as people and programs send them, with
// LF line ends; SpamAssassin's samples are among them where it is installed.
// Nothing about them is to be complained of.
func OrdinaryMail() map[string]string {
	all := make(map[string]string)
	const top = "Received: from x (x [192.0.2.1]) by y; Mon, 1 Jan 2026 00:00:00 +0000\nFrom: Jane <a@example.net>\nTo: b@example.com\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nDate: Mon, 1 Jan 2026 00:00:00 +0000\n"
	for _, c := range mailers {
		for shape, text := range c.shapes() {
			version := "MIME-Version: 1.0\n"
			if strings.Contains(strings.ToLower(c.header), "mime-version") {
				version = ""
			}
			all[c.name+": "+shape] = top + c.header + version + text
		}
	}
	for name, text := range otherMail {
		all[name] = top + text
	}
	files, _ := filepath.Glob("/usr/share/doc/spamassassin/examples/sample-*.txt")
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil {
			all[filepath.Base(f)] = strings.ReplaceAll(string(text), "\r\n", "\n")
		}
	}
	return all
}

func plainASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
