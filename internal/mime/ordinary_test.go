package mime

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// client is how a mail program writes.
type client struct {
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
	if !isPlainASCII(name) {
		w = "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte(name)) + "?="
	}
	return fmt.Sprintf("Content-Type: %s;\n\tname=%q\n", typ, w), fmt.Sprintf("Content-Disposition: attachment;\n\tfilename=%q\n", w)
}

func extendedNames(typ, name string) (string, string) {
	if isPlainASCII(name) {
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

var clients = []client{
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

func (c client) encode(text string) (encoding, content string) {
	switch strings.ToLower(c.text) {
	case "base64":
		return c.text, c.base64([]byte(text))
	case "quoted-printable":
		return c.text, strings.ReplaceAll(strings.ReplaceAll(text, "=", "=3D"), "ü", "=C3=BC")
	}
	return c.text, text
}

func (c client) base64(b []byte) string {
	s, out := base64.StdEncoding.EncodeToString(b), ""
	for len(s) > c.width {
		out, s = out+s[:c.width]+"\n", s[c.width:]
	}
	return out + s + "\n"
}

func (c client) textPart(typ, text string) string {
	encoding, content := c.encode(text)
	return fmt.Sprintf("Content-Type: %s; charset=\"utf-8\"\nContent-Transfer-Encoding: %s\n\n%s", typ, encoding, content)
}

func (c client) filePart(typ, name string, data []byte) string {
	t, d := c.names(typ, name)
	return t + d + "Content-Transfer-Encoding: base64\n\n" + c.base64(data)
}

func (c client) multi(kind string, level int, extra string, parts ...string) string {
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

func (c client) alternative(level int) string {
	return c.multi("alternative", level, "", c.textPart("text/plain", prose), c.textPart("text/html", "<html><body><p>Dear all,<br>see <a href=\"https://www.example.net/x?a=1&amp;b=2\">this</a></p></body></html>\n"))
}

var png = append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00"), bytes.Repeat([]byte{7, 1, 0}, 300)...)

func zipped(t *testing.T) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range []string{"[Content_Types].xml", "word/document.xml"} {
		f, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(f, `<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>`)
	}
	z.Close()
	return b.Bytes()
}

// shapes are what people send with such a program, without the header.
func (c client) shapes(t *testing.T) map[string]string {
	pdf := append([]byte("%PDF-1.4\n"), bytes.Repeat([]byte("1 0 obj << /Type /Catalog >> endobj\n"), 40)...)
	forwarded := "Content-Type: message/rfc822\nContent-Disposition: attachment\n\nFrom: c@example.org\nSubject: before\nMIME-Version: 1.0\n" + c.multi("mixed", 7, "", c.textPart("text/plain", prose), c.filePart("image/png", "photo.png", png))
	invite := "BEGIN:VCALENDAR\nMETHOD:REQUEST\nBEGIN:VEVENT\nSUMMARY:Meeting\nEND:VEVENT\nEND:VCALENDAR\n"
	return map[string]string{
		"plain":       c.textPart("text/plain", prose),
		"alternative": c.alternative(1),
		"related": c.multi("mixed", 1, "", c.multi("related", 2, ";\n\ttype=\"multipart/alternative\"", c.alternative(3),
			"Content-Type: image/png; name=\"image001.png\"\nContent-Description: image001.png\nContent-Disposition: inline; filename=\"image001.png\"\nContent-ID: <image001.png@01DB>\nContent-Transfer-Encoding: base64\n\n"+c.base64(png))),
		"PDF":            c.multi("mixed", 1, "", c.alternative(2), c.filePart("application/pdf", "report.pdf", pdf)),
		"name with ü":    c.multi("mixed", 1, "", c.textPart("text/plain", prose), c.filePart("application/pdf", "Prüfbericht März.pdf", pdf)),
		"long name":      c.multi("mixed", 1, "", c.textPart("text/plain", prose), c.filePart("application/pdf", "Übersicht der Ergebnisse und aller Zahlen (Entwurf 2).pdf", pdf)),
		"several":        c.multi("mixed", 1, "", c.alternative(2), c.filePart("image/png", "a.png", png), c.filePart("application/octet-stream", "data.csv", []byte("a;b\r\n1;2\r\n")), c.filePart("text/csv", "data 2.csv", []byte("a;b\r\n1;2\r\n"))),
		"document":       c.multi("mixed", 1, "", c.textPart("text/plain", prose), c.filePart("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "letter.docx", zipped(t))),
		"forwarded":      c.multi("mixed", 1, "", c.textPart("text/plain", prose), forwarded),
		"invitation":     c.multi("alternative", 1, "", c.textPart("text/plain", prose), "Content-Type: text/calendar; charset=\"utf-8\"; method=REQUEST\nContent-Transfer-Encoding: base64\n\n"+c.base64([]byte(invite)), c.filePart("application/ics", "invite.ics", []byte(invite))),
		"S/MIME":         c.multi("signed", 1, "; protocol=\"application/pkcs7-signature\"; micalg=sha-256", c.alternative(2), c.filePart("application/pkcs7-signature", "smime.p7s", []byte{0x30, 3, 2, 1, 0})),
		"PGP/MIME":       c.multi("signed", 1, ";\n protocol=\"application/pgp-signature\"; micalg=\"pgp-sha512\"", c.textPart("text/plain", prose), "Content-Type: application/pgp-signature; name=\"signature.asc\"\nContent-Description: OpenPGP digital signature\n\n-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCgAdFiEE\n=abcd\n-----END PGP SIGNATURE-----\n"),
		"PGP encrypted":  c.multi("encrypted", 1, "; protocol=\"application/pgp-encrypted\"", "Content-Type: application/pgp-encrypted\nContent-Description: PGP/MIME version identification\n\nVersion: 1\n", "Content-Type: application/octet-stream; name=\"encrypted.asc\"\nContent-Disposition: inline; filename=\"encrypted.asc\"\n\n-----BEGIN PGP MESSAGE-----\n\nhQIMA7\n=abcd\n-----END PGP MESSAGE-----\n"),
		"through a list": c.multi("mixed", 1, "", c.alternative(2), "Content-Type: text/plain; charset=\"us-ascii\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\nContent-Disposition: inline\n\n_______________________________________________\nusers mailing list -- users@lists.example.org\nTo unsubscribe send an email to users-leave@lists.example.org\n"),
	}
}

// others are messages that no program with a window writes.
var others = map[string]string{
	"no MIME at all": "Subject: x\n\nHello,\n\n-- \nme\n",
	"from cron":      "From: root (Cron Daemon)\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\nX-Cron-Env: <SHELL=/bin/sh>\n\n/etc/cron.daily/x:\nbegin: 644 files\n",
	"qmail bounce":   "Subject: failure notice\n\nHi. This is the qmail-send program at example.org.\n\n<x@example.org>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n--- Below this line is a copy of the message.\n\nReturn-Path: <a@example.net>\nSubject: y\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"q1\"\n\n--q1\nContent-Type: text/plain\n\nhello\n--q1--\n",
	"Postfix DSN":    "Auto-Submitted: auto-replied\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status;\n\tboundary=\"4F1B2C3D4E.1712345678/mail.example.org\"\n\nThis is a MIME-encapsulated message.\n\n--4F1B2C3D4E.1712345678/mail.example.org\nContent-Description: Notification\nContent-Type: text/plain; charset=us-ascii\n\nI'm sorry.\n\n--4F1B2C3D4E.1712345678/mail.example.org\nContent-Description: Delivery report\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mail.example.org\n\nFinal-Recipient: rfc822; x@example.com\nAction: failed\nStatus: 5.1.1\n\n--4F1B2C3D4E.1712345678/mail.example.org\nContent-Description: Undelivered Message\nContent-Type: message/rfc822\n\nFrom: a@example.net\nSubject: y\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=\"in1\"\n\n--in1\nContent-Type: text/plain\n\nhello\n--in1\nContent-Type: text/html\n\n<p>hello\n--in1--\n\n--4F1B2C3D4E.1712345678/mail.example.org--\n",
	"headers only":   "MIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"r\"\n\n--r\n\nundeliverable\n\n--r\nContent-Type: message/delivery-status\n\nReporting-MTA: dns;x\n\n--r\nContent-Type: text/rfc822-headers\n\nFrom: a@example.net\nContent-Type: multipart/mixed; boundary=\"gone\"\nContent-Transfer-Encoding: 7bit\n\n--r--\n",
	"MDN":            "MIME-Version: 1.0\nContent-Type: multipart/report; report-type=disposition-notification;\n\tboundary=\"m.d.n\"\n\n--m.d.n\nContent-Type: text/plain; charset=utf-8\n\nread\n\n--m.d.n\nContent-Type: message/disposition-notification\n\nReporting-UA: x\nDisposition: manual-action/MDN-sent-manually; displayed\n\n--m.d.n--\n",
	"ARF":            "MIME-Version: 1.0\nContent-Type: multipart/report; report-type=\"feedback-report\"; boundary=\"a_r_f\"\n\n--a_r_f\nContent-Type: text/plain\n\nabuse\n--a_r_f\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\n\n--a_r_f\nContent-Type: message/rfc822\nContent-Disposition: inline\n\nFrom: a@example.net\nSubject: spam\n\nbuy\n--a_r_f--\n",
	"digest":         "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"===============1\"\n\n--===============1\nContent-Type: text/plain; charset=\"us-ascii\"\n\nTopics\n\n--===============1\nContent-Type: multipart/digest; boundary=\"===============2\"\n\n--===============2\nContent-Type: message/rfc822\n\nSubject: one\nMessage: 1\n\nfirst\n\n--===============2\n\nSubject: two\n\nsecond\n\n--===============2--\n\n--===============1--\n",
	"PGP in text":    "Content-Type: text/plain\n\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nhello\n- --\nme\n-----BEGIN PGP SIGNATURE-----\n\niQ==\n=x\n-----END PGP SIGNATURE-----\n",
	"Latin-1":        "Subject: Gr\xfc\xdfe\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nGr\xfc\xdfe\n",
	"Japanese":       "MIME-Version: 1.0\nContent-Type: text/plain; charset=\"ISO-2022-JP\"\nContent-Transfer-Encoding: 7bit\n\n\x1b$B$3$s$K$A$O\x1b(B\n",
	"broken escapes": "MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n<a href=\"http://example.net/?a=1\">x</a> =e4=\n\n",
	"no close":       "MIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=cut\n\n--cut\nContent-Type: text/plain\n\nhello\n--cut\nContent-Type: text/html\n\n<p>hello\n",
	"old attachment": "Subject: x\n\nhere it is\n\nbegin 644 notes.txt\n#0V%T\n`\nend\n",
	"dashes":         "MIME-Version: 1.0\nContent-Type: text/plain\n\n----------------------------------------\nContent: the usual\n----------------------------------------\n--\nme\n",
	"only a picture": "MIME-Version: 1.0\nContent-Type: image/png; name=x.png\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=x.png\n\niVBORw0KGgoAAAANSUhEUg==\n",
	"an empty one":   "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain\n\n",
	"empty parts":    "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=e\n\n--e\nContent-Type: text/plain\n\n\n--e\nContent-Type: text/plain; name=empty.txt\nContent-Disposition: attachment; filename=empty.txt\n\n--e--\n",
	"unfolded quote": "MIME-Version: 1.0\nContent-Type: application/pdf; name=\"a very long name that was folded\n in the middle.pdf\"\nContent-Disposition: attachment; filename=\"a very long name that was folded\n in the middle.pdf\"\nContent-Transfer-Encoding: base64\n\nJVBERi0xLjQK\n",
	"fax":            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"=_fax\"\nContent-Transfer-Encoding: 7bit\n\n--=_fax\nContent-Type: text/plain;charset=us-ascii\n\nfax\n--=_fax\nContent-Type: image/tiff; name=fax 0123.tif\nContent-Disposition: attachment; filename=fax 0123.tif\nContent-Transfer-Encoding: BASE64\n\nSUkqAAgAAAA=\n--=_fax--\n",
}

// ordinary returns the messages with their names.
func ordinary(t *testing.T) map[string]string {
	all := make(map[string]string)
	const top = "Received: from x (x [192.0.2.1]) by y; Mon, 1 Jan 2026 00:00:00 +0000\nFrom: Jane <a@example.net>\nTo: b@example.com\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nDate: Mon, 1 Jan 2026 00:00:00 +0000\n"
	for _, c := range clients {
		for shape, text := range c.shapes(t) {
			version := "MIME-Version: 1.0\n"
			if strings.Contains(strings.ToLower(c.header), "mime-version") {
				version = ""
			}
			all[c.name+": "+shape] = top + c.header + version + text
		}
	}
	for name, text := range others {
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

// Mail as people send it is not ambiguous, and all of it is seen: of a hundred
// messages less than one is not.
func TestOrdinary(t *testing.T) {
	all := ordinary(t)
	var odd []string
	for name, text := range all {
		in := inspect(t, message(t, text))
		if len(in.Ambiguous)+len(in.Unseen) > 0 {
			odd = append(odd, fmt.Sprintf("%s: %q %q", name, in.Ambiguous, in.Unseen))
		}
		if len(in.Parts) == 0 {
			t.Errorf("%s: no part", name)
		}
	}
	slices.Sort(odd)
	t.Logf("%d of %d messages are ambiguous or not seen whole", len(odd), len(all))
	if len(odd) > 0 {
		t.Errorf("ambiguous or not seen whole:\n%s", strings.Join(odd, "\n"))
	}
	if len(all) < 150 {
		t.Errorf("only %d messages", len(all))
	}
}
