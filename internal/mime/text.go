package mime

import (
	"bytes"
	"io"
	"strings"

	"gatepost/internal/archive"

	"golang.org/x/net/html"
)

const (
	textPlain = "plain"
	textHTML  = "html"
)

// textKind says how a part is to be read, "" for what is not text.
func (w *walker) textKind(r structure, t archive.Type) string {
	switch {
	case r.message: // its parts are read
	case r.media == "text/html" || t.Media == "text/html" || r.media == "application/xhtml+xml":
		return textHTML
	case isText(r.media), strings.HasPrefix(t.Media, "text/"):
		return textPlain
	}
	return ""
}

// How much of one part is read as text: of what is shown at once, and of what
// has to be opened.
const (
	maxRead     = 1 << 20
	maxReadFile = 128 << 10
)

// readText takes what there is to read into Text and URLs.
func (w *walker) readText(r structure, kind string, v *view) {
	charset, limit := r.charset, int64(maxReadFile)
	if r.inline && (isText(r.media) || kind == textHTML) {
		limit = maxRead
	}
	raw := make([]byte, min(v.size, limit))
	n, err := v.ReadAt(raw, 0)
	if n < len(raw) {
		w.broken(err)
	}
	raw = raw[:n]
	if kind == textHTML && charset == "" {
		charset = charsetInHTML(raw)
	}
	text := readable(charset, raw)
	if kind == textHTML {
		w.readHTML(text)
		return
	}
	w.addText(text)
	w.findURLs(text)
}

// readable is text in UTF-8, whatever it takes.
func readable(charset string, raw []byte) []byte {
	switch {
	case bytes.HasPrefix(raw, []byte{0xff, 0xfe}), bytes.HasPrefix(raw, []byte{0xfe, 0xff}):
		charset = "utf-16"
	case bytes.HasPrefix(raw, []byte{0xef, 0xbb, 0xbf}):
		charset = "utf-8"
	}
	if out, ok := Text(charset, raw); ok {
		return out
	}
	return []byte(toUTF8("", string(raw)))
}

// charsetInHTML finds <meta charset=…>.
func charsetInHTML(raw []byte) string {
	head := asciiLower(string(raw[:min(len(raw), 2048)]))
	_, after, ok := strings.Cut(head, "charset=")
	if !ok {
		return ""
	}
	after = strings.TrimLeft(after, `"' `)
	end := strings.IndexFunc(after, func(r rune) bool { return r >= 0x80 || !isTokenByte(byte(r)) })
	if end < 0 {
		return ""
	}
	return after[:end]
}

// addText appends as much as there is place for.
func (w *walker) addText(text []byte) {
	room := int(w.cfg.Text) - w.text.Len()
	if room <= 1 || len(text) == 0 {
		return
	}
	if w.text.Len() > 0 {
		w.text.WriteByte('\n')
		room--
	}
	w.text.Write(text[:min(room, len(text))])
}

// linkAttributes are those that lead somewhere.
var linkAttributes = map[string]bool{
	"href": true, "src": true, "action": true, "formaction": true, "background": true, "data": true, "poster": true, "cite": true, "xlink:href": true, "srcset": true, "ping": true, "longdesc": true,
}

// readHTML takes the text out of HTML, and the links.
func (w *walker) readHTML(text []byte) {
	z := html.NewTokenizer(bytes.NewReader(text))
	z.SetMaxBuf(256 << 10)
	var out strings.Builder
	hidden := ""
	for n := 0; n < 200_000; n++ {
		kind := z.Next()
		switch kind {
		case html.ErrorToken:
			if z.Err() != io.EOF { // one token larger than the buffer
				w.findURLs(text)
			}
			w.addText([]byte(strings.Join(strings.Fields(out.String()), " ")))
			w.findURLs([]byte(out.String()))
			return
		case html.TextToken:
			if hidden == "" && out.Len() < maxRead {
				out.Write(z.Text())
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			tag := string(name)
			if kind == html.StartTagToken && (tag == "script" || tag == "style" || tag == "title") {
				hidden = tag
			}
			if breaks[tag] {
				out.WriteByte(' ')
			}
			for more {
				var key, value []byte
				key, value, more = z.TagAttr()
				w.attribute(tag, string(key), string(value))
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			if string(name) == hidden {
				hidden = ""
			}
			if breaks[string(name)] {
				out.WriteByte(' ')
			}
		}
	}
	w.addText([]byte(strings.Join(strings.Fields(out.String()), " ")))
	w.findURLs(text)
}

// breaks are tags that end a word.
var breaks = map[string]bool{
	"p": true, "br": true, "div": true, "td": true, "th": true, "tr": true, "li": true, "table": true, "h1": true, "h2": true, "h3": true, "h4": true, "blockquote": true, "pre": true, "hr": true,
}

// attribute takes a link.
func (w *walker) attribute(tag, key, value string) {
	switch {
	case linkAttributes[key]:
		w.addURL(value)
	case tag == "meta" && key == "content":
		if i := strings.Index(asciiLower(value), "url="); i >= 0 {
			w.addURL(strings.Trim(value[i+4:], `"' `))
		}
	case key == "style":
		w.findURLs([]byte(value))
	}
}
