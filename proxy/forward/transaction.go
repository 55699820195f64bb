package forward

import (
	"fmt"
	"strings"

	"gatepost/internal/mail"
)

// transaction is one message to at most maxRecipients recipients, on its way to
// one host after the other until each recipient has its answer.
type transaction struct {
	facts      mail.Facts
	sender     mail.Path
	recipients []mail.Path
	utf8       bool // SMTPUTF8 was asked for, or an address is not ASCII
	requireTLS bool // must not go without protection all the way (RFC 8689)
	content    mail.Content
	buf        []byte // empty, bufferSize large
	asks       bool   // it ends behind RCPT, whose replies are all there is to know

	out     []mail.Outcome // one for each recipient
	settled []bool

	// Of the connection that is tried:
	link     *link
	answered []int // recipients that are settled since
	mailed   bool  // MAIL was accepted
	accepted []int // recipients that were
	goAhead  bool  // DATA was

	begun bool // something was accepted: a second try is another attempt
	sent  bool // the final dot may have arrived: who has the message is open

	unsent mail.Reply // the refusal of MAIL, where it asks
}

func newTransaction(env mail.Envelope, content mail.Content, out []mail.Outcome, buf []byte) *transaction {
	t := &transaction{
		sender:     env.Sender,
		recipients: env.Recipients,
		utf8:       env.UTF8() || !env.Sender.IsASCII(),
		requireTLS: requiresTLS(env),
		content:    content,
		buf:        buf,
		out:        out,
		settled:    make([]bool, len(out)),
		accepted:   make([]int, 0, len(out)),
	}
	for _, r := range env.Recipients {
		t.utf8 = t.utf8 || !r.IsASCII()
	}
	return t
}

// checkAddresses fails what would not be read back as it was meant: an Address
// that no parser has made, for one whose local part ends the path and begins
// another.
func (t *transaction) checkAddresses() {
	if !printable(t.sender.Address) {
		t.settleAll(mail.Reply{Code: 550, Detail: "1.7", Text: "the sender's address can't be sent"})
	}
	for i, r := range t.recipients {
		if !t.settled[i] && (r.IsNull() || !printable(r.Address)) {
			t.settle(i, mail.Reply{Code: 550, Detail: "1.3", Text: "the recipient's address can't be sent"})
		}
	}
}

func printable(a mail.Address) bool {
	back, err := mail.ParseAddress(a.String(), true)
	return err == nil && back == a
}

// begin forgets what another connection said.
func (t *transaction) begin(l *link) {
	t.link, t.answered = l, t.answered[:0]
	t.mailed, t.accepted, t.goAhead, t.begun = false, t.accepted[:0], false, false
}

// refuse settles all that a next hop with these extensions can't be asked.
func (t *transaction) refuse(e extensions) *failure {
	if t.utf8 && !e.utf8 {
		if failed := t.refuseUTF8(); failed != nil {
			return failed
		}
	}
	if size := t.content.Size(); e.maxSize > 0 && size > e.maxSize {
		t.settleAll(mail.Reply{Code: 552, Detail: "3.4", Text: fmt.Sprintf("the message has %d bytes, the next hop takes %d", size, e.maxSize)})
	}
	return nil
}

func (t *transaction) done() bool {
	for _, s := range t.settled {
		if !s {
			return false
		}
	}
	return true
}

// settle gives a recipient its answer: the class of the reply is the status.
func (t *transaction) settle(i int, r mail.Reply) {
	o := &t.out[i]
	o.Reply = bounded(r)
	switch r.Code / 100 {
	case 2:
		o.Status = mail.Delivered
	case 5:
		o.Status = mail.Failed
	default:
		o.Status = mail.Deferred
	}
	if t.link != nil {
		o.Remote, o.TLS = t.link.remote, t.link.tls
		o.DSN = o.Status == mail.Delivered && t.link.ext.dsn
	}
	t.settled[i] = true
	t.answered = append(t.answered, i)
}

// takeBack forgets what this connection said of recipients: with one reply too
// many or too few, a refusal may have been meant for another.
func (t *transaction) takeBack() {
	for _, i := range t.answered {
		t.settled[i] = false
		t.out[i] = mail.Outcome{Recipient: t.out[i].Recipient}
	}
}

func (t *transaction) settleAll(r mail.Reply) {
	for i, s := range t.settled {
		if !s {
			t.settle(i, r)
		}
	}
}

func (t *transaction) settleAccepted(r mail.Reply) {
	for _, i := range t.accepted {
		t.settle(i, r)
	}
	t.accepted = t.accepted[:0]
}

// deferRest is for when the last host has failed.
func (t *transaction) deferRest(failed *failure) {
	for i, s := range t.settled {
		if !s {
			t.out[i].Reply, t.out[i].Remote = failed.reply, failed.remote
			if failed.final {
				t.out[i].Status = mail.Failed
			}
		}
	}
}

// tooMany makes of a 552 to RCPT the 452 that is meant (RFC 5321 4.5.3.1.10),
// unless its enhanced code says otherwise: a full mailbox, a large message.
func tooMany(r mail.Reply) mail.Reply {
	if r.Code == 552 && (r.Detail == "" || strings.HasPrefix(r.Detail, "5.")) {
		r.Code = 452
	}
	return r
}
