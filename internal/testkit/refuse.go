package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Address is host:port.
func (p *Postfix) Address() string { return p.Addr }

// PassOn makes Postfix pass all mail on to next, instead of keeping it. It comes
// before Start, and so does the first Refuse.
func (p *Postfix) PassOn(next string) {
	p.Config = append(p.Config, "virtual_mailbox_domains =", "relay_domains = example.com",
		"relay_transport = smtp:[127.0.0.1]:"+Port(next), "smtp_tls_security_level = none",
		"smtpd_recipient_restrictions = check_recipient_access texthash:"+p.refused())
}

func (p *Postfix) refused() string { return filepath.Join(p.dir, "refused") }

// Refuse sets what happens to recipients from the next Start on.
func (p *Postfix) Refuse(gone, late []string) error {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(p.refused(), []byte(refusals("%s@example.com", " 550 5.1.1 nobody of that name", " 450 4.2.0 come again", gone, late)), 0o644)
}

// Refuse sets what happens to recipients; it comes after the first Start.
// Config must have FEATURE(`blacklist_recipients')dnl.
func (s *Sendmail) Refuse(gone, late []string) error {
	text := "To:example.com\tRELAY\n" +
		refusals("To:%s@example.com", "\tERROR:5.1.1:550 nobody of that name", "\tERROR:4.2.0:451 come again", gone, late)
	if err := os.WriteFile(s.file("access"), []byte(text), 0o644); err != nil {
		return err
	}
	return s.makemap("access")
}

func refusals(key, goneText, lateText string, gone, late []string) string {
	var b strings.Builder
	for _, local := range gone {
		fmt.Fprintf(&b, key+goneText+"\n", local)
	}
	for _, local := range late {
		fmt.Fprintf(&b, key+lateText+"\n", local)
	}
	return b.String()
}
