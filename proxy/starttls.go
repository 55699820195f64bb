package proxy

import (
	"context"
	"crypto/tls"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// startTLS turns the connection into an encrypted one (RFC 3207).
func (s *session) startTLS(ctx context.Context, arg string) {
	switch {
	case arg != "":
		s.refuse(badSyntax("STARTTLS takes no argument"))
	case s.set.tls == nil:
		s.refuse(mail.Reply{Code: 502, Detail: "5.1", Text: "not implemented"})
	case s.facts.TLS != nil:
		s.refuse(badSequence("TLS is active already"))
	case s.speaker.IsValid():
		// Whose certificate would it be?
		s.refuse(badSequence("STARTTLS comes before XCLIENT"))
	case s.tx != nil && s.tx.in != nil:
		s.refuse(badSequence("the message has begun"))
	case len(s.buffered()) > 0:
		// Sent in clear, by whoever: it must not be run, neither before the
		// handshake nor behind it (CVE-2011-0411).
		s.log.Info("closed", "client", s.client, "cause", "commands behind STARTTLS")
		s.hangUp(mail.Reply{Code: 554, Detail: "5.0", Text: "commands behind STARTTLS"})
	default:
		s.handshake(ctx)
	}
}

func (s *session) handshake(ctx context.Context) {
	s.abort()
	s.reply(mail.Reply{Code: 220, Detail: "0.0", Text: "ready to start TLS"})
	if s.flush() != nil {
		s.closing = true
		return
	}
	if s.secure(ctx) {
		s.forgetHelo()
	}
}

// secure does the handshake, at the beginning of the connection (RFC 8314 3.3)
// or behind STARTTLS.
func (s *session) secure(ctx context.Context) bool {
	conn := tls.Server(s.raw, s.set.tls)
	err := s.raw.SetDeadline(time.Now().Add(s.set.Limits.TLSTimeout))
	if err == nil {
		err = conn.HandshakeContext(ctx)
	}
	if err != nil {
		// No reply and nothing more read: the client may think that it speaks TLS.
		s.log.Info("closed", "client", s.client, "cause", "TLS handshake", "error", err)
		s.closing = true
		return false
	}
	s.upgrade(conn)
	s.facts.TLS = s.set.tlsFacts(conn.ConnectionState())
	return true
}

func (set *settings) tlsFacts(c tls.ConnectionState) *mail.TLS {
	facts := &mail.TLS{
		Version: strings.ReplaceAll(tls.VersionName(c.Version), " ", "v"),
		Cipher:  tls.CipherSuiteName(c.CipherSuite),
	}
	set.certs.judge(facts, c.PeerCertificates)
	return facts
}
