package checkrules

import (
	"fmt"
	"net/netip"
	"strings"

	"gatepost/internal/mail"
)

const (
	usualRefusal = "550 Mail from %F to %T prohibited from your location (%U@%H ip=%I)"
	plainRefusal = "550 Recipient not allowed"
	longestReply = 511 // bytes
)

// goodMessage reports whether a message is one that reply can use.
func goodMessage(s string) bool {
	if r, ok := mail.ParseReply(s); !ok || r.Code < 400 {
		return false
	}
	for i := strings.IndexByte(s, '%'); i >= 0; i = strings.IndexByte(s, '%') {
		if i+1 == len(s) || !strings.ContainsRune("%CFTHIU", rune(s[i+1])) {
			return false
		}
		s = s[i+2:]
	}
	return true
}

// reply is what the client is told.
func (r *rule) reply(q Query) mail.Reply {
	text := r.message
	switch {
	case text == "":
		text = usualRefusal
	case !goodMessage(text):
		text = plainRefusal
	}
	text = strings.NewReplacer("%%", "%", "%C", ":", "%F", q.From.Path(), "%T", q.To.Path(),
		"%H", orUnknown(q.Name), "%I", addrText(q.Addr), "%U", orUnknown(q.Ident)).Replace(text)
	reply, ok := mail.ParseReply(clip(mail.CleanText(text)))
	if !ok {
		return mail.Reply{Code: 550, Detail: "7.1", Text: "Recipient not allowed"}
	}
	if reply.Detail == "" {
		reply.Detail = "7.1"
	}
	return reply
}

func orUnknown(s string) string {
	if s == "" {
		return "UNKNOWN"
	}
	return s
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return "UNKNOWN"
	}
	return a.String()
}

func clip(s string) string {
	if len(s) <= longestReply {
		return s
	}
	return strings.ToValidUTF8(s[:longestReply], "")
}

// reverseName is the name under which the DNS knows an address.
func reverseName(a netip.Addr) string {
	switch {
	case a.Is4():
		b := a.As4()
		return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa", b[3], b[2], b[1], b[0])
	case a.Is6():
		var s strings.Builder
		b := a.As16()
		for i := len(b) - 1; i >= 0; i-- {
			fmt.Fprintf(&s, "%x.%x.", b[i]&0xf, b[i]>>4)
		}
		return s.String() + "ip6.arpa"
	}
	return ""
}
