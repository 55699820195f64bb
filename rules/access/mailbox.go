package access

import (
	"strings"

	"gatepost/internal/mail"
)

// Mailbox is an address as the rulesets see it in their canonical form:
// without quotes, its domain in lower case and without a final dot. Without a
// domain it is a local user; the zero Mailbox is the null sender.
type Mailbox struct{ Local, Domain string }

// Of makes a Mailbox of a parsed address.
func Of(a mail.Address) Mailbox { return Mailbox{a.Local, a.ASCIIDomain()} }

func (m Mailbox) String() string {
	if m.Domain == "" {
		return m.Local
	}
	return m.Local + "@" + m.Domain
}

// hops are the characters that make a local part a route to another host.
const hops = "@!%"

// ReadMailbox reads an address as sendmail's rulesets 3 and 0 do, with all that
// they let pass: source routes, quotes, routes in the local part. mail's own
// parser is stricter; this one is for asking what sendmail would say.
func ReadMailbox(s string) (Mailbox, mail.Reply) {
	s = strings.TrimSpace(s)
	if in, ok := strings.CutPrefix(s, "<"); ok {
		s = strings.TrimSuffix(in, ">")
	}
	if strings.HasPrefix(s, "@") {
		if _, rest, ok := strings.Cut(s, ":"); ok {
			s = rest
		}
	}
	at := lastAt(s)
	if at < 0 {
		return unfold(dequote(s)), mail.Reply{}
	}
	local, domain := s[:at], strings.ToLower(s[at+1:])
	domain = strings.TrimSuffix(domain, ".")
	switch {
	case local == "":
		return Mailbox{}, mail.Reply{Code: 553, Detail: "1.3", Text: "User address required"}
	case domain == "":
		return Mailbox{}, mail.Reply{Code: 553, Detail: "1.3", Text: "Hostname required"}
	case lastAt(local) >= 0:
		return Mailbox{}, mail.Reply{Code: 553, Detail: "1.3", Text: "Invalid route address"}
	case strings.HasPrefix(domain, "."), strings.Contains(domain, ".."):
		return Mailbox{}, mail.Reply{Code: 553, Detail: "1.2", Text: "Invalid host name"}
	}
	if ascii, err := CanonicalDomain(domain); err == nil {
		domain = ascii
	}
	return Mailbox{dequote(local), domain}, mail.Reply{}
}

// lastAt finds the last @ outside quotes.
func lastAt(s string) int {
	at, quoted := -1, false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '@' && !quoted:
			at = i
		}
	}
	return at
}

func dequote(s string) string {
	if !strings.Contains(s, `"`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] != '"':
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// unfold makes an address of a local part that stands alone: host!user and
// user%host are old forms of user@host, a bang before a percent sign.
func unfold(s string) Mailbox {
	if at := strings.LastIndexByte(s, '@'); at > 0 && at < len(s)-1 {
		return Mailbox{s[:at], strings.ToLower(s[at+1:])}
	}
	if host, user, ok := strings.Cut(s, "!"); ok && host != "" && user != "" {
		if !strings.Contains(host, ".") {
			host += ".uucp"
		}
		return Mailbox{user, strings.ToLower(host)}
	}
	if i := strings.LastIndexByte(s, '%'); i > 0 && i < len(s)-1 {
		return Mailbox{s[:i], strings.ToLower(s[i+1:])}
	}
	return Mailbox{Local: s}
}
