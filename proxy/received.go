package proxy

import (
	"strings"
	"time"

	"gatepost/internal/mail"
)

// received makes our trace field (RFC 5321 4.4). The HELO name was checked,
// NewField cleans and folds the rest.
func received(tx *mail.Transaction, hostname string, now time.Time) mail.Field {
	var b strings.Builder
	s := tx.Session
	name := s.Name
	if name == "" {
		name = "unknown"
	}
	b.WriteString("from " + s.Helo + " (" + name + " " + literal(s) + ")")
	b.WriteString(" by " + hostname + " (Gatepost) with " + protocol(tx) + " id " + tx.ID)
	if s.TLS != nil {
		b.WriteString(" (using " + s.TLS.Version + " with cipher " + s.TLS.Cipher + ")")
	}
	// RFC 5321 7.2: with several recipients it would tell each of the others.
	if to := tx.Envelope.Recipients; len(to) == 1 {
		b.WriteString(" for " + to[0].ToASCII().Path()) // the header stays ASCII where it can
	}
	b.WriteString("; " + now.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	return mail.NewField("Received", b.String())
}

// literal is the client's address (RFC 5321 4.1.3).
func literal(s *mail.Session) string {
	ip := s.Client.Addr()
	if ip.Is6() {
		return "[IPv6:" + ip.WithZone("").String() + "]"
	}
	return "[" + ip.String() + "]"
}

// protocol is the "with" type (RFC 3848, RFC 6531 4.3).
func protocol(tx *mail.Transaction) string {
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
