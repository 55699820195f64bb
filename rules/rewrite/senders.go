package rewrite

import (
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Senders rewrites senders on the way out: first by the table of generic
// names, then by masquerading.
type Senders struct {
	generics   table
	generic    domains // class G
	as         string  // the domain that all appear to be in; "" for no masquerading
	masked     domains // class M
	exceptions domains // class N
	exposed    []string
	envelope   bool
	recipients bool
}

// rewrite returns what an address appears as, and whether that is another.
func (s *Senders) rewrite(a mail.Address) (mail.Address, bool) {
	if a.Domain == "" {
		return a, false
	}
	if b, ok := s.genericOf(a); ok {
		return b, b != a
	}
	domain := a.ASCIIDomain()
	if s.as == "" || domain == s.as || !s.masked.contains(domain) || s.exceptions.contains(domain) || slices.Contains(s.exposed, strings.ToLower(a.Local)) {
		return a, false
	}
	return mail.Address{Local: a.Local, Domain: s.as}, true
}

// genericOf looks a sender up in sendmail's order.
func (s *Senders) genericOf(a mail.Address) (mail.Address, bool) {
	domain := a.ASCIIDomain()
	if len(s.generics) == 0 || !s.generic.contains(domain) {
		return a, false
	}
	local := strings.ToLower(a.Local)
	user, detail, plus := cutDetail(local)
	_, written, _ := cutDetail(a.Local)
	keys := [][2]string{{local + "@" + domain, ""}}
	if plus && detail != "" {
		keys = append(keys, [2]string{user + "+*@" + domain, written})
	}
	if plus {
		keys = append(keys, [2]string{user + "@" + domain, ""})
	}
	keys = append(keys, [2]string{"@" + domain, a.Local}, [2]string{local, ""})
	for _, k := range keys {
		e, ok := s.generics[k[0]]
		if !ok {
			continue
		}
		text := expand(e.value, k[1])
		if !strings.Contains(text, "@") {
			text += "@" + s.home(domain)
		}
		b, err := mail.ParseAddress(text, true)
		return b, err == nil // what is no address changes nothing; check has warned
	}
	return a, false
}

// home is the domain of a generic name without one.
func (s *Senders) home(domain string) string {
	if s.as != "" {
		return s.as
	}
	return domain
}

// Edits returns what is to be changed of a message on its way out.
func (s *Senders) Edits(env mail.Envelope, h mail.Header) []mail.Edit {
	var edits []mail.Edit
	if s.envelope {
		if to, changed := s.rewrite(env.Sender.Address); changed {
			edits = append(edits, mail.ChangeSender{Sender: mail.Path{Address: to, Args: env.Sender.Args}})
		}
	}
	for i, f := range h {
		if !s.concerns(f) {
			continue
		}
		if g, changed := rewriteField(f, s.rewrite); changed {
			edits = append(edits, mail.ChangeHeader{At: i, Field: g})
		}
	}
	return edits
}

var (
	senderFields    = []string{"From", "Sender", "Reply-To", "Resent-From", "Resent-Sender", "Resent-Reply-To", "Errors-To", "Disposition-Notification-To", "Return-Receipt-To"}
	recipientFields = []string{"To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"}
)

func (s *Senders) concerns(f mail.Field) bool {
	is := func(name string) bool { return f.Is(name) }
	return slices.ContainsFunc(senderFields, is) || s.recipients && slices.ContainsFunc(recipientFields, is)
}

// check names what is wrong with the table of generic names.
func (s *Senders) check(file string) (errs []error) {
	for key, e := range s.generics {
		text := expand(e.value, "x")
		if !strings.Contains(text, "@") {
			text += "@local.invalid"
		}
		if a, err := mail.ParseAddress(text, true); err != nil || a.IsNull() {
			errs = append(errs, fmt.Errorf("%s:%d: %s: %q is no address", file, e.line, key, e.value))
		}
	}
	return errs
}
