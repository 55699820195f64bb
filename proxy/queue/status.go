package queue

import (
	"bufio"
	"strings"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// longestDiagnostic is how much of a next hop's words a notification quotes.
const longestDiagnostic = 500

// writeStatus writes the part for programs (RFC 3464 2). It is ASCII whatever
// the addresses are.
func (r *report) writeStatus(b *bufio.Writer) {
	r.part(b, "message/delivery-status", "7bit", "Delivery report")
	field := func(name, value string) { _, _ = b.Write(mail.NewField(name, ascii(value)).Raw()) }
	field("Reporting-MTA", "dns; "+r.hostname)
	if id, ok := envelopeID(r.msg.Envelope.Sender); ok {
		field("Original-Envelope-Id", id)
	}
	field("X-Gatepost-ID", r.msg.ID)
	field("Arrival-Date", r.msg.Received.Format(dateFormat))
	for _, i := range r.failed {
		r.writeRecipient(b, i, "failed")
	}
	for _, i := range r.relayed {
		r.writeRecipient(b, i, "relayed")
	}
	for _, i := range r.delayed {
		r.writeRecipient(b, i, "delayed")
	}
}

// writeRecipient writes the fields of one recipient (RFC 3464 2.3).
func (r *report) writeRecipient(b *bufio.Writer, i int, action string) {
	rcpt, how := r.msg.Envelope.Recipients[i], r.msg.Recipients[i]
	field := func(name, value string) { _, _ = b.Write(mail.NewField(name, ascii(value)).Raw()) }
	_, _ = b.WriteString("\r\n")
	if original, ok := originalRecipient(rcpt); ok {
		field("Original-Recipient", original)
	}
	field("Final-Recipient", typedAddress(rcpt.Address))
	field("Action", action)
	field("Status", statusCode(how))
	if name := remoteName(how.Remote); name != "" {
		field("Remote-MTA", "dns; "+name)
	}
	if !how.Reply.IsZero() {
		// What we say ourselves must not look like a next hop's SMTP reply.
		kind := "smtp; "
		if how.Remote == "" || how.Status == mail.Failed && how.Reply.Code < 500 {
			kind = "x-gatepost; "
		}
		field("Diagnostic-Code", kind+truncate(how.Reply.String(), longestDiagnostic))
	}
	if !how.Last.IsZero() {
		field("Last-Attempt-Date", how.Last.Format(dateFormat))
	}
	if !r.until.IsZero() {
		field("Will-Retry-Until", r.until.Format(dateFormat))
	}
}

// statusCode is the enhanced status code of a recipient, by its status where
// the next hop gave none.
func statusCode(r spool.Recipient) string {
	if e := r.Reply.Enhanced(); e != "" {
		return e
	}
	return [...]string{mail.Deferred: "4.0.0", mail.Delivered: "2.0.0", mail.Failed: "5.0.0"}[r.Status]
}

// typedAddress is an address with its type: rfc822, or utf-8 (RFC 6533 3).
func typedAddress(a mail.Address) string {
	if a.IsASCII() {
		return "rfc822; " + a.String()
	}
	return "utf-8; " + utf8Xtext(a.String())
}

// originalRecipient is ORCPT as the field wants it (RFC 3464 2.3.1): the
// address without its xtext. A malformed one is left out.
func originalRecipient(rcpt mail.Path) (string, bool) {
	value, ok := rcpt.Arg("ORCPT")
	if !ok {
		return "", false
	}
	kind, address, ok := strings.Cut(value, ";")
	if !ok || kind == "" || address == "" {
		return "", false
	}
	if strings.EqualFold(kind, "utf-8") {
		// RFC 6533 3: not xtext, but ASCII with escapes of its own or UTF-8.
		if !is7Bit(address) {
			address = utf8Xtext(address)
		}
		return "utf-8; " + address, true
	}
	address, ok = decodeXtext(address)
	return strings.ToLower(kind) + "; " + address, ok
}

// envelopeID is ENVID without its xtext.
func envelopeID(sender mail.Path) (string, bool) {
	value, ok := sender.Arg("ENVID")
	if !ok || value == "" {
		return "", false
	}
	return decodeXtext(value)
}

const longestName = 255

// remoteName cuts "name[address]:port" down to the name, or to the address
// literal where there is no name.
func remoteName(remote string) string {
	name, rest, found := strings.Cut(truncate(remote, longestName), "[")
	if name != "" && name != "unknown" || !found {
		return name
	}
	address, _, _ := strings.Cut(rest, "]")
	if strings.Contains(address, ":") {
		address = "IPv6:" + address
	}
	return "[" + address + "]"
}

// ascii replaces what is beyond it.
func ascii(s string) string {
	if is7Bit(s) {
		return s
	}
	return strings.Map(func(c rune) rune {
		if c >= 0x80 {
			return '?'
		}
		return c
	}, s)
}
