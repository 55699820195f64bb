package checkrules

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// patternKind is what a pattern is held against.
type patternKind int

const (
	ofSource  patternKind = iota // the client
	ofAddress                    // a sender or a recipient
	ofServer                     // a name server or mail host (NS=)
)

// pattern is one token. Exactly one of its parts is set.
type pattern struct {
	special special
	prefix  netip.Prefix
	zone    string   // RBL.zone
	servers *pattern // NS=
	text    *matcher // a name, or a whole address
	user    *matcher // with domain: the two sides of an address, or ident and host
	domain  *pattern // of ofSource: the host
	right   *matcher // of ofAddress: behind the last "@"
}

type special int

const (
	noSpecial special = iota
	all
	knownName
	unknownName
	identUser // USER: the client's ident
	anyIdent  // KNOWN@: there is one
)

const noIdent = "idents are not asked for (RFC 931): it never fits"

func parsePattern(token string, kind patternKind) (p pattern, warning string, err error) {
	switch strings.ToUpper(token) {
	case "ALL":
		return pattern{special: all}, "", nil
	case "KNOWN", "UNKNOWN":
		if kind == ofAddress {
			break
		}
		if strings.EqualFold(token, "KNOWN") {
			return pattern{special: knownName}, "", nil
		}
		return pattern{special: unknownName}, "", nil
	case "TRUSTED", "UNTRUSTED":
		if kind == ofSource {
			return p, "", errors.New("is about the interfaces of a Juniper firewall; write networks")
		}
	}
	if zone, ok := strings.CutPrefix(token, "RBL."); ok && kind != ofAddress {
		name, err := mail.ParseDomain(zone)
		return pattern{zone: mail.ASCIIDomain(name)}, "", err
	}
	if of, ok := strings.CutPrefix(token, "NS="); ok && kind != ofServer {
		inner, warning, err := parsePattern(of, ofServer)
		return pattern{servers: &inner}, warning, err
	}
	if kind != ofAddress {
		if prefix, is, err := parsePrefix(token); is {
			return pattern{prefix: prefix}, "", err
		}
	}
	return parseText(token, kind)
}

// parsePrefix reads a.b.c.d, a.b.c.d/bits, 0/bits, [IPv6], [IPv6/bits]. A token
// of digits and dots is an address or an error.
func parsePrefix(token string) (p netip.Prefix, is bool, err error) {
	if inner, ok := strings.CutPrefix(token, "["); ok {
		inner = strings.TrimSuffix(inner, "]")
		p, err = netip.ParsePrefix(inner)
		if !strings.Contains(inner, "/") {
			var a netip.Addr
			a, err = netip.ParseAddr(inner)
			p = netip.PrefixFrom(a, a.BitLen())
		}
		return p.Masked(), true, err
	}
	if strings.Trim(token, "0123456789./") != "" || strings.Trim(token, "./") == "" {
		return p, false, nil
	}
	addr, bits, given := strings.Cut(token, "/")
	if addr == "0" {
		addr = "0.0.0.0"
	}
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return p, true, errors.New("is no address; want a.b.c.d or a.b.c.d/bits")
	}
	n := 32
	if given {
		if n, err = strconv.Atoi(bits); err != nil || n > 32 {
			return p, true, fmt.Errorf("/%s never fits; want 0 to 32 bits", bits)
		}
	}
	return netip.PrefixFrom(a, n).Masked(), true, nil
}

// parseText reads globs and regular expressions, with both sides of an "@" where
// there is one.
func parseText(token string, kind patternKind) (p pattern, warning string, err error) {
	at := strings.LastIndexByte(token, '@')
	if isRegexp(token) && strings.Contains(token, "/@/") {
		return p, "", errors.New("only one side of the @ can be a regular expression")
	}
	if at < 0 || isRegexp(token) {
		p.text, err = newMatcher(token)
		if rest, open := strings.CutPrefix(token, "*"); err == nil && kind == ofAddress && open && rest != "" && !strings.ContainsAny(rest[:1], ".@%!*") {
			warning = "fits every domain that ends so, like not" + rest + "; write *@" + rest + " and *." + rest
		}
		return p, warning, err
	}
	left, right := token[:at], token[at+1:]
	if kind == ofSource {
		return identPattern(left, right)
	}
	if strings.EqualFold(left, "USER") {
		p.special, warning = identUser, noIdent
	} else if p.user, err = newSide(left); err != nil {
		return p, "", err
	}
	p.right, err = newSide(right)
	return p, warning, err
}

// identPattern is user@host in the source.
func identPattern(user, host string) (p pattern, warning string, err error) {
	inner, warning, err := parsePattern(host, ofServer)
	p.domain = &inner
	switch {
	case err != nil || strings.EqualFold(user, "ALL"):
		p.special = all // with or without an ident
		return p, warning, err
	case strings.EqualFold(user, "KNOWN"):
		p.special = anyIdent
	default:
		if p.user, err = newSide(user); err != nil {
			return p, "", err
		}
	}
	return p, noIdent, nil
}

func isRegexp(s string) bool { return len(s) >= 2 && s[0] == '/' && s[len(s)-1] == '/' }

// matcher compares texts in any case. "*" stands for anything.
type matcher struct{ re *regexp.Regexp }

// newSide is a matcher for one side of an "@", where ALL is "*".
func newSide(s string) (*matcher, error) {
	if strings.EqualFold(s, "ALL") {
		s = "*"
	}
	return newMatcher(s)
}

func newMatcher(s string) (*matcher, error) {
	if isRegexp(s) {
		re, err := regexp.Compile("(?is)" + s[1:len(s)-1])
		return &matcher{re}, err
	}
	parts := strings.Split(s, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	re, err := regexp.Compile("(?is)^" + strings.Join(parts, ".*") + "$")
	return &matcher{re}, err
}

func (m *matcher) fits(s string) bool { return m.re.MatchString(s) }
