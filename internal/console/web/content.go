package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	gomime "mime"
	"net/http"
	"strings"
	"time"

	"github.com/microcosm-cc/bluemonday"

	"gatepost/internal/console"
	"gatepost/internal/mail"
	"gatepost/internal/mime"
)

// What is shown of a message is made on the server: its text, and its HTML
// without scripts, forms and everything that would be fetched, in a frame that
// may do nothing.

func contentPage() page {
	return page{path: "/content/{id}", title: "Content", needs: console.ViewContent, file: "content.html", load: (*Server).content}
}

// Bounds of what is shown; all of it is in the download.
const (
	maxShown     = 8 << 20
	maxShownText = 256 << 10
)

// contentView is what a message says.
type contentView struct {
	ID                      string
	From, To, Subject, Date string
	Header, Text            string
	HTML                    bool // there is HTML, for the frame
	Parts                   []mail.Part
	Ambiguous, Unseen       []string
	Cut                     bool
}

func (s *Server) content(r *http.Request) (any, error) {
	v := contentView{ID: r.PathValue("id")}
	m, err := s.fetch(r.Context(), v.ID)
	switch {
	case errors.Is(err, errLarge):
		v.Cut = true
		return v, nil
	case err != nil:
		return nil, err
	}
	v.Header = strings.ToValidUTF8(string(m.Header.Bytes()), "�")
	for name, to := range map[string]*string{"From": &v.From, "To": &v.To, "Subject": &v.Subject, "Date": &v.Date} {
		*to = decoded(m.Header.Get(name))
	}
	nodes, inside := mime.Tree(r.Context(), m, shownLimits())
	v.Parts, v.Ambiguous, v.Unseen = inside.Parts, inside.Ambiguous, inside.Unseen
	v.Text = firstText(m, nodes, "text/plain")
	v.HTML = firstText(m, nodes, "text/html") != ""
	return v, nil
}

var errLarge = errors.New("too large to be shown")

// fetch reads a message that is kept.
func (s *Server) fetch(ctx context.Context, id string) (*mail.Message, error) {
	var b bytes.Buffer
	if err := s.api.Content(ctx, id, &limited{&b, maxShown}); err != nil {
		return nil, err
	}
	return mail.ReadMessage(bytes.NewReader(b.Bytes()), int64(b.Len()))
}

// limited refuses what goes beyond n bytes.
type limited struct {
	w io.Writer
	n int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.n -= len(p); l.n < 0 {
		return 0, errLarge
	}
	return l.w.Write(p)
}

func shownLimits() mime.Config {
	c := mime.DefaultConfig()
	c.Text = maxShownText
	return c
}

// decoded is a header value for people; what can't be decoded is shown as it is.
func decoded(value string) string {
	text, err := new(gomime.WordDecoder).DecodeHeader(value)
	if err != nil {
		text = value
	}
	return mail.CleanText(text)
}

// firstText is the first part of a type that is not an attachment, in UTF-8.
func firstText(m *mail.Message, nodes []mime.Node, kind string) string {
	for _, n := range nodes {
		if n.Type != kind && !(n.Type == "" && kind == "text/plain" && len(nodes) == 1) || !n.Inline {
			continue
		}
		section := io.NewSectionReader(m.Body(), n.At, n.Length)
		b, err := io.ReadAll(io.LimitReader(mime.Decode(n.Encoding, section), maxShownText))
		if err != nil && len(b) == 0 {
			return fmt.Sprintf("(this part can't be decoded: %v)", err)
		}
		text, _ := mime.Text(n.Charset, b)
		return strings.ToValidUTF8(string(text), "�")
	}
	return ""
}

// shownHTML is what is left of a message's HTML: structure and words. Images,
// styles, and links that lead somewhere are gone.
func shownHTML() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "div", "span", "h1", "h2", "h3", "h4", "h5", "h6", "b", "strong", "i", "em", "u", "s", "small", "sub", "sup",
		"pre", "code", "blockquote", "ul", "ol", "li", "dl", "dt", "dd", "hr", "table", "thead", "tbody", "tfoot", "tr", "td", "th", "caption", "center", "font", "address")
	p.AllowAttrs("colspan", "rowspan").Matching(bluemonday.Integer).OnElements("td", "th")
	return p
}

// contentHTML is the document in the frame. Its own policy forbids everything.
func (s *Server) contentHTML(w http.ResponseWriter, r *http.Request) {
	m, err := s.fetch(r.Context(), r.PathValue("id"))
	if err != nil {
		http.Error(w, err.Error(), codeOf(err))
		return
	}
	nodes, _ := mime.Tree(r.Context(), m, shownLimits())
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; sandbox; frame-ancestors 'self'; base-uri 'none'; form-action 'none'")
	h.Set("X-Frame-Options", "SAMEORIGIN")
	h.Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, `<!doctype html><meta charset="utf-8"><title>Content</title><body>`+shownHTML().Sanitize(firstText(m, nodes, "text/html")))
}

// contentRaw is the message byte for byte, to be kept as a file.
func (s *Server) contentRaw(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !mail.ValidID(id) {
		http.NotFound(w, r)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(longAnswer))
	out := &download{w: w, name: id + ".eml"}
	if err := s.api.Content(r.Context(), id, out); err != nil && !out.begun {
		http.Error(w, err.Error(), codeOf(err))
	} else if err != nil {
		panic(http.ErrAbortHandler) // only a cut connection tells that this is not all
	}
}

// download sends the header of the answer with the first byte.
type download struct {
	w     http.ResponseWriter
	name  string
	begun bool
}

func (d *download) Write(p []byte) (int, error) {
	if !d.begun {
		d.begun = true
		d.w.Header().Set("Content-Type", "application/octet-stream") // no browser shows it
		d.w.Header().Set("Content-Disposition", `attachment; filename="`+d.name+`"`)
	}
	return d.w.Write(p)
}
