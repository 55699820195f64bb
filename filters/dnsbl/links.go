package dnsbl

import (
	"encoding/base64"
	"html"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/url"
	"slices"
	"strings"

	"gatepost/internal/mail"

	"golang.org/x/net/publicsuffix"
)

// Bounds of the look for links. Who hides a link from it hides it from readers,
// too, or from the scanners, which look closer.
const (
	maxScan  = 1 << 20 // bytes of the body
	maxParts = 100
	maxDepth = 5
)

// linked returns the registered domains of the http links in the text parts of
// a message, at most max, in the order in which they come.
func linked(m *mail.Message, max int) ([]string, error) {
	s := &search{max: max}
	body := m.Body()
	s.entity(m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), io.LimitReader(&noted{r: body, err: &s.err}, maxScan), 0)
	return s.hosts, s.err
}

type search struct {
	max   int
	hosts []string
	parts int
	err   error // of reading the message itself
}

// noted keeps the error of a reader that others read through decoders.
type noted struct {
	r   io.Reader
	err *error
}

func (n *noted) Read(p []byte) (int, error) {
	c, err := n.r.Read(p)
	if err != nil && err != io.EOF {
		*n.err = err
	}
	return c, err
}

// entity looks into one part, and the parts in it.
func (s *search) entity(contentType, encoding string, r io.Reader, depth int) {
	if s.parts++; s.parts > maxParts {
		return
	}
	kind, params, err := mime.ParseMediaType(contentType)
	switch {
	case contentType == "", err != nil: // of what can't be read, clients show the text
		s.text(r, encoding, false)
	case strings.HasPrefix(kind, "multipart/"):
		if params["boundary"] == "" || depth >= maxDepth {
			s.text(r, "", false)
			return
		}
		s.multipart(multipart.NewReader(r, params["boundary"]), depth)
	case strings.HasPrefix(kind, "text/"):
		s.text(r, encoding, kind == "text/html")
	case kind == "message/rfc822":
		s.text(r, "", false)
	}
}

func (s *search) multipart(r *multipart.Reader, depth int) {
	for s.parts <= maxParts {
		p, err := r.NextRawPart()
		if err != nil {
			return
		}
		s.entity(p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p, depth+1)
	}
}

func (s *search) text(r io.Reader, encoding string, isHTML bool) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	}
	b, _ := io.ReadAll(r) // what a broken encoding leaves is shown to readers, too
	text := string(b)
	if isHTML {
		text = html.UnescapeString(text)
	}
	s.links(text)
}

// links finds "http://" and "https://" in a text.
func (s *search) links(text string) {
	for len(s.hosts) < s.max {
		i := strings.Index(text, "://")
		if i < 0 {
			return
		}
		before, after := text[max(i-len("https"), 0):i], text[i+len("://"):]
		if b := strings.ToLower(before); strings.HasSuffix(b, "http") || strings.HasSuffix(b, "https") {
			s.host(authority(after))
		}
		text = after
	}
}

const maxAuthority = 512

// authority is what stands between "://" and the path, without user and port.
func authority(s string) string {
	s = s[:min(len(s), maxAuthority)]
	if end := strings.IndexFunc(s, endsHost); end >= 0 {
		s = s[:end]
	}
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		s = s[at+1:]
	}
	s, _, _ = strings.Cut(s, ":")
	if plain, err := url.PathUnescape(s); err == nil {
		s = plain
	}
	return s
}

func endsHost(r rune) bool { return r <= ' ' || strings.ContainsRune("/?#\\\"'<>()[]{},;|", r) }

// host notes the domain that somebody registered. Addresses are left out: lists
// of names don't want them.
func (s *search) host(h string) {
	h, err := mail.ParseDomain(strings.TrimRight(h, ".!"))
	if err != nil || strings.HasPrefix(h, "[") {
		return
	}
	registered, err := publicsuffix.EffectiveTLDPlusOne(mail.ASCIIDomain(h))
	if err != nil || slices.Contains(s.hosts, registered) {
		return
	}
	s.hosts = append(s.hosts, registered)
}
