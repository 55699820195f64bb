package forward

import (
	"errors"
	"fmt"
	"strings"
)

func mailertableEntry(l line) (Entry, error) {
	e := Entry{}
	var err error
	if e.Key, err = mailertableKey(l.key); err != nil {
		return Entry{}, err
	}
	e.To, err = mailertableTo(l.value)
	if err == nil {
		err = checkTargets(e)
	}
	return e, err
}

func mailertableKey(key string) (string, error) {
	if strings.ContainsAny(key, "@*") {
		return "", fmt.Errorf(`%q: want a host, ".domain" or "."; addresses go into a section [route."user@example.com"]`, key)
	}
	return parseKey(key)
}

// mailertableTo translates a value into elements of Route.To.
func mailertableTo(value string) ([]string, error) {
	if value == "" {
		return nil, errors.New("has no value; write one like smtp:[mail.example.com]")
	}
	mailer, rest, ok := strings.Cut(value, ":")
	if !ok || strings.HasPrefix(value, "[") {
		mailer, rest = "relay", value // a bare host
	}
	switch m := strings.ToLower(mailer); m {
	case "smtp", "esmtp", "smtp8", "dsmtp", "relay":
		return sendmailHosts(rest)
	case "error":
		if err := ended(rest); err != nil {
			return nil, err
		}
		return []string{"error:" + rest}, nil
	case "local", "prog", "procmail", "cyrus", "cyrusv2":
		return nil, fmt.Errorf("%q: mail is not delivered on this host; name the host that does, smtp:[host], or lmtp+unix: in a section [route]", value)
	default:
		return nil, fmt.Errorf("%q: unknown mailer %q; want smtp, esmtp, relay or error", value, mailer)
	}
}

// ended refuses an error that says nothing at all.
func ended(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("error: without a text; write one like error:5.1.1:550 no such user")
	}
	return nil
}

// sendmailHosts reads a list of hosts between colons.
func sendmailHosts(s string) ([]string, error) {
	if strings.Contains(s, "@") {
		return nil, fmt.Errorf("%q: rewriting recipients (user@host) is not done here; do it on the host that delivers", s)
	}
	var to []string
	for s != "" {
		host, rest, err := nextHost(s)
		if err != nil {
			return nil, err
		}
		var port string
		if next, more, _ := strings.Cut(rest, ":"); digits(next) {
			port, rest = next, more
		}
		to = append(to, hostTarget("smtp", host, port))
		s = rest
	}
	if len(to) == 0 {
		return nil, errors.New("names no host; write one like smtp:[mail.example.com]")
	}
	return to, nil
}

// nextHost takes the first host off a list.
func nextHost(s string) (host, rest string, err error) {
	if !strings.HasPrefix(s, "[") {
		host, rest, _ = strings.Cut(s, ":")
		if host == "" {
			return "", "", errors.New("an empty host in the list")
		}
		return host, rest, nil
	}
	end := strings.IndexByte(s, ']')
	if end < 0 {
		return "", "", fmt.Errorf("%q: the bracket is not closed", s)
	}
	host, rest = s[:end+1], s[end+1:]
	if rest != "" && rest[0] != ':' {
		return "", "", fmt.Errorf("%q: want a colon behind the bracket", s)
	}
	return host, strings.TrimPrefix(rest, ":"), nil
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// hostTarget writes a host as an element of Route.To: in brackets it is that
// host, without them its MX hosts are meant. LMTP has no MX.
func hostTarget(scheme, host, port string) string {
	if port != "" {
		port = ":" + port
	}
	if scheme == "smtp" && !strings.HasPrefix(host, "[") && !isAddress(host) {
		return "mx:" + host + port
	}
	return scheme + "://" + host + port
}

// checkTargets finds what is wrong with a line, so that its number is known.
func checkTargets(e Entry) error {
	_, err := Config{}.route(e.Key, e.Route)
	return err
}
