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
)

// findURLs finds what begins like a URL in text.
func (w *walker) findURLs(text []byte) {
	lower := []byte(asciiLower(string(text)))
	for at := 0; at < len(text) && len(w.inside.URLs) < maxURLs; {
		i, length := nextURL(lower[at:])
		if i < 0 {
			return
		}
		begin := at + i
		end := begin + length
		for end < len(text) && !bytes.ContainsRune([]byte(" \t\r\n<>\"'`{}|^\\"), rune(text[end])) {
			end++
		}
		w.addURL(strings.TrimRight(string(text[begin:min(end, begin+maxURL)]), ".,;:!?)]"))
		at = end
	}
}

// nextURL finds the next beginning, and its length.
func nextURL(lower []byte) (at, length int) {
	at = -1
	for _, scheme := range []string{"://", "www."} {
		i := bytes.Index(lower, []byte(scheme))
		if i < 0 || at >= 0 && i >= at {
			continue
		}
		begin := i
		if scheme == "://" {
			for begin > 0 && lower[begin-1] >= 'a' && lower[begin-1] <= 'z' {
				begin--
			}
		}
		at, length = begin, i-begin+len(scheme)
	}
	return at, length
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
	host := hostOf(raw)
	if host == "" || len(w.inside.URLs) >= maxURLs || w.hosts[raw] {
		return
	}
	w.hosts[raw] = true
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
