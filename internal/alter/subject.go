package alter

import (
	"io"
	stdmime "mime"
	"strings"

	"golang.org/x/net/html/charset"

	"gatepost/internal/mail"
)

// tagSubject returns the edits that put a tag in front of the subject. A subject
// that has it already, behind "Re:" for one, stays; where there are several
// fields, whoever shows any of them shows the tag.
func tagSubject(h mail.Header, tag string) []mail.Edit {
	tag = strings.Join(strings.Fields(mail.CleanText(tag)), " ")
	if tag == "" {
		return nil
	}
	var edits []mail.Edit
	found := false
	for i, f := range h {
		if !f.Is("Subject") {
			continue
		}
		found = true
		if strings.Contains(decodeWords(f.Value()), tag) {
			continue
		}
		if changed, ok := withTag(f, tag); ok {
			edits = append(edits, mail.ChangeHeader{At: i, Field: changed})
		}
	}
	if !found {
		edits = append(edits, mail.InsertHeader{At: len(h), Field: mail.NewField("Subject", strings.TrimRight(encodeWord(tag), " "))})
	}
	return edits
}

// withTag puts the tag behind the colon and leaves all bytes of the value.
func withTag(f mail.Field, tag string) (mail.Field, bool) {
	raw := string(f.Raw())
	colon := strings.IndexByte(raw, ':')
	rest := strings.TrimLeft(raw[colon+1:], " \t")
	line, _, _ := strings.Cut(rest, "\r\n")
	head := raw[:colon+1] + " " + strings.TrimRight(encodeWord(tag), " ")
	switch {
	case strings.HasPrefix(rest, "\r\n"): // begins with a fold, or is empty
		return mail.RawField(head + rest)
	case len(head)+1+len(line) > 78:
		return mail.RawField(head + "\r\n " + rest)
	}
	return mail.RawField(head + " " + rest)
}

// encodeWord writes text as it may stand in a subject (RFC 2047). The blank
// between two encoded words is not shown, so one is within.
func encodeWord(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0 && !strings.Contains(s, "=?") {
		return s
	}
	return strings.ReplaceAll(stdmime.QEncoding.Encode("utf-8", s+" "), "\r\n", "")
}

// decodeWords is how a subject is shown.
func decodeWords(s string) string {
	d := &stdmime.WordDecoder{CharsetReader: func(label string, r io.Reader) (io.Reader, error) {
		return charset.NewReaderLabel(label, r)
	}}
	if text, err := d.DecodeHeader(s); err == nil {
		return text
	}
	return s
}
