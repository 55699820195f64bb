package child

import (
	"cmp"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/milter"
	"gatepost/milter/wire"

	gomilter "github.com/emersion/go-milter"
)

// macros are the values that the milter asked for at a stage, as far as they
// are known. live: the MTA's own values are those of this moment.
func (c *checker) macros(at gomilter.Stage, code gomilter.Code, tx *mail.Transaction, rcpt *mail.Path, live bool) wire.Macros {
	list, ok := c.conn.Agreed().Macros[at]
	if !ok {
		list = milter.UsualMacros(at)
	}
	m := wire.Macros{For: code}
	for _, name := range list {
		bare := strings.Trim(name, "{}")
		v, ok := "", false
		if live || !strings.HasPrefix(bare, "rcpt_") {
			v, ok = tx.Session.Macros[bare]
		}
		if !ok {
			v, ok = c.own(bare, tx, rcpt)
		}
		if !ok {
			continue
		}
		if len(bare) > 1 {
			bare = "{" + bare + "}"
		}
		m.Values = append(m.Values, wire.Macro{Name: bare, Value: v})
	}
	return m
}

// own is the value that we know ourselves, and whether we do.
func (c *checker) own(name string, tx *mail.Transaction, rcpt *mail.Path) (string, bool) {
	v := ""
	switch name {
	case "j":
		v = c.f.cfg.Hostname
	case "v":
		v = strings.TrimSpace("Gatepost " + c.f.cfg.Version)
	case "i":
		v = tx.ID
	case "msg_id":
		if tx.Message != nil {
			v = tx.Message.Header.Get("Message-ID")
		}
	default:
		v = cmp.Or(ofSession(name, tx.Session), ofEnvelope(name, tx, rcpt))
	}
	return v, v != ""
}

func ofSession(name string, s *mail.Session) string {
	switch name {
	case "daemon_name":
		return s.Listener
	case "auth_authen":
		return s.User
	case "auth_type":
		return s.AuthMech
	case "s":
		return s.Helo
	case "r":
		if s.ESMTP {
			return "ESMTP"
		}
		return "SMTP"
	case "b":
		return s.Start.Format("Mon, 2 Jan 2006 15:04:05 -0700")
	}
	if s.Client.IsValid() {
		switch name {
		case "_":
			return cmp.Or(s.Name, "unknown") + " [" + clientAddress(s) + "]"
		case "client_addr":
			return clientAddress(s)
		case "client_port":
			return strconv.Itoa(int(s.Client.Port()))
		case "client_name", "client_ptr":
			return cmp.Or(s.Name, "unknown")
		case "client_resolve":
			if s.Name == "" {
				return "FAIL"
			}
			return "OK"
		}
	}
	if s.TLS != nil {
		switch name {
		case "tls_version":
			return s.TLS.Version
		case "cipher":
			return s.TLS.Cipher
		case "cert_subject":
			return s.TLS.Subject
		case "verify":
			if s.TLS.Verified {
				return "OK"
			}
			return "NO"
		}
	}
	return ""
}

func ofEnvelope(name string, tx *mail.Transaction, rcpt *mail.Path) string {
	switch name {
	case "mail_addr":
		return tx.Envelope.Sender.Address.String()
	case "mail_host":
		return tx.Envelope.Sender.Domain
	case "mail_mailer":
		return "esmtp"
	}
	if rcpt != nil {
		switch name {
		case "rcpt_addr":
			return rcpt.Address.String()
		case "rcpt_host":
			return rcpt.Domain
		case "rcpt_mailer":
			return "esmtp"
		}
	}
	return ""
}

// clientAddress writes an address as sendmail does; libmilter strips the
// prefix.
func clientAddress(s *mail.Session) string {
	ip := s.Client.Addr().Unmap().WithZone("")
	if ip.Is6() {
		return "IPv6:" + ip.String()
	}
	return ip.String()
}

// connection is what the milter is told of the client.
func connection(s *mail.Session) wire.Connect {
	if !s.Client.IsValid() {
		return wire.Connect{Host: cmp.Or(s.Name, "localhost"), Family: wire.FamilyUnknown}
	}
	ip := s.Client.Addr().Unmap().WithZone("")
	c := wire.Connect{Host: s.Name, Family: wire.FamilyIPv4, Port: s.Client.Port(), Address: clientAddress(s)}
	if ip.Is6() {
		c.Family = wire.FamilyIPv6
	}
	if c.Host == "" {
		c.Host = "[" + ip.String() + "]"
	}
	return c
}
