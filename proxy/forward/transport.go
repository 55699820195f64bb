package forward

import (
	"errors"
	"fmt"
	"strings"

	"gatepost/internal/mail"
)

func transportEntry(l line) (Entry, error) {
	e := Entry{}
	var err error
	if e.Key, err = transportKey(l.key); err != nil {
		return Entry{}, err
	}
	transport, nexthop, ok := strings.Cut(l.value, ":")
	switch {
	case l.value == "":
		return Entry{}, errors.New("has no value; write one like smtp:[mail.example.com]")
	case !ok:
		return Entry{}, fmt.Errorf("%q: want transport:nexthop, like smtp:[mail.example.com]", l.value)
	case transport == "" && strings.TrimSpace(nexthop) == "":
		e.Through = true
		return e, nil
	}
	if e.To, err = transportTo(transport, strings.TrimSpace(nexthop)); err == nil {
		err = checkTargets(e)
	}
	return e, err
}

func transportKey(key string) (string, error) {
	switch {
	case key == "*":
		return ".", nil
	case key == ".":
		return "", errors.New(`".": want "*" for everything else`)
	case strings.ContainsRune(key, '*'):
		return "", fmt.Errorf(`%q: "*" stands alone; what lies below a domain is ".example.com"`, key)
	case strings.HasPrefix(key, "/") || strings.HasSuffix(key, "/"):
		return "", fmt.Errorf("%q: patterns are not read; want a table of type hash", key)
	}
	return parseKey(key)
}

// transportTo translates a result into elements of Route.To.
func transportTo(transport, nexthop string) ([]string, error) {
	switch transport {
	case "smtp", "relay", "":
		if nexthop == "" {
			return []string{"mx"}, nil
		}
		return postfixHosts("smtp", nexthop)
	case "lmtp":
		if path, ok := strings.CutPrefix(nexthop, "unix:"); ok {
			return []string{"lmtp+unix://" + path}, nil
		}
		return postfixHosts("lmtp", strings.TrimPrefix(nexthop, "inet:"))
	case "error":
		return postfixError("5.0.0", "550", nexthop)
	case "retry":
		return postfixError("4.0.0", "450", nexthop)
	case "local", "virtual", "pipe", "maildrop", "cyrus", "dovecot":
		return nil, fmt.Errorf("transport %q: mail is not delivered on this host; name the host that does, smtp:[host] or lmtp:unix:/path", transport)
	case "discard":
		return nil, errors.New("transport \"discard\": mail is not dropped by a route; write error: to refuse it")
	}
	return nil, fmt.Errorf("transport %q is not known here; want smtp, relay, lmtp, error or retry", transport)
}

// postfixHosts reads hosts between commas or white space.
func postfixHosts(scheme, s string) ([]string, error) {
	var to []string
	for _, one := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		host, rest, err := nextHost(one)
		if err != nil {
			return nil, err
		}
		if rest != "" && !digits(rest) {
			return nil, fmt.Errorf("port %q: want 1 to 65535", rest)
		}
		to = append(to, hostTarget(scheme, host, rest))
	}
	if len(to) == 0 {
		return nil, errors.New("names no host; write one like smtp:[mail.example.com]")
	}
	return to, nil
}

// postfixError reads "5.1.1 text". Without an enhanced code it has its usual one.
func postfixError(enhanced, code, s string) ([]string, error) {
	if word, rest := cutSpace(s); word != "" {
		if r, ok := mail.ParseReply(code + " " + word); ok && r.Detail != "" && r.Text == "" {
			enhanced, s = word, rest
		} else if _, _, ok := errorStatus(word); ok && strings.Contains(word, ".") {
			return nil, fmt.Errorf("%q: the code does not fit the transport", word)
		}
	}
	return []string{"error:" + enhanced + ":" + code + " " + s}, nil
}
