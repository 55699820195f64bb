package history

import (
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"

	"gatepost/internal/mail"
)

// cut bounds s, between characters, and makes it valid UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// decoded is the text of a field as people read it, on one line.
func decoded(value string) string {
	d := mime.WordDecoder{CharsetReader: func(charset string, in io.Reader) (io.Reader, error) {
		enc, err := htmlindex.Get(charset)
		if err != nil {
			return nil, err
		}
		return enc.NewDecoder().Reader(in), nil
	}}
	text, err := d.DecodeHeader(cut(value, 4*longestWords))
	if err != nil {
		text = cut(value, 4*longestWords)
	}
	return mail.CleanText(text)
}

// edits tells changes in words.
func edits(tx *mail.Transaction, list []mail.Edit) []string {
	var out []string
	for i, e := range list {
		if i == mostEdits {
			return append(out, fmt.Sprintf("and %d more", len(list)-i))
		}
		out = append(out, cut(inWords(tx, e), longestWords))
	}
	return out
}

func inWords(tx *mail.Transaction, e mail.Edit) string {
	switch e := e.(type) {
	case mail.InsertHeader:
		return "add " + fieldText(e.Field)
	case mail.ChangeHeader:
		return "change " + fieldAt(tx, e.At) + " to " + fieldText(e.Field)
	case mail.DeleteHeader:
		return "remove " + fieldAt(tx, e.At)
	case mail.ChangeSender:
		return "change the sender to " + e.Sender.Path()
	case mail.AddRecipient:
		return "add the recipient " + e.Recipient.Path()
	case mail.DeleteRecipient:
		return "remove the recipient " + e.Recipient.Path()
	case mail.ReplaceBody:
		return fmt.Sprintf("replace the body by one of %d bytes", e.Size)
	}
	return "a change"
}

func fieldText(f mail.Field) string { return f.Name() + ": " + mail.CleanText(f.Value()) }

func fieldAt(tx *mail.Transaction, at int) string {
	if tx.Message == nil || at < 0 || at >= len(tx.Message.Header) {
		return "a field"
	}
	return fieldText(tx.Message.Header[at])
}
