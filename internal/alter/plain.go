package alter

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/ianaindex"

	"gatepost/internal/mail"
)

// addPlain adds text to a plain text in its character set. Where that lacks a
// character the whole becomes UTF-8; label is then the new one.
func addPlain(content []byte, charset, format string, adds []mail.AddText) (out []byte, label string, ok bool) {
	top, end := joined(adds, true), joined(adds, false)
	if strings.EqualFold(format, "flowed") {
		top, end = stuffed(top), stuffed(end)
	}
	content, into, label := writer(content, charset, top+end)
	if into == nil {
		return nil, "", false
	}
	newline := "\r\n"
	if bytes.IndexByte(content, '\n') >= 0 && !bytes.Contains(content, []byte("\r\n")) {
		newline = "\n"
	}
	var b bytes.Buffer
	if top != "" {
		text, _ := into(strings.ReplaceAll(top+"\n\n", "\n", newline))
		b.Write(text)
	}
	b.Write(content)
	if end != "" {
		if len(content) > 0 && content[len(content)-1] != '\n' {
			b.WriteString(newline)
		}
		text, _ := into(strings.ReplaceAll("\n"+end+"\n", "\n", newline))
		b.Write(text)
	}
	return b.Bytes(), label, true
}

// joined is all text of one place, lines ended by "\n", without the last one.
func joined(adds []mail.AddText, top bool) string {
	var all []string
	for _, a := range adds {
		if text := strings.Trim(strings.ReplaceAll(a.Text, "\r\n", "\n"), "\n"); a.Top == top && text != "" {
			all = append(all, text)
		}
	}
	return strings.Join(all, "\n\n")
}

// stuffed makes fixed lines of a text for format=flowed (RFC 3676 4.4).
func stuffed(s string) string {
	if s == "" {
		return ""
	}
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		l = strings.TrimRight(l, " ")
		if strings.HasPrefix(l, " ") || strings.HasPrefix(l, ">") || strings.HasPrefix(l, "From ") {
			l = " " + l
		}
		lines[i] = l
	}
	return strings.Join(lines, "\n")
}

// writer finds a way to write text into content: in its own character set, or
// as UTF-8 once all of it is that. nil: there is none.
func writer(content []byte, charset, text string) (_ []byte, into func(string) ([]byte, bool), label string) {
	plain := func(s string) ([]byte, bool) { return []byte(s), true }
	switch charset {
	case "utf-8", "utf8":
		return content, plain, ""
	case "us-ascii", "ascii":
		switch {
		case isASCII(text):
			return content, plain, ""
		case isASCII(content) || utf8.Valid(content):
			return content, plain, "utf-8"
		}
		return content, approximate, "" // nobody knows what the rest is
	}
	e, err := ianaindex.MIME.Encoding(charset)
	if err != nil || e == nil {
		if isASCII(text) && !isWide(charset) {
			return content, plain, ""
		}
		return content, nil, ""
	}
	own := func(s string) ([]byte, bool) {
		b, err := e.NewEncoder().Bytes([]byte(s))
		return b, err == nil
	}
	if _, fits := own(text); fits && !isWide(charset) && (isASCII(text) || !isStateful(charset)) {
		return content, own, ""
	}
	if isWide(charset) { // as UTF-8 it could show what nobody has looked at
		return content, nil, ""
	}
	utf, err := e.NewDecoder().Bytes(content)
	if err != nil || bytes.ContainsRune(utf, utf8.RuneError) {
		return content, approximate, ""
	}
	return utf, plain, "utf-8"
}

// approximate writes text in ASCII, where nothing better is safe.
func approximate(s string) ([]byte, bool) {
	return []byte(strings.Map(func(r rune) rune {
		if r >= 0x80 {
			return '?'
		}
		return r
	}, s)), true
}

// isWide tells character sets in which ASCII is not written as itself.
func isWide(charset string) bool {
	return strings.HasPrefix(charset, "utf-16") || strings.HasPrefix(charset, "utf-32") || strings.HasPrefix(charset, "utf-7") ||
		strings.HasPrefix(charset, "iso-10646-ucs") || strings.HasPrefix(charset, "unicode") || strings.HasPrefix(charset, "ibm037") || strings.HasPrefix(charset, "cp037") || strings.HasPrefix(charset, "ibm1047") || strings.HasPrefix(charset, "hz-")
}

// isStateful tells those with escape sequences.
func isStateful(charset string) bool { return strings.HasPrefix(charset, "iso-2022") }
