package mail

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Lengths of RFC 5321 4.5.3.1, in octets.
const (
	maxLocal  = 64
	maxDomain = 255
	maxLabel  = 63
)

// Address is a mailbox: a local part and a domain, both decoded. The zero
// Address is the null sender. An Address without a domain is only ever
// Postmaster (RFC 5321 4.5.1). Two Addresses may be compared with ==.
//
// ParseAddress is the only way to make one from text, String the only way back,
// and ParseAddress(a.String()) == a. What could not be printed without danger
// is never parsed: no consumer has to quote again or to look for a second "@".
type Address struct {
	Local  string // unquoted; case kept
	Domain string // lower case; "[192.0.2.1]" and "[IPv6:2001:db8::1]" for literals
}

var errAddress = errors.New("address")

func addressError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errAddress, fmt.Sprintf(format, args...))
}

// ParseAddress reads local@domain (RFC 5321 4.1.2, RFC 6531 3.3), "" (the null
// sender), or postmaster in any case. No angle brackets, no source route, no
// comments, no white space; one trailing dot of the domain is dropped, as
// sendmail does. utf8 allows non-ASCII (SMTPUTF8).
func ParseAddress(s string, allowUTF8 bool) (Address, error) {
	if s == "" {
		return Address{}, nil
	}
	if strings.EqualFold(s, "postmaster") {
		return Address{Local: "postmaster"}, nil
	}
	if !allowUTF8 && !isASCII(s) {
		return Address{}, addressError("non-ASCII characters without SMTPUTF8")
	}
	if !utf8.ValidString(s) {
		return Address{}, addressError("not valid UTF-8")
	}
	if s[0] == '@' {
		return Address{}, addressError("source routes are not accepted")
	}
	local, rest, err := cutLocal(s)
	if err != nil {
		return Address{}, err
	}
	if rest == "" {
		return Address{}, addressError("no domain")
	}
	if rest[0] != '@' {
		return Address{}, addressError("unexpected %q after the local part", rest[:1])
	}
	domain, err := ParseDomain(rest[1:])
	if err != nil {
		return Address{}, err
	}
	if err := checkLocal(local); err != nil {
		return Address{}, err
	}
	return Address{Local: local, Domain: domain}, nil
}

// cutLocal splits s behind its local part and unquotes that.
func cutLocal(s string) (local, rest string, err error) {
	if s[0] != '"' {
		i := strings.IndexByte(s, '@')
		if i < 0 {
			i = len(s)
		}
		local = s[:i]
		if !isDotString(local) {
			return "", "", addressError("bad local part")
		}
		return local, s[i:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			i++
			if i == len(s) {
				return "", "", addressError("unfinished quoted pair")
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", addressError("unfinished quoted local part")
}

// checkLocal refuses what RFC 5321 would allow inside quotes but what some
// program on the way takes for syntax: an "@" (a second domain), ">" (the end
// of the path), blanks (ESMTP arguments), a leading "-" (an option), "|" (a
// pipe). The first three make an open relay of a gateway that unquotes.
func checkLocal(local string) error {
	switch {
	case local == "":
		return addressError("empty local part")
	case len(local) > maxLocal:
		return addressError("local part longer than %d octets", maxLocal)
	case local[0] == '-':
		return addressError("local part begins with a hyphen")
	}
	for i := 0; i < len(local); i++ {
		if c := local[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`<>@\"|(),:;[]`, c) >= 0 {
			return addressError("character %q in the local part", c)
		}
	}
	if isASCII(local) {
		return nil
	}
	for _, r := range local {
		if r >= 0x80 && r <= 0x9f || r == 0x2028 || r == 0x2029 || r == utf8.RuneError {
			return addressError("control character in the local part")
		}
	}
	// A full-width "@" or "%" must not become a real one in a next hop that
	// normalises.
	for _, r := range norm.NFKC.String(strings.Map(nonASCII, local)) {
		if r <= ' ' || r < 0x80 && !isAtext(byte(r)) && r != '.' || r == '%' || r == '!' {
			return addressError("character that normalises to %q in the local part", r)
		}
	}
	return nil
}

func nonASCII(r rune) rune {
	if r < utf8.RuneSelf {
		return -1
	}
	return r
}

// ParseDomain reads a domain name or an address literal and returns its
// canonical form: lower case, no trailing dot.
func ParseDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		return parseLiteral(s)
	}
	s = strings.TrimSuffix(s, ".")
	if s == "" {
		return "", addressError("empty domain")
	}
	if len(s) > maxDomain {
		return "", addressError("domain longer than %d octets", maxDomain)
	}
	s = strings.ToLower(s)
	if !isASCII(s) {
		// Only what IDNA takes as it stands: a full stop in another script
		// (U+3002) or a full-width letter would be another domain elsewhere.
		ascii, err := idnaProfile.ToASCII(s)
		if err != nil {
			return "", addressError("domain: %v", err)
		}
		if back, err := idnaProfile.ToUnicode(ascii); err != nil || back != s {
			return "", addressError("domain is not in its canonical form")
		}
		return s, checkLabels(ascii)
	}
	return s, checkLabels(s)
}

var idnaProfile = idna.New(idna.ValidateLabels(true), idna.StrictDomainName(true), idna.BidiRule())

func checkLabels(s string) error {
	label := s
	for rest, more := s, true; more; {
		label, rest, more = strings.Cut(rest, ".")
		switch {
		case label == "":
			return addressError("empty label in the domain")
		case len(label) > maxLabel:
			return addressError("label longer than %d octets in the domain", maxLabel)
		case label[0] == '-' || label[len(label)-1] == '-':
			return addressError("label with a hyphen at its edge in the domain")
		}
		for i := 0; i < len(label); i++ {
			// The underscore is no letter of a host name, but of many senders'.
			if c := label[i]; !isAlnum(c) && c != '-' && c != '_' {
				return addressError("character %q in the domain", c)
			}
		}
	}
	if isDigits(label) {
		return addressError("domain ends in a number; write an address literal as [192.0.2.1]")
	}
	return nil
}

// parseLiteral reads [192.0.2.1] and [IPv6:2001:db8::1] (RFC 5321 4.1.3).
func parseLiteral(s string) (string, error) {
	if len(s) < 3 || s[len(s)-1] != ']' {
		return "", addressError("unfinished address literal")
	}
	in := s[1 : len(s)-1]
	const v6 = "IPv6:"
	if len(in) > len(v6) && strings.EqualFold(in[:len(v6)], v6) {
		ip, err := netip.ParseAddr(in[len(v6):])
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", addressError("bad IPv6 address literal")
		}
		return "[IPv6:" + ip.String() + "]", nil
	}
	ip, err := netip.ParseAddr(in)
	if err != nil || !ip.Is4() {
		return "", addressError("bad address literal")
	}
	return "[" + ip.String() + "]", nil
}

