package mail

import (
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
)

// DecodeWords is the text of a header field with its encoded words (RFC 2047)
// as mail programs show it, on one line. What can't be decoded stays as it is.
func DecodeWords(s string) string {
	if strings.Contains(s, "=?") {
		d := mime.WordDecoder{CharsetReader: func(charset string, in io.Reader) (io.Reader, error) {
			e, err := htmlindex.Get(charset)
			if err != nil {
				return nil, err
			}
			return e.NewDecoder().Reader(in), nil
		}}
		if text, err := d.DecodeHeader(s); err == nil {
			s = text
		}
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.Join(strings.Fields(CleanText(s)), " ")
}
