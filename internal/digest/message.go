package digest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/textproto"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// row is a message as it is shown to its recipient.
type row struct {
	ID, From, Subject, Time, Why string
	Links                        []link
}

type link struct{ Text, URL string }

// letter is what the templates show.
type letter struct {
	Rcpt, Hostname string
	New            int
	More           int // that are not listed
	Rows           []row
	All            string // the link to all of it
	Until          string
}

// urlOf makes the link for a ticket.
type urlOf func(ticket) (string, error)

func (d *Digests) ticketURL(t ticket) (string, error) {
	signed, err := d.keys.sign(t, d.deps.Now())
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(d.cfg.Load().URL, "/") + "/held/" + signed, nil
}

// compose writes a digest.
func (d *Digests) compose(cfg *Config, rcpt mail.Address, fresh []*Item, at time.Time, url urlOf) (Mail, error) {
	until := at.Add(cfg.LinkAge)
	l := letter{Rcpt: plain(rcpt.String(), 320), Hostname: cfg.Hostname, New: len(fresh), Until: until.Format("2 January 2006")}
	shown := fresh[:min(len(fresh), cfg.MaxItems)]
	l.More = len(fresh) - len(shown)
	var err error
	if l.All, err = url(ticket{List, "", rcpt, until}); err != nil {
		return Mail{}, err
	}
	for _, it := range shown {
		r := d.row(it)
		for _, a := range offered(it) {
			u, err := url(ticket{a, it.ID, rcpt, until})
			if err != nil {
				return Mail{}, err
			}
			r.Links = append(r.Links, link{labels[a], u})
		}
		l.Rows = append(l.Rows, r)
	}
	subject := fmt.Sprintf("%d messages were held for you", l.New)
	if l.New == 1 {
		subject = "1 message was held for you: " + l.Rows[0].Subject
	}
	return d.mail(cfg, rcpt, subject, l)
}

// row is how a message is shown. What strangers wrote stands in it as text.
func (d *Digests) row(it *Item) row {
	from := plain(d.deps.Quarantine.Author(it.ID), 200)
	if from == "" {
		from = plain(it.Sender.String(), 200)
	}
	if from == "" {
		from = "(a notification without a sender)"
	}
	subject := plain(it.Subject, 200)
	if subject == "" {
		subject = "(no subject)"
	}
	return row{ID: it.ID, From: from, Subject: subject, Time: it.Received.Local().Format("Mon 2 Jan, 15:04"), Why: why(it.Kind)}
}

// offered is what a recipient may do with a message.
func offered(it *Item) []Action {
	if it.Kind.NeedsApproval() {
		return []Action{Delete, Block}
	}
	return []Action{Release, Delete, Allow, Block}
}

var labels = map[Action]string{Release: "Release", Delete: "Delete", Allow: "Allow sender", Block: "Block sender"}

// why tells a reason in words for everybody.
func why(k mail.HeldKind) string {
	switch k {
	case mail.HeldVirus:
		return "A virus was found in it. Ask your mail administrator if you need it."
	case mail.HeldAttachment:
		return "It has an attachment of a kind that is not allowed. Ask your mail administrator if you need it."
	case mail.HeldUnscanned:
		return "A part of it could not be checked for viruses. Release it only if you expect it."
	case mail.HeldAmbiguous:
		return "It is built in a way that may hide something. Release it only if you expect it."
	case mail.HeldDMARC:
		return "It is probably not from whom it says it is."
	case mail.HeldSpam:
		return "It looks like spam."
	}
	return "It was held by a rule of this mail system, or because you have blocked its sender."
}

// plain makes text of strangers fit for a line that people read: no controls, and
// nothing that turns the direction of what stands beside it.
func plain(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r == 0x061c || r == 0x200e || r == 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return -1
		}
		return r
	}, strings.Join(strings.Fields(mail.CleanText(s)), " "))
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// mail puts both forms into one message.
func (d *Digests) mail(cfg *Config, rcpt mail.Address, subject string, l letter) (Mail, error) {
	var body bytes.Buffer
	parts := multipart.NewWriter(&body)
	for _, form := range []struct{ kind, name string }{{"plain", "digest.txt"}, {"html", "digest.html"}} {
		head := textproto.MIMEHeader{"Content-Type": {"text/" + form.kind + "; charset=utf-8"}, "Content-Transfer-Encoding": {"quoted-printable"}}
		w, err := parts.CreatePart(head)
		if err == nil {
			err = encode(w, func(w io.Writer) error { return d.view.write(w, form.name, l) })
		}
		if err != nil {
			return Mail{}, fmt.Errorf("digest: writing: %w", err)
		}
	}
	if err := parts.Close(); err != nil {
		return Mail{}, fmt.Errorf("digest: writing: %w", err)
	}
	from := mime.QEncoding.Encode("utf-8", "Held mail") + " <" + cfg.sender() + ">"
	return Mail{Body: body.Bytes(), Header: mail.Header{
		mail.NewField("From", from),
		mail.NewField("To", rcpt.Path()),
		mail.NewField("Subject", mime.QEncoding.Encode("utf-8", subject)),
		mail.NewField("MIME-Version", "1.0"),
		mail.NewField("Content-Type", `multipart/alternative; boundary="`+parts.Boundary()+`"`),
	}}, nil
}

func encode(w io.Writer, write func(io.Writer) error) error {
	q := quotedprintable.NewWriter(w)
	return errors.Join(write(q), q.Close())
}

// Preview is the digest that a recipient would get now, with links that lead
// nowhere. ok is false where nothing is held for it.
func (d *Digests) Preview(_ context.Context, rcpt mail.Address) (m Mail, ok bool, err error) {
	cfg, at := d.cfg.Load(), d.deps.Now()
	items := d.boxOf(rcpt).items
	if len(items) == 0 {
		return Mail{}, false, nil
	}
	m, err = d.compose(cfg, rcpt, items, at, func(t ticket) (string, error) {
		return strings.TrimSuffix(cfg.URL, "/") + "/held/preview-of-" + string(t.action), nil
	})
	return m, err == nil, err
}
