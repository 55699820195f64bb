package alter

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"

	"gatepost/internal/mail"
)

const maxText = 1 << 20 // octets of a part that text is added to

// texts adds text to what there is to read. Where that can't be done safely the
// message stays as it is.
func (f *Finisher) texts(_ context.Context, w *work, structure error, adds []mail.AddText) error {
	switch {
	case structure != nil:
		w.skipped = append(w.skipped, structure.Error())
		return nil
	case w.tx.Inside != nil && len(w.tx.Inside.Ambiguous) > 0:
		w.skipped = append(w.skipped, "mail programs would read this message in different ways")
		return nil
	}
	bodies := w.root.bodies()
	if len(bodies) == 0 {
		w.skipped = append(w.skipped, "there is no text that may be changed")
	}
	for _, n := range bodies {
		if w.isTarget(n) {
			continue
		}
		if err := w.addTo(n, adds); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) isTarget(n *node) bool {
	for _, t := range append(append([]target(nil), w.stripped...), w.renamed...) {
		if t.node == n {
			return true
		}
	}
	return false
}

// bodies are the parts that a reader sees as the text: of an alternative all
// forms of it, elsewhere the first part that has any. What is signed or
// encrypted has none, and neither has an attached message.
func (n *node) bodies() []*node {
	switch n.media {
	case "text/plain", "text/html":
		if disposition, _, _ := strings.Cut(n.header.Get("Content-Disposition"), ";"); strings.EqualFold(strings.TrimSpace(disposition), "attachment") {
			return nil
		}
		return []*node{n}
	case "multipart/alternative":
		var all []*node
		for _, c := range n.children {
			all = append(all, c.bodies()...)
		}
		return all
	case "multipart/mixed", "multipart/related":
		for _, c := range n.children {
			if found := c.bodies(); len(found) > 0 {
				return found
			}
		}
	}
	return nil
}

// addTo adds all text to one part.
func (w *work) addTo(n *node, adds []mail.AddText) error {
	skip := func(format string, args ...any) error {
		w.skipped = append(w.skipped, n.media+": "+fmt.Sprintf(format, args...))
		return nil
	}
	if n.end-n.at > maxText {
		return skip("larger than %d bytes", maxText)
	}
	if len(n.header) > 0 && n.header.Count("Content-Transfer-Encoding") > 1 {
		return skip("several transfer encodings")
	}
	raw, err := w.readAll(n)
	if err != nil {
		return fmt.Errorf("alter: read a part: %w", err)
	}
	content, ok := decode(raw, n.encoding())
	if !ok {
		return skip("its transfer encoding %q can't be read", n.encoding())
	}
	if bytes.Contains(content, []byte("-----BEGIN PGP ")) {
		return skip("OpenPGP")
	}
	var label string
	if n.media == "text/html" {
		content, ok = addHTML(content, n.charset(), adds)
	} else {
		content, label, ok = addPlain(content, n.charset(), n.params["format"], adds)
	}
	if !ok {
		return skip("its character set %q can't be written", n.charset())
	}
	var c headerChange
	if label != "" {
		value := n.withCharset(label)
		if value == "" {
			return skip("its type can't be written")
		}
		c.put("Content-Type", value)
	}
	encoded, encoding := encode(content, n.encoding())
	if n.endsPart(encoded) {
		return skip("with it a line would be a boundary")
	}
	if encoding != n.encoding() {
		c.put("Content-Transfer-Encoding", encoding)
	}
	if len(c.set) > 0 && n.headerAt < 0 && w.tx.Message.Header.Count("MIME-Version") == 0 {
		c.put("MIME-Version", "1.0")
	}
	c.drop = []string{"content-md5", "content-length"}
	w.replace(n, c, encoded)
	w.texted = append(w.texted, n)
	return nil
}

// endsPart reports whether a line of what is to stand in n could be taken for the
// boundary of a part around it: text in HTML moves what stood in the middle of a
// line, and another character set has other bytes.
func (n *node) endsPart(content []byte) bool {
	for around := n.parent; around != nil; around = around.parent {
		boundary := around.params["boundary"]
		if boundary == "" {
			continue
		}
		for line := range bytes.FieldsFuncSeq(content, func(r rune) bool { return r == '\r' || r == '\n' }) {
			if bytes.HasPrefix(line, []byte("--"+boundary)) {
				return true
			}
		}
	}
	return false
}

// charset of a text part; what is not told is US-ASCII (RFC 2045 5.2).
func (n *node) charset() string {
	if cs := strings.ToLower(strings.TrimSpace(n.params["charset"])); cs != "" {
		return cs
	}
	return "us-ascii"
}

// decode undoes a transfer encoding. What is not by the letter is not touched.
func decode(raw []byte, encoding string) (content []byte, ok bool) {
	switch encoding {
	case "", "7bit", "8bit", "binary":
		return raw, true
	case "quoted-printable":
		b, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(raw)))
		return b, err == nil
	case "base64":
		b, err := base64.StdEncoding.AppendDecode(nil, bytes.Join(bytes.Fields(raw), nil))
		return b, err == nil
	}
	return nil, false
}

const maxLine = 998 // RFC 5322 2.1.1

// encode applies the same transfer encoding again, or quoted-printable where
// the content does not fit the old one any more.
func encode(content []byte, encoding string) (encoded []byte, used string) {
	switch encoding {
	case "base64":
		text := base64.StdEncoding.EncodeToString(content)
		var b bytes.Buffer
		for len(text) > 0 {
			n := min(76, len(text))
			b.WriteString(text[:n] + "\r\n")
			text = text[n:]
		}
		return b.Bytes(), encoding
	case "8bit", "binary":
		return content, encoding
	case "", "7bit":
		if isASCII(content) && longestLine(content) <= maxLine {
			return content, encoding
		}
	}
	return quoted(string(content)), "quoted-printable"
}

func isASCII[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func longestLine(b []byte) int {
	longest := 0
	for line := range bytes.SplitSeq(b, []byte("\n")) {
		longest = max(longest, len(line))
	}
	return longest
}
