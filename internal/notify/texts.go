package notify

import (
	"fmt"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// texts are a mail in plain words.
type texts struct{ subject, body string }

// subjects say what happened, before what it is about.
var subjects = map[Kind]string{
	Virus: "Virus", BannedFile: "Banned file", FilterDown: "Filter down", FilterUp: "Filter works again",
	QueueAge: "Mail waits for long", Certificate: "Certificate ends", DiskLow: "Disk low", Signatures: "Signatures old",
}

func (n *Notifier) forAdmin(cfg *Config, e Event) texts {
	t := texts{subject: fmt.Sprintf("[%s] %s: %s", cfg.Hostname, subjects[e.Kind], clean(e.About, 120))}
	var b strings.Builder
	b.WriteString(clean(e.Text, 1000) + "\r\n\r\n")
	for _, f := range [][2]string{
		{"Time", e.Time.Format(time.RFC1123Z)}, {"Host", cfg.Hostname}, {"Message", e.ID}, {"Client", e.Client},
		{"From", e.Sender}, {"To", strings.Join(e.To, ", ")}, {"Subject", e.Subject}, {"Became of it", e.Action},
	} {
		if f[1] != "" {
			fmt.Fprintf(&b, "%-13s %s\r\n", f[0]+":", clean(f[1], 600))
		}
	}
	if e.ID != "" {
		fmt.Fprintf(&b, "\r\ngatepost explain %s\r\n", e.ID)
	}
	t.body = b.String()
	return t
}

// forRecipient is without what only those should know who look after the gateway.
func (n *Notifier) forRecipient(cfg *Config, e Event) texts {
	what := "a virus was found in it"
	if e.Kind == BannedFile {
		what = "it has an attachment of a kind that is not allowed"
	}
	subject := "(no subject)"
	if e.Subject != "" {
		subject = clean(e.Subject, 200)
	}
	became := "It was not delivered."
	if e.Action == mail.Quarantine.String() {
		became = "It is held. Your mail administrator can release it if you expect it."
	}
	return texts{
		subject: "A message to you was stopped: " + what,
		body: fmt.Sprintf("A message to you was stopped: %s.\r\n\r\nFrom:    %s\r\nSubject: %s\r\nTime:    %s\r\n\r\n%s\r\nThe address of the sender may be forged: do not answer it.\r\n\r\nMessage %s at %s\r\n",
			what, clean(e.Sender, 320), subject, e.Time.Format(time.RFC1123Z), became, e.ID, cfg.Hostname),
	}
}

// clean is text of strangers on one line, of bounded length, with nothing that
// turns the direction of what stands beside it.
func clean(s string, most int) string {
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
