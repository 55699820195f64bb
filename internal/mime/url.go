package mime

import (
	"bytes"
	"net"
	"strings"

	"gatepost/internal/mail"

	"golang.org/x/net/idna"
)

const (
	maxURLs = 500
	maxURL  = 2000

	maxTries = 20 * maxURLs // with the same ones again
)

// findURLs finds what begins like a URL in text.
func (w *walker) findURLs(text []byte) {
	lower := lowered(text)
	next := map[string]int{"://": -1, "www.": -1} // where the next one stands
	for at, n := 0, 0; at < len(text) && n < maxTries && len(w.inside.URLs) < maxURLs; n++ {
		begin, end := len(text), 0
		for scheme, i := range next {
			if i < at {
				if i = bytes.Index(lower[at:], []byte(scheme)); i < 0 {
					i = len(text)
				} else {
					i += at
				}
				next[scheme] = i
			}
			if i < begin {
				begin, end = i, i+len(scheme)
			}
		}
		if end == 0 {
			return
		}
		if text[begin] == ':' { // the scheme stands in front
			for n := 0; begin > at && n < 20 && lower[begin-1] >= 'a' && lower[begin-1] <= 'z'; n++ {
				begin--
			}
		}
		for end < len(text) && strings.IndexByte(" \t\r\n<>\"'`{}|^\\", text[end]) < 0 {
			end++
		}
		w.addURL(strings.TrimRight(string(text[begin:min(end, begin+maxURL)]), ".,;:!?)]"))
		at = end
	}
}

// addURL takes a link, once.
func (w *walker) addURL(raw string) {
	raw = strings.Map(func(r rune) rune { // browsers leave these out
		if r == '\t' || r == '\r' || r == '\n' {
			return -1
		}
		return r
	}, strings.TrimSpace(raw))
	if len(raw) > maxURL {
		raw = strings.ToValidUTF8(raw[:maxURL], "")
	}
	if raw == "" || len(w.inside.URLs) >= maxURLs || w.urls[raw] || len(w.urls) > maxTries {
		return
	}
	w.urls[raw] = true
	host := hostOf(raw)
	if host == "" {
		return
	}
	w.inside.URLs = append(w.inside.URLs, mail.URL{Host: host, Text: raw})
}

// hostOf returns the host that a browser would go to, "" where it goes nowhere.
func hostOf(raw string) string {
	s := strings.ReplaceAll(raw, `\`, "/")
	lower := asciiLower(s)
	switch scheme, rest, ok := strings.Cut(s, ":"); {
	case ok && isScheme(scheme) && (strings.HasPrefix(rest, "//") || strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")):
		s = strings.TrimLeft(rest, "/")
	case strings.HasPrefix(s, "//"):
		s = strings.TrimLeft(s, "/")
	case strings.HasPrefix(lower, "www."):
	default:
		return ""
	}
	if end := strings.IndexAny(s, "/?#"); end >= 0 {
		s = s[:end]
	}
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		s = s[at+1:]
	}
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	s = strings.Trim(s, "[]")
	host := strings.TrimRight(strings.ToLower(unpercent(s)), ".")
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		return ascii
	}
	return mail.CleanText(host[:min(len(host), 253)])
}

func isScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return s != "" && len(s) < 20
}
