package spf

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// The library stops reading at the mechanism that fits, so that "+all foo:bar"
// passes; for the RFC a record with a mistake anywhere is none (RFC 7208 4.6).
// It is shown this one instead, of which it says so.
const mistaken = "v=spf1 mistake"

// checked is a TXT record as the library may see it.
func checked(text string) string {
	version, terms, _ := strings.Cut(text, " ")
	if !strings.EqualFold(version, "v=spf1") || isRecord(terms) {
		return text
	}
	return mistaken
}

// isRecord reports whether all terms are ones of RFC 7208 12.
func isRecord(terms string) bool {
	once := make(map[string]bool)
	for term := range strings.SplitSeq(terms, " ") {
		if term == "" {
			continue
		}
		if name, value, ok := modifier(term); ok {
			if (name == "redirect" || name == "exp") && (once[name] || !isDomain(value)) || !isMacro(value) {
				return false
			}
			once[name] = true
			continue
		}
		if !isMechanism(strings.ToLower(strings.TrimLeft(term[:1], "+-~?") + term[1:])) {
			return false
		}
	}
	return true
}

// modifier splits name=value. Its "=" comes before any ":" or "/".
func modifier(term string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(term, "=")
	if !ok || name == "" {
		return "", "", false
	}
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c != '-' && c != '_' && c != '.' && (c < '0' || c > '9')) {
			return "", "", false
		}
	}
	return strings.ToLower(name), value, true
}

// isMechanism is given one in lower case, without its qualifier.
func isMechanism(term string) bool {
	end := strings.IndexAny(term, ":/")
	if end < 0 {
		end = len(term)
	}
	name, rest := term[:end], term[end:]
	value, hasValue := strings.CutPrefix(rest, ":")
	switch name {
	case "all":
		return rest == ""
	case "include", "exists":
		return hasValue && isDomain(value)
	case "ptr":
		return rest == "" || hasValue && isDomain(value)
	case "a", "mx":
		return isHosts(value, hasValue, rest)
	case "ip4":
		return hasValue && isNetwork(value, false)
	case "ip6":
		return hasValue && isNetwork(value, true)
	}
	return false
}

var dualCIDR = regexp.MustCompile(`(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?$`)

// isHosts reads [":" domain-spec] [dual-cidr-length].
func isHosts(value string, hasValue bool, rest string) bool {
	m := dualCIDR.FindStringSubmatchIndex(rest)
	four, six := 0, 0
	if m[2] >= 0 {
		four, _ = strconv.Atoi(rest[m[2]:m[3]])
	}
	if m[4] >= 0 {
		six, _ = strconv.Atoi(rest[m[4]:m[5]])
	}
	if four > 32 || six > 128 {
		return false
	}
	if !hasValue {
		return m[0] == 0
	}
	return isDomain(value[:len(value)-(len(rest)-m[0])])
}

func isNetwork(value string, six bool) bool {
	addr, bits, cut := strings.Cut(value, "/")
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" || a.Is6() != six {
		return false
	}
	n, err := strconv.Atoi(bits)
	return !cut || err == nil && n >= 0 && n <= a.BitLen() && bits == strconv.Itoa(n)
}

var (
	macro    = regexp.MustCompile(`%(?:\{[slodiphcrtvSLODIPHCRTV](?:[1-9][0-9]{0,2}|0[1-9])?[rR]?[-.+,/_=]*\}|[%_-])`)
	topLabel = regexp.MustCompile(`\.(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])\.?$`)
)

// isMacro reports whether a text is a macro-string: printable, and each "%" the
// beginning of a macro.
func isMacro(s string) bool {
	plain := macro.ReplaceAllString(s, "")
	return !strings.ContainsFunc(plain, func(r rune) bool { return r <= ' ' || r > '~' || r == '%' })
}

// isDomain reports whether a text is a domain-spec: a macro-string that ends in
// a macro, or in a label that may be a top-level domain.
func isDomain(s string) bool {
	if s == "" || !isMacro(s) {
		return false
	}
	if at := macro.FindAllStringIndex(s, -1); len(at) > 0 && at[len(at)-1][1] == len(s) {
		return true
	}
	return topLabel.MatchString(s)
}
