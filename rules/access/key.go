package access

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// parseItem brings what stands behind the tag into the form of a key.
// dots allows ".example.com", which is looked for only with lookupdotdomain.
func parseItem(s string, dots bool) (string, kind, error) {
	lower := strings.ToLower(s)
	switch {
	case s == "":
		return "", kindDefault, nil
	case strings.Contains(s, "@"):
		key, err := mailboxKey(lower)
		return key, kindMailbox, err
	case strings.HasPrefix(lower, "["):
		key, err := bracketKey(lower)
		return key, kindDomain, err
	case strings.HasPrefix(lower, prefixV6):
		key, err := ipv6Key(lower)
		return key, kindAddress, err
	case looksNumeric(s):
		key, err := ipv4Key(s)
		return key, kindAddress, err
	case strings.ContainsAny(s, ":/"):
		return "", 0, errors.New("IPv6 is written IPv6:2001:db8, without a mask")
	case strings.HasPrefix(s, "*."), strings.HasPrefix(s, ".") && !dots:
		return "", 0, fmt.Errorf("a domain includes those below it; write %s, or set relay.lookupdotdomain", strings.TrimLeft(s, "*."))
	}
	name, below := strings.CutPrefix(s, ".")
	key, err := CanonicalDomain(name)
	if err != nil {
		err = fmt.Errorf("can never match: %w", err)
	}
	if below {
		key = "." + key
	}
	return key, kindDomain, err
}

// mailboxKey reads u@domain, u@, u+*@domain and u+*@.
func mailboxKey(s string) (string, error) {
	at := strings.LastIndexByte(s, '@')
	local, domain := s[:at], s[at+1:]
	if user := strings.TrimSuffix(local, "+*"); strings.Contains(user, "*") || user == "" {
		return "", fmt.Errorf("there are no wildcards but u+*@; write %s for a whole domain", domainOr(domain))
	}
	if _, err := mail.ParseAddress(local+"@example.com", true); err != nil {
		return "", fmt.Errorf("can never match: %w", err)
	}
	if domain == "" {
		return s, nil
	}
	domain, err := CanonicalDomain(domain)
	if err != nil {
		return "", fmt.Errorf("can never match: %w", err)
	}
	return local + "@" + domain, nil
}

func domainOr(s string) string {
	if s == "" {
		return "example.com"
	}
	return s
}

// bracketKey reads the name of a client that has none, [192.0.2.1], or the
// beginning of such names, [192.0.2].
func bracketKey(s string) (string, error) {
	in, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return "", errors.New("the closing bracket is missing")
	}
	key, err := "", error(nil)
	if strings.HasPrefix(in, prefixV6) {
		key, err = ipv6Key(in)
	} else {
		key, err = ipv4Key(in)
	}
	return "[" + key + "]", err
}

// ipv4Key reads an address or its first one to three numbers.
func ipv4Key(s string) (string, error) {
	parts := strings.Split(s, ".")
	if strings.Contains(s, "/") {
		return "", errors.New("there are no masks in this format; write 192.0.2 for 192.0.2.0/24")
	}
	if len(parts) > 4 {
		return "", errors.New("is no IPv4 address; write one to four numbers")
	}
	for _, p := range parts {
		if n, err := strconv.Atoi(p); err != nil || n > 255 || strconv.Itoa(n) != p {
			return "", errors.New("is no IPv4 address; write 192.0.2.1, or 192.0.2 for all that begin so")
		}
	}
	return s, nil
}

// ipv6Key reads an address in any form, or its first groups, and writes the
// groups out, as appendAddr does. sendmail finds only the form that it was
// built for; here both mean the same.
func ipv6Key(s string) (string, error) {
	s = s[len(prefixV6):]
	wrong := errors.New("is no IPv6 address; write IPv6:2001:db8::1, or IPv6:2001:db8 for all that begin so")
	if strings.Contains(s, "::") {
		ip, err := netip.ParseAddr(s)
		switch {
		case err != nil || ip.Zone() != "":
			return "", wrong
		case ip.Is4In6():
			return "", fmt.Errorf("clients with such an address count as IPv4; write %s", ip.Unmap())
		case strings.HasSuffix(s, "::") && s != "::":
			return "", fmt.Errorf("names one address, not a network; write IPv6:%s for all that begin so", strings.TrimSuffix(s, "::"))
		}
		return string(appendAddr(nil, ip)), nil
	}
	groups := strings.Split(s, ":")
	if len(groups) > 8 {
		return "", wrong
	}
	for i, g := range groups {
		n, err := strconv.ParseUint(g, 16, 16)
		if err != nil {
			return "", wrong
		}
		groups[i] = strconv.FormatUint(n, 16)
	}
	return prefixV6 + strings.Join(groups, ":"), nil
}

const prefixV6 = "ipv6:"

// appendAddr writes an address as the keys have it: IPv6 with all eight groups,
// so that every prefix ends before a colon.
func appendAddr(b []byte, ip netip.Addr) []byte {
	if ip = ip.Unmap(); ip.Is4() {
		return ip.AppendTo(b)
	}
	b = append(b, prefixV6...)
	raw := ip.As16()
	for i := 0; i < len(raw); i += 2 {
		if i > 0 {
			b = append(b, ':')
		}
		b = strconv.AppendUint(b, uint64(raw[i])<<8|uint64(raw[i+1]), 16)
	}
	return b
}

// literal reads [192.0.2.1] and [IPv6:2001:db8::1].
func literal(name string) (netip.Addr, bool) {
	if !strings.HasPrefix(name, "[") || !strings.HasSuffix(name, "]") {
		return netip.Addr{}, false
	}
	in := name[1 : len(name)-1]
	if len(in) > len(prefixV6) && strings.EqualFold(in[:len(prefixV6)], prefixV6) {
		in = in[len(prefixV6):]
	}
	ip, err := netip.ParseAddr(in)
	return ip.Unmap(), err == nil
}

// appendLower folds case as the keys were folded.
func appendLower(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x80 {
			return append(b[:len(b)-i], strings.ToLower(s)...)
		}
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// CanonicalDomain is the form in which all tables here keep a domain: lower
// case, A-labels.
func CanonicalDomain(s string) (string, error) {
	name, err := mail.ParseDomain(s)
	return strings.ToLower(mail.ASCIIDomain(name)), err
}

// looksNumeric reports whether s is an IPv4 address or the beginning of one,
// perhaps with a mask.
func looksNumeric(s string) bool {
	return s != "" && strings.Trim(s, "0123456789./") == ""
}