// IsNull reports whether a is the null sender.
func (a Address) IsNull() bool { return a == Address{} }

// IsPostmaster reports whether a is postmaster, here or at any domain.
func (a Address) IsPostmaster() bool { return strings.EqualFold(a.Local, "postmaster") }

// IsLiteral reports whether the domain is an address literal.
func (a Address) IsLiteral() bool { return strings.HasPrefix(a.Domain, "[") }

// IsASCII reports whether a can be sent without SMTPUTF8.
func (a Address) IsASCII() bool { return isASCII(a.Local) && isASCII(a.Domain) }

// HasHops reports whether the local part holds "%" or "!", which old mailers
// take as a route to another host.
func (a Address) HasHops() bool { return strings.ContainsAny(a.Local, "%!") }

// String prints a without brackets; "" is the null sender. The local part is
// quoted where RFC 5321 wants it.
func (a Address) String() string {
	if a.Domain == "" {
		return a.Local
	}
	if !isDotString(a.Local) {
		return `"` + a.Local + `"@` + a.Domain // checkLocal left nothing to escape
	}
	return a.Local + "@" + a.Domain
}

// Same reports whether a and b are one mailbox for most hosts: domains in both
// spellings of IDNA, and all of it in any case.
func (a Address) Same(b Address) bool {
	return strings.EqualFold(a.Local, b.Local) && strings.EqualFold(a.ASCIIDomain(), b.ASCIIDomain())
}

// Path prints a between angle brackets, as MAIL and RCPT want it.
func (a Address) Path() string { return "<" + a.String() + ">" }

// ASCIIDomain is the domain as DNS and tables know it.
func (a Address) ASCIIDomain() string { return ASCIIDomain(a.Domain) }

// ToASCII returns a with its domain as A-labels, for whom does not know others.
func (a Address) ToASCII() Address { return Address{Local: a.Local, Domain: a.ASCIIDomain()} }

// ASCIIDomain returns the A-label form of a domain that ParseDomain returned.
func ASCIIDomain(domain string) string {
	if isASCII(domain) {
		return domain
	}
	ascii, err := idnaProfile.ToASCII(domain)
	if err != nil {
		return domain
	}
	return ascii
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// isAtext is RFC 5321's atext with UTF-8 (RFC 6531).
func isAtext(c byte) bool {
	return isAlnum(c) || c >= utf8.RuneSelf || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isDotString(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == '.' {
			if i == 0 || i == len(s)-1 || s[i-1] == '.' {
				return false
			}
		} else if !isAtext(s[i]) {
			return false
		}
	}
	return s != ""
}

func isDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
