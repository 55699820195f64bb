package proxy

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// xclientNames are what we take of XCLIENT, as EHLO says it.
const xclientNames = "NAME ADDR PORT PROTO HELO LOGIN"

// Values for what the peer does not know (Postfix, XCLIENT_README).
const (
	unavailable = "[UNAVAILABLE]"
	tempUnavail = "[TEMPUNAVAIL]"
)

// described is a client as a peer describes it. What has is false for is not said.
type described struct {
	has     map[string]bool
	name    string
	resolve mail.Resolve
	addr    netip.Addr // not valid: unavailable
	port    uint16
	esmtp   bool
	helo    string
	login   string
}

// xclient makes the session that of another client, on the word of a peer that
// may say so, and begins it again (Postfix, XCLIENT_README).
func (s *session) xclient(ctx context.Context, arg string) {
	switch {
	case !s.vouches:
		s.log.Info("XCLIENT refused", "client", s.client, "cause", "not in xclient of this listener")
		s.refuse(mail.Reply{Code: 550, Detail: "7.0", Text: "insufficient authorization"})
		return
	case s.tx != nil:
		s.refuse(badSequence("a message is on its way"))
		return
	}
	d, ok := parseXclient(arg)
	if !ok {
		s.refuse(badSyntax("bad XCLIENT"))
		return
	}
	s.idles++ // as any command that leads nowhere
	if s.idles > s.set.Limits.MaxJunk {
		s.idle(okReply())
		return
	}
	if !s.speaker.IsValid() {
		s.speaker = s.facts.Client.Addr()
	}
	s.closeHandler()
	s.handler = nil
	s.describe(d)
	if !s.becomes(d.over(s.facts.Client), s.speaker) {
		return
	}
	if d.has["NAME"] {
		s.facts.Name, s.facts.PTR, s.facts.Resolve = d.name, d.name, d.resolve
	}
	s.lookUp(ctx, d.has["NAME"])
	if s.welcome(ctx) && d.helo != "" {
		_ = s.takeHelo(ctx, d.helo, d.esmtp) // refused: the client has to say another one
	}
}

// over is the address that a client has after it was described.
func (d described) over(old netip.AddrPort) netip.AddrPort {
	addr, port := old.Addr(), old.Port()
	if d.has["ADDR"] {
		addr, port = d.addr, 0
	}
	if d.has["PORT"] {
		port = d.port
	}
	return netip.AddrPortFrom(addr, port)
}

// describe begins a new session with what does not depend on the address.
func (s *session) describe(d described) {
	now := time.Now()
	facts := *s.facts
	facts.ID, facts.Start = mail.NewID(now), now
	facts.Helo, facts.ESMTP = "", false
	facts.User, facts.AuthMech, s.source = "", "", nil
	if d.login != "" {
		facts.User, facts.AuthMech = d.login, "XCLIENT"
	}
	if facts.TLS != nil {
		tls := *facts.TLS // the certificate is the peer's
		tls.Subject, tls.Verified, tls.Relay = "", false, false
		facts.TLS = &tls
	}
	s.facts = &facts
	s.base = mail.Transaction{Session: s.facts, Start: now}
	s.atHelo, s.sticky, s.helo = 0, sticky{}, sticky{}
}

// parseXclient reads the argument of XCLIENT: attributes of the client, each at
// most once, with values in xtext.
func parseXclient(arg string) (described, bool) {
	d := described{has: make(map[string]bool)}
	for word := range strings.FieldsSeq(arg) {
		key, raw, ok := strings.Cut(word, "=")
		key = strings.ToUpper(key)
		value, decoded := decodeXtext(raw)
		if !ok || !decoded || d.has[key] || len(value) > maxXclient || !isPrintable(value) || !d.set(key, value) {
			return described{}, false
		}
		d.has[key] = true
	}
	return d, len(d.has) > 0
}

// maxXclient is as long as a name may be.
const maxXclient = 255

// set takes one attribute, and reports whether it can be what it is said to be.
func (d *described) set(key, value string) bool {
	known := !strings.EqualFold(value, unavailable) && !strings.EqualFold(value, tempUnavail)
	switch key {
	case "NAME":
		return d.setName(value, known)
	case "ADDR":
		return !known || d.setAddr(value)
	case "PORT":
		n, err := parsePort(value)
		d.port = n
		return !known || err == nil
	case "PROTO":
		d.esmtp = strings.EqualFold(value, "ESMTP")
		return d.esmtp || strings.EqualFold(value, "SMTP")
	case "HELO":
		if known && isHeloName(value) { // the peer may be less strict than we are
			d.helo = value
		}
		return true
	case "LOGIN":
		if known {
			d.login = value
		}
		return value != ""
	}
	return false
}

func (d *described) setName(value string, known bool) bool {
	switch {
	case strings.EqualFold(value, tempUnavail):
		d.resolve = mail.ResolveTemp
		return true
	case !known:
		d.resolve = mail.ResolveFail
		return true
	}
	name, err := mail.ParseDomain(value)
	if err != nil || strings.HasPrefix(name, "[") {
		return false
	}
	d.name, d.resolve = name, mail.ResolveOK
	return true
}

// setAddr reads 192.0.2.1 or IPv6:2001:db8::1.
func (d *described) setAddr(value string) bool {
	const v6 = "IPV6:"
	rest, isV6 := value, false
	if len(value) > len(v6) && strings.EqualFold(value[:len(v6)], v6) {
		rest, isV6 = value[len(v6):], true
	}
	addr, err := netip.ParseAddr(rest)
	if err != nil || addr.Is4() == isV6 || !isHost(addr.Unmap()) {
		return false
	}
	d.addr = addr.Unmap()
	return true
}
