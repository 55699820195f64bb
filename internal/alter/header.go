package alter

import (
	stdmime "mime"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// headerChange is what becomes of the header of a part: fields that are set, in
// the place of all of that name, and names of which none stays.
type headerChange struct {
	set  []mail.Field
	drop []string // in lower case
}

func (c *headerChange) put(name, value string) {
	c.set = append(c.set, mail.NewField(name, value))
}

// edits are the change as edits of h.
func (c headerChange) edits(h mail.Header) []mail.Edit {
	var edits []mail.Edit
	done := make([]bool, len(c.set))
	for i, f := range h {
		at := slices.IndexFunc(c.set, func(s mail.Field) bool { return f.Is(s.Name()) })
		switch {
		case at >= 0 && !done[at]:
			done[at] = true
			edits = append(edits, mail.ChangeHeader{At: i, Field: c.set[at]})
		case at >= 0 || slices.Contains(c.drop, strings.ToLower(f.Name())):
			edits = append(edits, mail.DeleteHeader{At: i})
		}
	}
	for i, f := range c.set {
		if !done[i] {
			edits = append(edits, mail.InsertHeader{At: len(h), Field: f})
		}
	}
	return edits
}

// header is h with the change.
func (c headerChange) header(h mail.Header) []byte {
	_, m := mail.Apply(mail.Envelope{}, mail.NewMessage(h, nil, 0), c.edits(h))
	return append(m.Header.Bytes(), "\r\n"...)
}

// contentFields are the names of all that describes the content in h.
func contentFields(h mail.Header) []string {
	var names []string
	for _, f := range h {
		if n := strings.ToLower(f.Name()); strings.HasPrefix(n, "content-") {
			names = append(names, n)
		}
	}
	return names
}

// withCharset is the Content-Type of n with another character set; "" where it
// can't be written.
func (n *node) withCharset(name string) string {
	params := map[string]string{"charset": name}
	for k, v := range n.params {
		if k != "charset" {
			params[k] = v
		}
	}
	return stdmime.FormatMediaType(n.media, params)
}
