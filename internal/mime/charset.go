package mime

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

// Text turns text of a charset into UTF-8. Not ok: the charset is not known.
func Text(charset string, text []byte) (inUTF8 []byte, ok bool) {
	charset = strings.ToLower(strings.Trim(charset, " \t\"'"))
	switch charset {
	case "utf-7", "utf7", "unicode-1-1-utf-7", "x-utf-7":
		return fromUTF7(text), true
	case "utf-8", "utf8", "us-ascii", "ascii", "":
		if utf8.Valid(text) {
			return text, true
		}
		return bytes.ToValidUTF8(text, []byte("\ufffd")), charset != ""
	}
	e := findCharset(charset)
	if e == nil {
		return text, false
	}
	out, err := e.NewDecoder().Bytes(text)
	return out, err == nil
}

// Charset returns the encoding of a charset, nil where it is not known.
func findCharset(name string) encoding.Encoding {
	switch name {
	case "utf-16", "utf16", "unicode":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	case "utf-32", "utf32":
		return utf32.UTF32(utf32.BigEndian, utf32.UseBOM)
	case "cp1252":
		name = "windows-1252"
	}
	if e, err := htmlindex.Get(name); err == nil && e != encoding.Replacement {
		return e
	}
	if e, err := ianaindex.MIME.Encoding(name); err == nil && e != nil {
		return e
	}
	return nil
}

// fromUTF7 decodes UTF-7 (RFC 2152), what is broken in it as it stands.
func fromUTF7(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		i := bytes.IndexByte(text, '+')
		if i < 0 {
			return append(out, text...)
		}
		out = append(out, text[:i]...)
		text = text[i+1:]
		n := 0
		for n < len(text) && isBase64Byte(text[n]) {
			n++
		}
		if n == 0 {
			out = append(out, '+')
		}
		out = append(out, fromUTF16(text[:n])...)
		text = text[n:]
		if len(text) > 0 && text[0] == '-' {
			text = text[1:]
		}
	}
	return out
}

// fromUTF16 decodes the base64 of UTF-16.
func fromUTF16(coded []byte) []byte {
	if len(coded)%4 == 1 {
		coded = coded[:len(coded)-1]
	}
	b := make([]byte, base64.RawStdEncoding.DecodedLen(len(coded)))
	n, _ := base64.RawStdEncoding.Decode(b, coded)
	units := make([]uint16, n/2)
	for i := range units {
		units[i] = binary.BigEndian.Uint16(b[2*i:])
	}
	var out []byte
	for _, r := range utf16.Decode(units) {
		out = utf8.AppendRune(out, r)
	}
	return out
}
