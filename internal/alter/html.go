package alter

import (
	"bytes"
	"fmt"
	stdhtml "html"
	"strings"

	"golang.org/x/net/html"

	"gatepost/internal/mail"
)

// addHTML adds text to HTML: at the top behind <body>, at the end in front of
// the last </body>. It is written in ASCII, which fits every character set but
// those in which even that is written otherwise.
func addHTML(content []byte, charset string, adds []mail.AddText) (out []byte, ok bool) {
	if isWide(charset) || bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")) {
		return nil, false
	}
	first, last := places(content)
	var b bytes.Buffer
	b.Write(content[:first])
	b.WriteString(fragments(adds, true))
	b.Write(content[first:last])
	b.WriteString(fragments(adds, false))
	b.Write(content[last:])
	return b.Bytes(), true
}

// places finds where the top and the end of what is shown are. Tags in comments,
// scripts and the like are none.
func places(content []byte) (top, end int) {
	z := html.NewTokenizer(bytes.NewReader(content))
	at, body, head := 0, -1, 0
	end = -1
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			break
		}
		before := at
		at += len(z.Raw())
		name, _ := z.TagName()
		switch tag := string(name); {
		case kind == html.StartTagToken && tag == "body" && body < 0:
			body = at
		case body < 0 && (kind == html.DoctypeToken || kind == html.StartTagToken && tag == "html" || kind == html.EndTagToken && tag == "head"):
			head = at
		case kind == html.EndTagToken && tag == "body":
			end = before
		case kind == html.EndTagToken && tag == "html" && end < 0:
			end = before
		}
	}
	if top = body; top < 0 {
		top = head
	}
	if end < top {
		end = len(content)
	}
	return top, end
}

// fragments is all text of one place as HTML, each in a block of its own.
func fragments(adds []mail.AddText, top bool) string {
	var b strings.Builder
	for _, a := range adds {
		if a.Top != top {
			continue
		}
		fragment := a.HTML
		if fragment == "" {
			text := strings.Trim(strings.ReplaceAll(a.Text, "\r\n", "\n"), "\n")
			fragment = strings.ReplaceAll(stdhtml.EscapeString(text), "\n", "<br>\r\n")
		}
		// No line end behind it: what follows must not begin a line that it did not.
		b.WriteString("\r\n<div>" + references(strings.TrimSpace(fragment)) + "</div>")
	}
	return b.String()
}

// references writes what is not ASCII as character references.
func references(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "&#%d;", r)
		}
	}
	return b.String()
}
