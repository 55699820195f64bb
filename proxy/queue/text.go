package queue

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// mostExplained is for how many recipients the part for people says more than
// the address.
const mostExplained = 50

const textWidth = 76

// text is the part for people: for somebody who has never seen one of these.
func (r *report) text() string {
	var b strings.Builder
	para(&b, "", "This is the mail system at "+r.hostname+".")
	if len(r.failed) > 0 {
		para(&b, "", "Your mail could not be delivered to the recipients below. Nobody will try again.")
		r.list(&b, r.failed, r.explain)
		if r.early {
			para(&b, "", "For the other recipients we go on trying.")
		}
		r.advise(&b)
	}
	if len(r.delayed) > 0 {
		para(&b, "", "Your mail has not reached the recipients below yet. This is a warning only: there is no need to send it again.")
		r.list(&b, r.delayed, r.explain)
		para(&b, "", "We go on trying until "+r.until.Format(dateFormat)+". If it can't be delivered until then, you will be told.")
	}
	if len(r.relayed) > 0 {
		para(&b, "", "Your mail was passed on to the mail systems of the recipients below, as you asked to be told. "+
			"They send no such notes themselves, so this is the last one.")
		r.list(&b, r.relayed, r.passedOn)
	}
	para(&b, "", "Sent: "+r.msg.Received.Format(dateFormat)+". If you ask somebody for help, quote this number: "+r.msg.ID)
	if len(r.failed) > 0 {
		para(&b, "", "If you did not send this mail, somebody else used your address. There is nothing you need to do.")
	}
	switch {
	case r.content == nil:
	case r.back.full:
		para(&b, "", "The mail is attached.")
	default:
		para(&b, "", "The header of the mail is attached.")
	}
	return strings.TrimSuffix(b.String(), "\r\n")
}

func (r *report) list(b *strings.Builder, index []int, explain func(spool.Recipient) string) {
	for n, i := range index {
		how := r.msg.Recipients[i]
		b.WriteString(r.msg.Envelope.Recipients[i].Path() + "\r\n")
		if n < mostExplained {
			b.WriteString("    " + explain(how) + "\r\n")
			para(b, "    ", truncate(how.Reply.String(), longestDiagnostic))
		}
	}
	if len(index) > mostExplained {
		b.WriteString("\r\n")
	}
}

func (r *report) explain(how spool.Recipient) string {
	switch {
	case how.Status == mail.Deferred && how.Remote == "":
		return "No mail system for it could be reached so far:"
	case how.Status == mail.Deferred:
		return fmt.Sprintf("The mail system %s puts it off:", mail.CleanText(remoteName(how.Remote)))
	case how.Reply.Code < 500:
		return fmt.Sprintf("We tried for %s, in vain:", spoken(r.now.Sub(r.msg.Received)))
	case how.Remote == "":
		return "This mail system does not know where to deliver it:"
	}
	return fmt.Sprintf("The mail system %s refused it:", mail.CleanText(remoteName(how.Remote)))
}

func (r *report) passedOn(how spool.Recipient) string {
	return fmt.Sprintf("The mail system %s took it:", mail.CleanText(remoteName(how.Remote)))
}

// advise says what the sender can do, once for each kind of failure.
func (r *report) advise(b *strings.Builder) {
	var said []string
	for _, i := range r.failed {
		if a := advice(r.msg.Recipients[i]); !slices.Contains(said, a) {
			said = append(said, a)
		}
	}
	para(b, "", "What you can do: "+strings.Join(said, " "))
}

// advice goes by the enhanced status code (RFC 3463 3), which is a hint and no
// more.
func advice(how spool.Recipient) string {
	subject, detail, _ := strings.Cut(how.Reply.Detail, ".")
	switch {
	case how.Reply.Code < 500:
		return "Send the mail again later, or reach the recipient in another way."
	case how.Remote == "":
		return "Check the part of the address behind the \"@\"."
	case subject == "1":
		return "Check the address for typing mistakes."
	case subject == "2" && detail == "2":
		return "The mailbox is full: tell the recipient in another way."
	case subject == "2" && detail == "3", subject == "3" && detail == "4":
		return "The mail is too large: send it in smaller pieces or without attachments."
	case subject == "7":
		return "The recipient's side does not want this mail: ask the recipient, in another way, to have it allowed."
	}
	return "Read what the other mail system said above, or show it to the people who run your mail."
}

// spoken is a time in the largest unit that fits.
func spoken(d time.Duration) string {
	unit, name := time.Minute, "minute"
	switch {
	case d >= 48*time.Hour:
		unit, name = 24*time.Hour, "day"
	case d >= 2*time.Hour:
		unit, name = time.Hour, "hour"
	case d < time.Minute:
		return "less than a minute"
	}
	n := int(d / unit)
	if n != 1 {
		name += "s"
	}
	return fmt.Sprintf("%d %s", n, name)
}

// para writes s as a paragraph with an empty line behind it.
func para(b *strings.Builder, indent, s string) {
	width := 0
	for i, word := range strings.Fields(mail.CleanText(s)) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
			b.WriteString(indent)
			width = len(indent)
		case width+1+n > textWidth:
			b.WriteString("\r\n" + indent)
			width = len(indent)
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += n
	}
	b.WriteString("\r\n\r\n")
}
