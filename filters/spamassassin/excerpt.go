package spamassassin

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// excerpt is what spamd gets to see of a message.
type excerpt struct {
	front         []byte // fields of ours
	header        []byte // of the message, with the empty line
	body          *mail.Message
	judged, whole int64 // bytes of the message
}

func (f *Filter) excerpt(tx *mail.Transaction) excerpt {
	x := excerpt{front: front(tx, f.cfg.Hostname), header: headerFor(tx.Message.Header), body: tx.Message}
	x.whole = int64(len(x.header)) + tx.Message.BodySize()
	x.judged = min(x.whole, f.cfg.MaxSize)
	return x
}

func (x excerpt) size() int64 { return int64(len(x.front)) + x.judged }

// reader reads the excerpt from its beginning.
func (x excerpt) reader() io.Reader {
	return io.LimitReader(io.MultiReader(bytes.NewReader(x.front), bytes.NewReader(x.header), x.body.Body()), x.size())
}

const envelopeFrom = "X-Envelope-From"

// headerFor is the header without the fields by which a stranger could tell
// spamd another sender.
func headerFor(h mail.Header) []byte {
	var b bytes.Buffer
	for _, f := range h {
		if !f.Is(envelopeFrom) {
			b.Write(f.Raw())
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// front tells spamd what the message itself does not say yet. SpamAssassin
// trusts X-Envelope-From only above the first Received.
func front(tx *mail.Transaction, hostname string) []byte {
	var b bytes.Buffer
	sender := tx.Envelope.Sender.Address
	via := mail.ViaScan
	if tx.Session != nil {
		via = tx.Session.Via
	}
	// A file on the command line may come without an envelope; then the null
	// sender is nobody's word.
	if via != mail.ViaScan || !sender.IsNull() {
		b.Write(mail.NewField(envelopeFrom, sender.Path()).Raw())
	}
	if via == mail.ViaMilter && tx.Session.Client.IsValid() {
		b.Write(mail.NewField("Received", received(tx, hostname)).Raw())
	}
	return b.Bytes()
}

// received is the value of the field that the MTA is going to add, in Postfix's
// form.
func received(tx *mail.Transaction, hostname string) string {
	s := tx.Session
	client := s.Name
	if client == "" {
		client = "unknown"
	}
	ip := s.Client.Addr().Unmap()
	literal := ip.String()
	if ip.Is6() {
		literal = "IPv6:" + ip.WithZone("").String()
	}
	with := "SMTP"
	if s.ESMTP || s.TLS != nil || s.User != "" {
		with = "ESMTP"
	}
	if s.TLS != nil {
		with += "S"
	}
	if s.User != "" {
		with += "A"
	}
	start := tx.Start
	if start.IsZero() {
		start = time.Now()
	}
	return fmt.Sprintf("from %s (%s [%s]) by %s (Gatepost) with %s id %s (envelope-from %s); %s",
		word(s.Helo), word(client), literal, word(hostname), with, word(tx.ID), tx.Envelope.Sender.Address.Path(), start.Format(time.RFC1123Z))
}

// word keeps what a host name or ID is made of. Over a milter the greeting is
// what the client liked to send: brackets in it must not make up an address.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f && !strings.ContainsRune(`()<>[];,"\`, r) {
			return r
		}
		return '?'
	}, s)
	if s == "" {
		return "unknown"
	}
	return s
}
