package dmarc

import (
	"bytes"
	"mime"
	"regexp"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// From is what the From fields of a message say, to whoever reads them.
type From struct {
	// Domains are those that some reader may show as the author's; where Odd
	// is "", just one.
	Domains []string
	// Odd says why there is not one clear author: "missing", "duplicate",
	// "several", "group", "malformed", "spaced", "folded", "encoded",
	// "excessive". "" is the only thing that may pass.
	Odd string
	// Display is a domain in the name that is shown beside the address, where
	// it is another one: many a reader shows nothing else.
	Display string
}

// maxDomains is how many domains of From fields that nobody should write are
// asked about. A message that names more is not from any of them.
const maxDomains = 10

// Authors reads the From fields. What it takes is the sum of their lengths.
func Authors(h mail.Header) From {
	var from From
	var fields []mail.Field
	for _, f := range h {
		if f.Is("From") {
			fields = append(fields, f)
		}
	}
	if len(fields) == 0 {
		return From{Odd: "missing"}
	}
	for _, f := range fields {
		from.add(f)
	}
	switch {
	case len(from.Domains) > maxDomains:
		from.Odd = "excessive"
	case len(fields) > 1:
		from.Odd = "duplicate"
	case from.Odd == "" && len(from.Domains) != 1:
		from.Odd = "malformed"
	}
	return from
}

// add reads one field.
func (from *From) add(f mail.Field) {
	raw := f.Raw()
	name, value, _ := bytes.Cut(bytes.TrimSuffix(raw, []byte("\r\n")), []byte(":"))
	a, odd := parseAuthor(string(value))
	if odd == "" && len(name) != len(f.Name()) {
		odd = "spaced" // "From :" is a field to some, and none to others
	}
	if odd == "" {
		from.Domains = appendNew(from.Domains, a.domain)
		for _, d := range candidates(decoded(a.display)) {
			if d != a.domain && from.Display == "" {
				from.Display = d
			}
		}
		return
	}
	from.Odd = odd
	for _, text := range []string{f.Value(), decoded(f.Value()), squeezed(f.Value())} {
		for _, d := range candidates(text) {
			if len(from.Domains) <= maxDomains {
				from.Domains = appendNew(from.Domains, d)
			}
		}
	}
}

func appendNew(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

type author struct{ display, domain string }

// parseAuthor reads what every reader reads in the same way: one mailbox, with
// or without a name. What is odd is named.
func parseAuthor(value string) (a author, odd string) {
	lines := strings.Split(value, "\r\n")
	for i, l := range lines {
		if strings.Trim(l, " \t") == "" && (i > 0 || len(lines) > 1) {
			return a, "folded" // a line without anything: some stop there
		}
	}
	for _, c := range []byte(value) {
		if c < ' ' && c != '\t' && c != '\r' && c != '\n' || c == 0x7f {
			return a, "malformed"
		}
	}
	tokens, ok := split(strings.Join(lines, ""))
	if !ok || strings.ContainsAny(strings.Join(lines, ""), "\r\n") {
		return a, "malformed"
	}
	addr, odd := a.take(tokens)
	if odd != "" {
		return a, odd
	}
	return a, a.address(addr, value)
}

// take finds the address among the tokens: the only one in angle brackets, or
// all there is.
func (a *author) take(tokens []token) (addr, odd string) {
	var words, inside []string
	angle := 0 // 1: inside, 2: behind
	for _, t := range tokens {
		switch {
		case t.kind == special && t.text == ",":
			return "", "several"
		case t.kind == special && (t.text == ";" || t.text == ":") && angle != 1:
			return "", "group"
		case t.kind == special && t.text == "<" && angle == 0:
			angle = 1
		case t.kind == special && t.text == ">" && angle == 1:
			angle = 2
		case t.kind == special && (angle != 0 || t.text != "[" && t.text != "]"):
			return "", "malformed" // routes and domain literals among them
		case angle == 2:
			return "", "malformed" // something behind the address
		case angle == 1:
			inside = append(inside, t.raw)
		default:
			words = append(words, t.raw)
			a.display += t.text + " "
		}
	}
	switch {
	case angle == 2 && len(inside) == 1:
		return inside[0], ""
	case angle == 0 && len(words) == 1:
		a.display = ""
		return words[0], ""
	}
	return "", "malformed"
}

// address reads the address itself, and refuses what decoders may read as
// another one.
func (a *author) address(addr, value string) (odd string) {
	if strings.Contains(addr, "=?") {
		return "encoded"
	}
	for l := range strings.SplitSeq(value, "\r\n") {
		if strings.Contains(strings.Trim(l, " \t"), addr) {
			odd = ""
			break
		}
		odd = "folded" // the address itself
	}
	parsed, err := mail.ParseAddress(addr, true)
	if odd != "" || err != nil || parsed.Domain == "" || parsed.IsLiteral() {
		if odd == "" {
			odd = "malformed"
		}
		return odd
	}
	a.domain = parsed.ASCIIDomain()
	// An "@" outside quotes in the name: harmless where it is the same domain.
	for _, d := range candidates(a.display) {
		if d != a.domain && strings.Contains(unquoted(value), "@"+d) {
			return "malformed"
		}
	}
	return ""
}

// decoded is a text with its encoded words read, as readers show it.
func decoded(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	text, err := new(mime.WordDecoder).DecodeHeader(s)
	if err != nil {
		return s
	}
	return text
}

var (
	aComment = regexp.MustCompile(`\([^()]*\)`)
	aroundAt = regexp.MustCompile(`[ \t]*([.@])[ \t]*`)
)

// squeezed is a text as the most lenient read it: without comments, and without
// blanks around dots (RFC 5322 4.4).
func squeezed(s string) string {
	for range 3 {
		s = aComment.ReplaceAllString(s, "")
	}
	return aroundAt.ReplaceAllString(s, "$1")
}

// candidates are the domains behind any "@" in a text, maxDomains and one at
// most.
func candidates(s string) (domains []string) {
	s = strings.NewReplacer("\uff20", "@", "\ufe6b", "@").Replace(s) // that look like one
	for i := strings.IndexByte(s, '@'); i >= 0 && len(domains) <= maxDomains; i = strings.IndexByte(s, '@') {
		s = strings.TrimLeft(s[i+1:], " \t")
		end := strings.IndexFunc(s, func(r rune) bool {
			return r < 0x80 && r != '-' && r != '.' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		})
		if end < 0 {
			end = len(s)
		}
		if d := ASCII(strings.Trim(s[:end], ".")); strings.Contains(d, ".") {
			domains = appendNew(domains, d)
		}
	}
	return domains
}
