package alter

import (
	"bytes"
	"fmt"
	stdmime "mime"
	"mime/quotedprintable"
	"slices"
	"strings"
	"unicode"

	"gatepost/filters"
	"gatepost/internal/mail"
)

// target is a part that is taken out or renamed, with what it is named for.
type target struct {
	part mail.Part
	node *node
	why  string
}

func hold(format string, args ...any) error {
	return &filters.HoldError{Reason: "alter: " + fmt.Sprintf(format, args...)}
}

// targets finds the parts. What lies in an archive can't be changed alone: it is
// the part around it. Parts must stand where both readings of the message have
// them.
func (w *work) targets(paths []string, why string) ([]target, error) {
	var found []target
	for _, path := range paths {
		p, ok := holder(w.tx.Inside.Parts, path)
		if !ok {
			return nil, hold("there is no part %q", path)
		}
		n := w.root.find(p.At, p.Length)
		switch {
		case strings.Contains(p.Path, "/"):
			return nil, hold("%s lies in the text of another part and can't be changed alone", title(p))
		case n == nil:
			return nil, hold("%s stands where other programs may not see it", title(p))
		case p.Protected || n.isProtected():
			return nil, hold("%s is signed or encrypted", title(p))
		case slices.ContainsFunc(found, func(t target) bool { return t.node == n }):
			continue
		}
		found = append(found, target{p, n, why})
	}
	return found, nil
}

// holder is the part of the message that a path is of or lies in.
func holder(parts []mail.Part, path string) (mail.Part, bool) {
	for {
		for _, p := range parts {
			if p.Path == path && p.Depth == 0 && p.Length > 0 {
				return p, true
			}
		}
		cut := strings.LastIndexByte(path, '/')
		if cut < 0 {
			return mail.Part{}, false
		}
		path = path[:cut]
	}
}

// isProtected reports whether a part can't be changed without notice.
func (n *node) isProtected() bool {
	for ; n != nil; n = n.parent {
		switch n.media {
		case "multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime":
			return true
		}
	}
	return false
}

// strip puts a note in the place of a part.
func (w *work) strip(t target) {
	var c headerChange
	c.put("Content-Type", `text/plain; charset=utf-8`)
	c.put("Content-Transfer-Encoding", "quoted-printable")
	if t.node.headerAt >= 0 {
		c.put("Content-Disposition", `inline; filename="removed-attachment.txt"`)
	} else if w.tx.Message.Header.Count("MIME-Version") == 0 {
		c.put("MIME-Version", "1.0")
	}
	c.drop = contentFields(t.node.header)
	w.replace(t.node, c, quoted(w.note(t)))
	w.stripped = append(w.stripped, t)
}

// note is what the recipient reads in the place of a part.
func (w *work) note(t target) string {
	var b strings.Builder
	b.WriteString("An attachment was removed from this message before it was delivered.\r\n\r\n")
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-10s %s\r\n", name+":", value)
		}
	}
	line("Name", shown(t.part))
	line("Type", strings.Join(strings.Fields(mail.CleanText(t.part.Detected)), " "))
	line("Size", fmt.Sprintf("%d bytes", t.part.Size))
	line("Reason", strings.Join(strings.Fields(mail.CleanText(t.why)), " "))
	line("Reference", strings.TrimSpace(w.tx.ID+" at "+w.hostname))
	b.WriteString("\r\nIf you need it, ask the administrator of your mail system, or ask the sender\r\nto send it in another way.\r\n")
	return b.String()
}

// quoted is text in quoted-printable. No line begins with "--": what was hidden
// in the text must not become a boundary.
func quoted(text string) []byte {
	var b bytes.Buffer
	q := quotedprintable.NewWriter(&b)
	_, _ = q.Write([]byte(text)) // to memory
	_ = q.Close()
	lines := strings.SplitAfter(b.String(), "\n")
	b.Reset()
	for _, line := range lines {
		for strings.HasPrefix(line, "--") {
			b.WriteString("=2D-=\r\n")
			line = line[2:]
		}
		b.WriteString(line)
	}
	return b.Bytes()
}

// rename gives a part one name that no click opens, and a type that says
// nothing, in the place of all others.
func (w *work) rename(t target) {
	var c headerChange
	c.put("Content-Type", "application/octet-stream")
	c.put("Content-Disposition", stdmime.FormatMediaType("attachment", map[string]string{"filename": defanged(shown(t.part))}))
	c.drop = []string{"content-description", "content-location"}
	if t.node.headerAt < 0 {
		w.edits = append(w.edits, c.edits(t.node.header)...)
		w.pieces = append(w.pieces, piece{}) // a body of its own: who has one copy for all sees that this is another
	} else {
		w.pieces = append(w.pieces, piece{t.node.headerAt, t.node.at - t.node.headerAt, c.header(t.node.header)})
	}
	w.renamed = append(w.renamed, t)
}

// defanged is the name with DEFANGED in front of its extension, as the procmail
// sanitizer made it. Who trusts the file takes it away.
func defanged(name string) string {
	if strings.HasPrefix(extension(name), "DEFANGED") {
		return name
	}
	if i := strings.LastIndexByte(name, '.'); i >= 0 && i < len(name)-1 {
		return name[:i+1] + "DEFANGED-" + name[i+1:]
	}
	return strings.TrimRight(name, ".") + ".DEFANGED"
}

func extension(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

const maxShown = 120 // runes of a name

// shown is the name of a part as people may see it: no folders, nothing
// invisible, nothing that turns the direction of text.
func shown(p mail.Part) string {
	name := ""
	if len(p.Names) > 0 {
		name = p.Names[0]
	}
	name = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) || r == '"' {
			return -1
		}
		return r
	}, mail.CleanText(name))
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.TrimRight(strings.Join(strings.Fields(name), " "), ". ")
	if r := []rune(name); len(r) > maxShown {
		name = string(r[:maxShown/2]) + "..." + string(r[len(r)-maxShown/2:])
	}
	if name == "" {
		return "without a name"
	}
	return name
}

func title(p mail.Part) string { return fmt.Sprintf("part %s (%s)", mail.CleanText(p.Path), shown(p)) }
