package journal

import (
	"mime"
	"time"

	"gatepost/internal/mail"
)

const dateFormat = "Mon, 2 Jan 2006 15:04:05 -0700"

// header is the one of the copy.
func (r *record) header() mail.Header {
	subject := "Journal: " + mail.CleanText(r.message.Header.Get("Subject"))
	to := "undisclosed-recipients:;"
	if !r.journal.to.IsNull() {
		to = r.journal.to.Path()
	}
	return mail.Header{
		mail.NewField("From", "Journal <MAILER-DAEMON@"+r.journal.Hostname+">"),
		mail.NewField("To", to),
		mail.NewField("Subject", mime.QEncoding.Encode("utf-8", clip(subject, longestSubject))),
		mail.NewField("Date", r.now.Format(dateFormat)),
		mail.NewField("Message-ID", "<"+r.id+"@"+r.journal.Hostname+">"),
		mail.NewField("Auto-Submitted", "auto-generated"), // RFC 3834 5
		mail.NewField("X-Gatepost-Journal", r.journal.Name),
		mail.NewField("MIME-Version", "1.0"),
		mail.NewField("Content-Type", `multipart/mixed; boundary="`+r.boundary()+`"`),
	}
}

const longestSubject = 200

func clip(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n])
}

// facts are what the envelope says, and who brought it.
func (r *record) facts() [][2]string {
	s := r.tx.Session
	f := [][2]string{
		{"Sender", r.env.Sender.Path()},
		{"Message-ID", r.message.Header.Get("Message-ID")},
		{"Subject", r.message.Header.Get("Subject")},
	}
	for _, p := range r.env.Recipients {
		f = append(f, [2]string{"Recipient", p.Path() + r.outcome(p.Address)})
	}
	f = append(f,
		[2]string{"Gatepost-ID", r.tx.ID},
		[2]string{"Journal", r.journal.Name + ", " + string(r.journal.When) + " filtering"},
		[2]string{"Received", r.now.Format(time.RFC3339Nano)},
		[2]string{"Listener", s.Listener},
		[2]string{"Helo", s.Helo})
	if s.Client.IsValid() {
		f = append(f, [2]string{"Client", s.Name + "[" + s.Client.Addr().Unmap().String() + "]"})
	}
	if s.User != "" {
		f = append(f, [2]string{"User", s.User})
	}
	return f
}

// outcome is what becomes of the copy for one recipient of the original.
func (r *record) outcome(a mail.Address) string {
	if r.verdict == nil {
		return ""
	}
	for i, p := range r.tx.Envelope.Recipients {
		if p.Address == a {
			return " (" + outcomeName(r.verdict.For(i).Action) + ")"
		}
	}
	return " (added)"
}

func outcomeName(a mail.Action) string {
	switch {
	case a.Delivers():
		return "accepted"
	case a == mail.Discard:
		return "discarded"
	}
	return "held" // also refused for one of several recipients
}
