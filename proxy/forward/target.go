package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// endpoint is where a host is.
type endpoint struct {
	lmtp        bool
	implicitTLS bool   // from the first byte on (RFC 8314 3)
	network     string // "tcp" or "unix"
	name        string // host or path as configured, without brackets
	port        string // "" for a unix socket
}

func (e endpoint) address() string {
	if e.network == "unix" {
		return e.name
	}
	return net.JoinHostPort(e.name, e.port)
}

// target is one element of a route's To.
type target struct {
	endpoint
	// mx: the hosts are those that the MX records of the endpoint's name tell,
	// or of the recipient's own domain where that is "".
	mx bool
	// refuse: mail is not delivered at all, but answered so.
	refuse mail.Reply
}

// prefixMark stands in a mailertable for what a recipient's domain has in front
// of a key ".example.com".
const prefixMark = "%1"

// dynamic reports whether where it leads depends on the recipient's domain.
func (t target) dynamic() bool { return t.mx && t.name == "" || strings.Contains(t.name, prefixMark) }

// parseTarget reads smtp://host:port, lmtp://host:port, lmtp+unix:///path, mx,
// mx:domain, mx:domain:port, error:5.1.1:550 text.
func parseTarget(s string) (target, error) {
	scheme, rest, _ := strings.Cut(s, ":")
	switch strings.ToLower(scheme) {
	case "mx":
		return mxTarget(rest)
	case "error":
		r, err := parseError(rest)
		return target{refuse: r}, err
	}
	e, err := parseEndpoint(s)
	return target{endpoint: e}, err
}

const wantTarget = `want smtp://host:port, "mx" or "mx:domain"`

func mxTarget(s string) (target, error) {
	name, port, ok := strings.Cut(s, ":")
	if !ok {
		port = "" // mx_port
	}
	t := target{mx: true, endpoint: endpoint{network: "tcp", port: port}}
	if name == "" && !ok {
		return t, nil
	}
	var err error
	if t.name, err = parseHost(name); err != nil {
		return target{}, err
	}
	if _, err := netip.ParseAddr(t.name); err == nil {
		return target{}, errors.New("an address has no MX records")
	}
	if ok {
		err = checkPort(port)
	}
	return t, err
}

// parseEndpoint reads smtp://host:port, lmtp://host:port, lmtp+unix:///path.
func parseEndpoint(s string) (endpoint, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return endpoint{}, errors.New(wantTarget)
	}
	switch scheme {
	case "smtp":
		return tcpEndpoint(rest, endpoint{network: "tcp", port: "25"})
	case "smtps":
		return tcpEndpoint(rest, endpoint{network: "tcp", port: "465", implicitTLS: true})
	case "lmtp":
		return tcpEndpoint(rest, endpoint{network: "tcp", port: "24", lmtp: true})
	case "lmtp+unix":
		u, err := url.Parse(s)
		if err != nil || u.Host != "" || u.RawQuery != "" || u.Fragment != "" || !path.IsAbs(u.Path) || strings.HasSuffix(u.Path, "/") {
			return endpoint{}, errors.New("want lmtp+unix:///path/of/the/socket")
		}
		return endpoint{network: "unix", name: u.Path, lmtp: true}, nil
	}
	return endpoint{}, fmt.Errorf("scheme %q: want smtp, smtps, lmtp or lmtp+unix", scheme)
}

// tcpEndpoint reads host, host:port, [host] or [host]:port.
func tcpEndpoint(s string, e endpoint) (endpoint, error) {
	s = strings.TrimSuffix(s, "/")
	if strings.ContainsAny(s, "/@?#") {
		return endpoint{}, errors.New("only a host and a port can be given")
	}
	host, port, err := cutPort(s)
	if err != nil {
		return endpoint{}, err
	}
	if e.name, err = parseHost(host); err != nil {
		return endpoint{}, err
	}
	if port != "" {
		e.port = port
	}
	return e, checkPort(e.port)
}

// cutPort takes the port off "host:port" and the brackets off "[host]:port".
func cutPort(s string) (host, port string, err error) {
	if !strings.HasPrefix(s, "[") {
		host, port, _ = strings.Cut(s, ":")
		return host, port, nil
	}
	host, port, ok := strings.Cut(s[1:], "]")
	if !ok || port != "" && port[0] != ':' {
		return "", "", fmt.Errorf("%q: want [host] or [host]:port", s)
	}
	return host, strings.TrimPrefix(port, ":"), nil
}

// parseHost returns the canonical form of a name or an address without
// brackets. A name may hold prefixMark once, in front.
func parseHost(s string) (string, error) {
	const v6 = "IPv6:"
	if len(s) > len(v6) && strings.EqualFold(s[:len(v6)], v6) {
		s = s[len(v6):]
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.Unmap().String(), nil
	}
	rest, marked := strings.CutPrefix(s, prefixMark+".")
	name, err := mail.ParseDomain(rest)
	if err != nil {
		return "", fmt.Errorf("host: %w", err)
	}
	if name = mail.ASCIIDomain(name); marked {
		name = prefixMark + "." + name
	}
	return name, nil
}

func checkPort(port string) error {
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("port %q: want 1 to 65535", port)
	}
	return nil
}

// parseError reads what stands behind "error:" in sendmail's mailertable:
// "D.S.N:text", "keyword:text" or "text". A text that begins with a code has
// its own, with an enhanced one behind it where there is one; otherwise the
// code is 553.
func parseError(s string) (mail.Reply, error) {
	detail, class := "3.0", byte('5')
	if head, rest, ok := strings.Cut(s, ":"); ok || strings.IndexByte(head, ' ') < 0 {
		switch c, d, known := errorStatus(head); {
		case known:
			class, detail, s = c, d, rest
		case ok && strings.IndexByte(head, ' ') < 0:
			return mail.Reply{}, fmt.Errorf("error: %q: want an enhanced code like 5.1.1, or nohost, nouser, unavailable or tempfail", head)
		}
	}
	s = strings.TrimSpace(strings.ReplaceAll(s, `"`, ""))
	if r, ok := mail.ParseReply(s); ok && r.Code >= 400 {
		if r.Detail == "" {
			r.Detail = detail
		}
		if r.Text == "" {
			r.Text = defaultRefusal
		}
		return r, nil
	}
	r := mail.Reply{Code: 553, Detail: detail, Text: s}
	if class == '4' {
		r.Code = 451
	}
	if s == "" {
		r.Text = defaultRefusal
	}
	return r, nil
}

const defaultRefusal = "mail for this recipient is not accepted here"

// errorStatus reads an enhanced code or one of sendmail's words.
func errorStatus(s string) (class byte, detail string, ok bool) {
	switch strings.ToLower(s) {
	case "nohost":
		return '5', "1.2", true
	case "nouser":
		return '5', "1.1", true
	case "unavailable":
		return '5', "0.0", true
	case "tempfail":
		return '4', "3.0", true
	}
	if r, ok := mail.ParseReply("550 " + s); ok && r.Detail != "" && r.Text == "" {
		return '5', r.Detail, true
	}
	if r, ok := mail.ParseReply("450 " + s); ok && r.Detail != "" && r.Text == "" {
		return '4', r.Detail, true
	}
	return 0, "", false
}
