package queue

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// report is a delivery status notification (RFC 3464) about one message.
type report struct {
	id       string
	hostname string
	now      time.Time
	msg      *spool.Message
	notice                // of recipients of msg
	until    time.Time    // of a warning: how long it is tried
	content  mail.Content // nil when it can't be read
	fullSize int64

	back returned    // of writeTo
	head mail.Header // of the message
}

const dateFormat = "Mon, 2 Jan 2006 15:04:05 -0700"

// longestHeader is how much of the header of a message is returned.
const longestHeader = 64 << 10

func (r *report) boundary() string { return "=_" + r.id }

// envelope is the one of the notification, after writeTo: from nobody, so that
// nothing can ever come back to it (RFC 5321 4.5.5).
func (r *report) envelope() mail.Envelope { return r.envelopeTo(r.msg.Envelope.Sender.Address) }

func (r *report) envelopeTo(a mail.Address) mail.Envelope {
	to := mail.Path{Address: a}
	var from mail.Path
	if !to.IsASCII() {
		from.Args = append(from.Args, "SMTPUTF8")
	}
	if r.back.eightBit {
		from.Args = append(from.Args, "BODY=8BITMIME")
	}
	return mail.Envelope{Sender: from, Recipients: []mail.Path{to}}
}

// writeTo writes the body. The header that goes with it is known then.
func (r *report) writeTo(w io.Writer) error {
	r.back, r.head = r.returned(), r.original()
	b := bufio.NewWriter(w)
	fmt.Fprint(b, "This is a report in MIME format.\r\n")
	r.writeText(b)
	r.writeStatus(b)
	if err := r.writeReturned(b); err != nil {
		return err
	}
	fmt.Fprintf(b, "\r\n--%s--\r\n", r.boundary())
	return b.Flush()
}

func (r *report) header() mail.Header {
	return r.headerTo(r.id, r.msg.Envelope.Sender.Address, r.subject())
}

// copyHeader is the one of the copy for the postmaster.
func (r *report) copyHeader(id string, to mail.Address) mail.Header {
	return r.headerTo(id, to, "Postmaster copy: "+r.subject())
}

func (r *report) headerTo(id string, to mail.Address, subject string) mail.Header {
	encoding := "7bit"
	if r.back.eightBit {
		encoding = "8bit"
	}
	h := mail.Header{
		mail.NewField("From", "Mail Delivery System <MAILER-DAEMON@"+r.hostname+">"),
		mail.NewField("To", to.Path()),
		mail.NewField("Subject", subject),
		mail.NewField("Date", r.now.Format(dateFormat)),
		mail.NewField("Message-ID", "<"+id+"@"+r.hostname+">"),
	}
	if id := r.head.Get("Message-ID"); isMessageID(id) {
		h = append(h, mail.NewField("References", id))
	}
	return append(h,
		mail.NewField("Auto-Submitted", "auto-replied"), // RFC 3834 5
		mail.NewField("MIME-Version", "1.0"),
		mail.NewField("Content-Type", `multipart/report; report-type=delivery-status; boundary="`+r.boundary()+`"`),
		mail.NewField("Content-Transfer-Encoding", encoding),
	)
}

func (r *report) subject() string {
	list, end := r.failed, "could not be delivered"
	switch r.kind() {
	case kindSuccess:
		list, end = r.relayed, "was passed on"
	case kindDelay:
		list, end = r.delayed, "is late"
	}
	to := fmt.Sprintf("%d recipients", len(list))
	if len(list) == 1 {
		to = "one recipient"
		if a := r.msg.Envelope.Recipients[list[0]]; a.IsASCII() {
			to = a.String()
		}
	}
	return "Your mail to " + to + " " + end
}

func isMessageID(s string) bool {
	return len(s) > 2 && len(s) <= 250 && s[0] == '<' && s[len(s)-1] == '>' && is7Bit(s) && !strings.ContainsAny(s, " \t")
}

