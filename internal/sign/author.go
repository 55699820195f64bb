package sign

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"

	ours "gatepost/internal/mail"
)

// errUnsigned is wrapped by the reasons for which a message is not signed.
var errUnsigned = errors.New("not signed")

// author returns the domain of the one author of a message. Where mail programs
// might show another one than we read, there is none: our name would stand
// under it.
func author(h ours.Header) (domain string, err error) {
	if n := h.Count("From"); n != 1 {
		return "", fmt.Errorf("%w: %d fields From", errUnsigned, n)
	}
	list, err := mail.ParseAddressList(h.Get("From"))
	if err != nil {
		return "", fmt.Errorf("%w: From can't be read: %w", errUnsigned, err)
	}
	for _, one := range list {
		a, err := ours.ParseAddress(one.Address, true)
		if err != nil || a.IsNull() || a.IsLiteral() {
			return "", fmt.Errorf("%w: an address in From can't be read", errUnsigned)
		}
		if d := a.ASCIIDomain(); domain != "" && d != domain {
			return "", fmt.Errorf("%w: authors in several domains", errUnsigned)
		} else {
			domain = d
		}
	}
	return domain, nil
}

// sendable reports whether the fields that are signed are read by everybody as
// they stand: a bare CR or LF in one is the end of a line for some, and NUL the
// end of all for others, so the signature might stand for something else.
func sendable(fields []ours.Field) error {
	for _, f := range fields {
		rest := strings.ReplaceAll(string(f.Raw()), "\r\n", "")
		if strings.ContainsAny(rest, "\r\n\x00") {
			return fmt.Errorf("%w: bare CR, LF or NUL in %s", errUnsigned, f.Name())
		}
	}
	return nil
}

// isOurs reports whether who sent a message may speak for us: he proved who he
// is, or sends from where we trust everybody. Nothing in the message counts.
func (s *Signer) isOurs(session *ours.Session) bool {
	if session == nil {
		return false
	}
	client := session.Client.Addr().Unmap()
	for _, n := range s.cfg.DKIM.Except {
		if n.Contains(client) && session.User == "" {
			return false
		}
	}
	return session.User != "" || session.Trusted || session.Window || session.TLS != nil && session.TLS.Relay
}
