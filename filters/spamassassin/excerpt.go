package spamassassin

import (
	"bytes"
	"io"
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

// excerpt is what is shown of a message to these recipients.
func (f *Filter) excerpt(tx *mail.Transaction, rcpts []mail.Path) excerpt {
	x := excerpt{front: front(tx, rcpts, f.cfg.Hostname), header: headerFor(tx.Message.Header), body: tx.Message}
	x.whole = int64(len(x.header)) + tx.Message.BodySize()
	x.judged = min(x.whole, f.cfg.MaxSize)
	return x
}

func (x excerpt) size() int64 { return int64(len(x.front)) + x.judged }

// reader reads the excerpt from its beginning.
func (x excerpt) reader() io.Reader {
	return io.LimitReader(io.MultiReader(bytes.NewReader(x.front), bytes.NewReader(x.header), x.body.Body()), x.size())
}

const (
	envelopeFrom = "X-Envelope-From"
	envelopeTo   = "X-Envelope-To"
)

// maxShown is how many recipients spamd is told.
const maxShown = 100

// headerFor is the header without the fields by which a stranger could tell
// spamd another envelope.
func headerFor(h mail.Header) []byte {
	var b bytes.Buffer
	for _, f := range h {
		if !f.Is(envelopeFrom) && !f.Is(envelopeTo) {
			b.Write(f.Raw())
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// front tells spamd what the message itself does not say yet: the envelope and,
// for an MTA that asks over the milter protocol, the Received field, which that
// adds only later. SpamAssassin trusts X-Envelope-From only above the first
// Received.
func front(tx *mail.Transaction, rcpts []mail.Path, hostname string) []byte {
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
		for _, r := range rcpts[:min(len(rcpts), maxShown)] {
			b.Write(mail.NewField(envelopeTo, r.Path()).Raw())
		}
	}
	if via == mail.ViaMilter && tx.Session.Client.IsValid() {
		when := tx.Start
		if when.IsZero() {
			when = time.Now()
		}
		// Over a milter it isn't told how the client greeted, but by sendmail in
		// the macro r.
		session, view := *tx.Session, *tx
		session.ESMTP = session.ESMTP || session.Macros["r"] != "SMTP"
		view.Session = &session
		b.Write(mail.NewReceived(&view, hostname, when).Raw())
	}
	return b.Bytes()
}