func (r *report) part(b *bufio.Writer, contentType, encoding, description string) {
	fmt.Fprintf(b, "\r\n--%s\r\n", r.boundary())
	fmt.Fprintf(b, "Content-Type: %s\r\nContent-Transfer-Encoding: %s\r\nContent-Description: %s\r\n\r\n", contentType, encoding, description)
}

// writeText writes the part for people.
func (r *report) writeText(b *bufio.Writer) {
	text := r.text()
	if is7Bit(text) {
		r.part(b, "text/plain; charset=us-ascii", "7bit", "Notification")
		_, _ = b.WriteString(text)
		return
	}
	r.part(b, "text/plain; charset=utf-8", "quoted-printable", "Notification")
	qp := quotedprintable.NewWriter(b)
	_, _ = io.WriteString(qp, text)
	_ = qp.Close() // errors stay in b until its Flush
}

// returned is what of the original message goes back.
type returned struct {
	full     bool
	eightBit bool // a whole message that is not 7-bit
}

// returned follows RET (RFC 3461 4.3), but never above the limit: the size of
// what we send to an address that may be forged is ours to bound. It is about
// failures: with other news goes the header.
func (r *report) returned() returned {
	if r.content == nil || len(r.failed) == 0 || r.content.Size() > r.fullSize {
		return returned{}
	}
	if ret, _ := r.msg.Envelope.Sender.Arg("RET"); strings.EqualFold(ret, "HDRS") {
		return returned{}
	}
	if _, ok := r.msg.Envelope.Sender.Arg("REQUIRETLS"); ok {
		return returned{} // RFC 8689 5: nobody knows how safe the way back is
	}
	var high highBit
	if _, err := r.content.WriteTo(&high); err != nil {
		return returned{}
	}
	return returned{full: true, eightBit: bool(high)}
}

// writeReturned writes the original message or its header. What carries UTF-8
// in its header is message/global (RFC 6533).
func (r *report) writeReturned(b *bufio.Writer) error {
	global := r.msg.Envelope.UTF8()
	switch {
	case r.content == nil:
		return nil
	case r.back.full:
		kind, encoding := "message/rfc822", "7bit"
		if global {
			kind = "message/global"
		}
		if r.back.eightBit {
			encoding = "8bit"
		}
		r.part(b, kind, encoding, "Undelivered message")
		_, err := r.content.WriteTo(b)
		return err
	}
	header := r.head.Bytes()
	kind := "text/rfc822-headers"
	if global {
		kind = "message/global-headers"
	}
	if is7Bit(string(header)) {
		r.part(b, kind, "7bit", "Header of the undelivered message")
		_, err := b.Write(header)
		return err
	}
	r.part(b, kind, "quoted-printable", "Header of the undelivered message")
	qp := quotedprintable.NewWriter(b)
	if _, err := qp.Write(header); err != nil {
		return err
	}
	return qp.Close()
}

// original is the header of the message, cut behind the last field that is
// within longestHeader.
func (r *report) original() mail.Header {
	if r.content == nil {
		return nil
	}
	b := make([]byte, min(r.content.Size(), longestHeader))
	n, err := r.content.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil
	}
	b = b[:n]
	if end := bytes.Index(b, []byte("\r\n\r\n")); end >= 0 {
		b = b[:end+4]
	} else if end := bytes.LastIndex(b, []byte("\r\n")); end >= 0 {
		b = b[:end+2]
	}
	h, _, err := mail.SplitHeader(b)
	if err != nil {
		return nil
	}
	return h
}

func is7Bit(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 || s[i] == 0 {
			return false
		}
	}
	return true
}

// highBit notes whether what is written has bytes beyond ASCII.
type highBit bool

func (h *highBit) Write(p []byte) (int, error) {
	for _, c := range p {
		if c >= 0x80 {
			*h = true
		}
	}
	return len(p), nil
}
