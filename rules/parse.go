package rules

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"gatepost/internal/mail"
)

// loadAccess reads an access map; no path is an empty one.
func loadAccess(path string) (access, []string, error) {
	if path == "" {
		return access{}, nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return access{}, nil, fmt.Errorf("relay.access: %w", err)
	}
	defer f.Close()
	return parseAccess(path, f)
}

// parseAccess reads sendmail's text format: a key, white space, a value. A line
// that begins with # is a comment, and no other is.
func parseAccess(path string, r io.Reader) (access, []string, error) {
	a := access{path: path}
	for t := range a.entries {
		a.entries[t] = make(map[string]entry)
	}
	var errs, warnings problems
	var untagged untagged
	readErr := eachLine(path, r, func(number int, line string) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			return
		}
		key, t, e, err := parseLine(line)
		if err != nil {
			errs.noteLine(path, number, err)
			return
		}
		if old, ok := a.entries[t][key]; ok {
			errs.noteLine(path, number, fmt.Errorf("%s%s is already in line %d; remove one of them", tagNames[t], key, old.line))
			return
		}
		e.line = int32(number)
		a.entries[t][key] = e
		warnings.noteLine(path, number, doubts(e))
		if t == tagNone {
			warnings.noteLine(path, number, untagged.doubts(key, e))
		}
	})
	errs.add(readErr)
	warnings.add(untagged.summary(path))
	return a, warnings.texts(), errs.join()
}

// parseLine reads one line that is neither empty nor a comment.
func parseLine(line string) (key string, t tag, e entry, err error) {
	if c := line[0]; c == ' ' || c == '\t' {
		return "", 0, entry{}, errors.New("begins with a blank; the key starts the line")
	}
	if strings.ContainsFunc(line, isControl) || !utf8.ValidString(line) {
		return "", 0, entry{}, errors.New("control characters or broken UTF-8; write plain text")
	}
	left, right := line, ""
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		left, right = line[:i], strings.Trim(line[i:], " \t")
	}
	if right == "" {
		return "", 0, entry{}, fmt.Errorf("%s has no value; write OK, RELAY, REJECT, DISCARD, SKIP, QUARANTINE:text or a reply behind it", left)
	}
	t, item, err := cutTag(left)
	if err != nil {
		return "", 0, entry{}, err
	}
	key, k, err := parseItem(item)
	if err != nil {
		return "", 0, entry{}, fmt.Errorf("%s: %w", left, err)
	}
	if err := k.fits(t); err != nil {
		return "", 0, entry{}, fmt.Errorf("%s: %w", left, err)
	}
	e, err = parseValue(right)
	return key, t, e, err
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f && r <= 0x9f }

// laterTags are sendmail's tags whose features are not here yet.
const laterTags = " spam greetpause clientrate clientconn tls_clt tls_srv tls_rcpt try_tls srv_features clt_features authinfo certissuer certsubject "

// cutTag splits "From:example.com". An IPv6 item has colons, too.
func cutTag(left string) (tag, string, error) {
	name, item, ok := strings.Cut(left, ":")
	if !ok || left[0] == '[' || strings.EqualFold(name+":", prefixV6) {
		return tagNone, left, nil
	}
	for t, known := range tagNames[:tagNone] {
		if !strings.EqualFold(name+":", known) {
			continue
		}
		if item == "" {
			return 0, "", fmt.Errorf("nothing stands behind %s without a blank; write it like %sexample.com", known, known)
		}
		return tag(t), item, nil
	}
	if strings.Contains(laterTags, " "+strings.ToLower(name)+" ") {
		return 0, "", fmt.Errorf("the tag %q is not built yet; remove the line", name)
	}
	if _, err := netip.ParseAddr(left); err == nil {
		return 0, "", fmt.Errorf("an IPv6 address needs its prefix; write IPv6:%s", left)
	}
	return 0, "", fmt.Errorf("the tag %q is unknown; write Connect:, From: or To: before the key", name)
}

// kind is what an item names.
type kind int

const (
	kindDomain  kind = iota
	kindAddress      // of a client, or a prefix
	kindMailbox      // u@domain and u@
)

// fits refuses what could never be found under its tag: a line without effect
// is a hole in what its author believes.
func (k kind) fits(t tag) error {
	switch {
	case k == kindAddress && (t == tagFrom || t == tagTo):
		return errors.New("a mail address holds no client address; use the tag Connect")
	case k == kindMailbox && t == tagConnect:
		return errors.New("a client is no mail address; use the tag From or To")
	}
	return nil
}

// parseItem brings what stands behind the tag into the form of a key.
func parseItem(s string) (string, kind, error) {
	lower := strings.ToLower(s)
	switch {
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
	case strings.HasPrefix(s, "."), strings.HasPrefix(s, "*."):
		return "", 0, fmt.Errorf("a domain includes those below it; write %s", strings.TrimLeft(s, "*."))
	}
	key, err := canonicalDomain(s)
	if err != nil {
		err = fmt.Errorf("can never match: %w", err)
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
	domain, err := canonicalDomain(domain)
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
// groups out, as appendAddr does.
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
