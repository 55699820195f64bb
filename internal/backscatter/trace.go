package backscatter

import (
	"net/netip"
	"strings"
)

// hop is one Received field (RFC 5321 4.4).
type hop struct {
	from, by, with string
	comments       []string
}

// parseHop reads what our own MTA wrote: no client can put blanks or
// parentheses into the names there.
func parseHop(value string) hop {
	value, _, _ = strings.Cut(value, ";")
	var h hop
	var words strings.Builder
	depth, begin := 0, 0
	for i, c := range value {
		switch {
		case c == '(':
			if depth++; depth == 1 {
				begin = i + 1
			}
		case c == ')' && depth > 0:
			if depth--; depth == 0 {
				h.comments = append(h.comments, value[begin:i])
				words.WriteByte(' ')
			}
		case depth == 0:
			words.WriteRune(c)
		}
	}
	list := strings.Fields(words.String())
	for i := 0; i+1 < len(list); i += 2 {
		switch strings.ToLower(list[i]) {
		case "from":
			h.from = list[i+1]
		case "by":
			h.by = list[i+1]
		case "with":
			h.with = list[i+1]
		}
	}
	return h
}

// authenticated is whether the client had logged in (RFC 3848, and the words of
// Postfix and sendmail).
func (h hop) authenticated() bool {
	if strings.HasSuffix(strings.ToUpper(h.with), "A") {
		return true
	}
	for _, c := range h.comments {
		if strings.HasPrefix(strings.ToLower(c), "authenticated ") {
			return true
		}
	}
	return false
}

// loopback is whether the client was this host itself: a content filter that
// gives mail back. ok is false where no address is told.
func (h hop) loopback() (yes, ok bool) {
	for _, c := range h.comments {
		_, rest, found := strings.Cut(c, "[")
		text, _, closed := strings.Cut(rest, "]")
		if !found || !closed {
			continue
		}
		a, err := netip.ParseAddr(strings.TrimPrefix(text, "IPv6:"))
		if err == nil {
			return a.Unmap().IsLoopback(), true
		}
	}
	return false, false
}

// bornHere tells whether a Received field says that this host made the message:
// Postfix writes "by HOST (Postfix)", sendmail "from localhost (localhost) by
// HOST (…)". What a program gave them has a user, what came over SMTP an address.
func (h hop) bornHere(hosts []string) bool {
	if !isHost(h.by, hosts) || h.with != "" {
		return false
	}
	if h.from != "" && !strings.EqualFold(h.from, "localhost") {
		return false
	}
	for _, c := range h.comments {
		if strings.Contains(c, "[") || strings.Contains(c, "from ") || strings.Contains(c, "@") {
			return false
		}
	}
	return true
}

// origin tells who gave the returned message to this host: it reads down from
// the top as far as this host wrote, and no further. "" is a stranger.
func origin(header []field, hosts []string) string {
	seen := false
	for _, f := range header {
		if !f.is("Received") {
			continue
		}
		h := parseHop(f.value)
		switch {
		case !isHost(h.by, hosts) && !(seen && isLocalhost(h.by)):
			if !seen {
				return "the returned message does not show that it came through this host"
			}
			return ""
		case h.authenticated():
			return "its sender had authenticated"
		case h.from == "":
			return "its sender is a user of this host"
		}
		seen = true
		if local, ok := h.loopback(); !local && (ok || !isLocalhost(h.from)) {
			return "" // here it came in
		}
	}
	if !seen {
		return "the returned message does not show how it came to this host"
	}
	return ""
}

func isHost(name string, hosts []string) bool {
	for _, h := range hosts {
		if strings.EqualFold(strings.TrimSuffix(name, "."), h) {
			return h != ""
		}
	}
	return false
}

func isLocalhost(name string) bool {
	return strings.EqualFold(name, "localhost") || strings.HasPrefix(strings.ToLower(name), "localhost.")
}
