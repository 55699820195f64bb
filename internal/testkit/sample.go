package testkit

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// EICAR is the test virus. It stands here in two pieces, so that no scanner
// takes this file for one.
func EICAR() string {
	return `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`
}

// GTUBE is the text that every SpamAssassin takes for spam.
func GTUBE() string {
	return "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
}

// Message returns a plain message with CRLF line ends. id makes its Message-ID.
func Message(id, subject, text string) []byte {
	return fmt.Appendf(nil, "From: Sender <s@sender.test>\r\nTo: u@example.com\r\nSubject: %s\r\nMessage-ID: <%s@sender.test>\r\n"+
		"Date: %s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n",
		subject, id, time.Now().UTC().Format(time.RFC1123Z), text)
}

// Filler returns n octets of harmless text in lines of 76.
func Filler(n int) string {
	const line = "The quick brown fox jumps over the lazy dog, and then does it all again. ..\r\n"
	return strings.Repeat(line, n/len(line)+1)[:n]
}

// WithAttachment returns a MIME message with one attachment.
func WithAttachment(id, subject, name string, content []byte) []byte {
	return fmt.Appendf(nil, "From: Sender <s@sender.test>\r\nTo: u@example.com\r\nSubject: %s\r\nMessage-ID: <%s@sender.test>\r\n"+
		"Date: %s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_part\"\r\n\r\n"+
		"--=_part\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nSee the attachment.\r\n"+
		"--=_part\r\nContent-Type: application/octet-stream; name=\"%s\"\r\nContent-Disposition: attachment; filename=\"%s\"\r\n"+
		"Content-Transfer-Encoding: base64\r\n\r\n%s--=_part--\r\n",
		subject, id, time.Now().UTC().Format(time.RFC1123Z), name, name, base64Lines(content))
}

// Zip returns an archive with one file.
func Zip(name string, content []byte) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(name)
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		panic(err) // a bytes.Buffer takes everything
	}
	return b.Bytes()
}

func base64Lines(content []byte) string {
	var b strings.Builder
	for s := base64.StdEncoding.EncodeToString(content); s != ""; {
		n := min(76, len(s))
		b.WriteString(s[:n] + "\r\n")
		s = s[n:]
	}
	return b.String()
}

// Expand makes a message of a sample file: its line ends become CRLF, and these
// words are replaced, so that the file itself holds nothing that a scanner
// would stop at: @EICAR@, @GTUBE@, @EICAR-ZIP@ (base64), @DATE@.
func Expand(sample []byte) []byte {
	text := strings.ReplaceAll(string(sample), "\r\n", "\n")
	text = strings.ReplaceAll(text, "\n", "\r\n")
	return []byte(strings.NewReplacer(
		"@EICAR@", EICAR(),
		"@GTUBE@", GTUBE(),
		"@EICAR-ZIP@", strings.TrimSuffix(base64Lines(Zip("eicar.com", []byte(EICAR()))), "\r\n"),
		"@DATE@", time.Now().UTC().Format(time.RFC1123Z),
	).Replace(text))
}
