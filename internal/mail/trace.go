package mail

import (
	"strings"
	"time"
)

// MaxPasses is how often a message may come through one host before that is a
// loop.
const MaxPasses = 5

// Passes counts the Received fields that a host has added: "by HOST" (RFC 5321
// 4.4).
func (h Header) Passes(host string) int {
	n := 0
	for _, f := range h {
		if f.Is("Received") && receivedBy(f.Value(), host) {
			n++
		}
	}
	return n
}

func receivedBy(value, host string) bool {
	words := strings.Fields(value)
	for i, w := range words {
		if i > 0 && strings.EqualFold(words[i-1], "by") && strings.EqualFold(strings.TrimRight(w, ";."), host) {
			return true
		}
	}
	return false
}

// NewReceived is the field that a host adds to a message that it takes (RFC
// 5321 4.4).
func NewReceived(tx *Transaction, hostname string, now time.Time) Field {
	var b strings.Builder
	s := tx.Session
	name := s.Name
	if name == "" {
		name = "unknown"
	}
	b.WriteString("from " + traceWord(s.Helo) + " (" + traceWord(name) + " " + literal(s) + ")")
	b.WriteString(" by " + hostname + " (Gatepost) with " + tx.Protocol() + " id " + tx.ID)
	if s.TLS != nil {
		b.WriteString(" (using " + traceWord(s.TLS.Version) + " with cipher " + traceWord(s.TLS.Cipher) + ")")
	}
	// RFC 5321 7.2: with several recipients it would tell each of the others.
	if to := tx.Envelope.Recipients; len(to) == 1 {
		b.WriteString(" for " + to[0].ToASCII().Path()) // the header stays ASCII where it can
	}
	b.WriteString("; " + now.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	return NewField("Received", b.String())
}

// literal is the client's address (RFC 5321 4.1.3).
func literal(s *Session) string {
	ip := s.Client.Addr().Unmap()
	if ip.Is6() {
		return "[IPv6:" + ip.WithZone("").String() + "]"
	}
	return "[" + ip.String() + "]"
}

// traceWord keeps what a name is made of. What an MTA tells us of a greeting is
// what the client liked to send: brackets in it must not make up an address.
func traceWord(s string) string {
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.Trim(inner, "0123456789abcdefABCDEFIPv:.") == "]" {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if r > ' ' && r != 0x7f && !strings.ContainsRune(`()<>[];,"\`, r) {
			return r
		}
		return '?'
	}, s)
	if s == "" {
		return "unknown"
	}
	return s
}

// Protocol is the "with" type of a trace field (RFC 3848, RFC 6531 4.3).
func (tx *Transaction) Protocol() string {
	s := tx.Session
	name := "SMTP"
	switch {
	case tx.Envelope.UTF8():
		name = "UTF8SMTP"
	case s.ESMTP:
		name = "ESMTP"
	}
	if s.TLS != nil {
		name += "S"
	}
	if s.User != "" {
		name += "A"
	}
	return name
}
