package policy

import (
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Edits are what the rules that matched change in header and envelope, for one
// recipient. copied are the addresses that another part of the message was sent
// to by a rule; those of this one are added to it.
func (r *Run) Edits(res Result, rcpt mail.Path, copied map[mail.Address]bool) []mail.Edit {
	var edits []mail.Edit
	done := make(map[int]bool) // fields that a rule has changed
	for _, rule := range res.acting {
		d := &rule.does
		if r.tx.Message != nil {
			edits = append(edits, headerEdits(r.tx.Message.Header, d, done)...)
		}
		if !d.redirect.IsNull() && d.redirect != rcpt.Address && !rcpt.IsNull() {
			edits = append(edits, mail.DeleteRecipient{Recipient: rcpt.Address})
			if !copied[d.redirect] && !r.receives(d.redirect) {
				copied[d.redirect] = true
				edits = append(edits, mail.AddRecipient{Recipient: mail.Path{Address: d.redirect, Args: rcpt.Args}})
			}
		}
		for _, to := range d.copies {
			if !copied[to] && !r.receives(to) {
				copied[to] = true
				// The sender must not hear of who else gets it (RFC 3461 4.1).
				edits = append(edits, mail.AddRecipient{Recipient: mail.Path{Address: to, Args: []string{"NOTIFY=NEVER"}}})
			}
		}
	}
	return edits
}

func (r *Run) receives(to mail.Address) bool {
	return slices.ContainsFunc(r.tx.Envelope.Recipients, func(p mail.Path) bool { return p.Address == to })
}

func headerEdits(h mail.Header, d *effects, done map[int]bool) []mail.Edit {
	var edits []mail.Edit
	top := 0
	if len(h) > 0 && h[0].Is("Received") { // ours stays on top
		top = 1
	}
	for _, name := range d.remove {
		for i, f := range h {
			if f.Is(name) && !done[i] {
				done[i] = true
				edits = append(edits, mail.DeleteHeader{At: i})
			}
		}
	}
	for _, c := range d.change {
		found := false
		for i, f := range h {
			switch {
			case !f.Is(c.name) || done[i]:
			case found: // what is changed is there once
				done[i] = true
				edits = append(edits, mail.DeleteHeader{At: i})
			default:
				found, done[i] = true, true
				edits = append(edits, mail.ChangeHeader{At: i, Field: mail.NewField(f.Name(), c.value)})
			}
		}
		if !found {
			edits = append(edits, mail.InsertHeader{At: len(h), Field: mail.NewField(c.name, c.value)})
		}
	}
	for _, a := range d.add {
		edits = append(edits, mail.InsertHeader{At: top, Field: mail.NewField(a.name, a.value)})
	}
	return edits
}

// Alter is what the rules that matched change in text and parts. An error is
// that of a condition on parts.
func (r *Run) Alter(res Result) ([]mail.Alteration, error) {
	var all []mail.Alteration
	subject := ""
	for _, rule := range res.acting {
		d := &rule.does
		if !strings.Contains(subject, d.subject) {
			subject += d.subject
		}
		if d.strip != nil {
			paths, err := r.paths(d.strip)
			if err != nil {
				return nil, err
			}
			if len(paths) > 0 {
				all = append(all, mail.StripParts{Paths: paths, Why: d.stripWhy})
			}
		}
		if d.rename != nil {
			paths, err := r.paths(d.rename)
			if err != nil {
				return nil, err
			}
			if len(paths) > 0 {
				all = append(all, mail.RenameParts{Paths: paths})
			}
		}
	}
	if subject != "" {
		all = append(all, mail.TagSubject{Text: subject})
	}
	return all, nil
}

// paths are those of the parts that a program leaves.
func (r *Run) paths(p *program) ([]string, error) {
	v, err := r.run(p)
	if err != nil {
		return nil, err
	}
	var all []string
	list, _ := v.([]any)
	for _, e := range list {
		if part, ok := e.(*Part); ok {
			all = append(all, part.Path)
		}
	}
	return all, nil
}

// Asides are what the rules that matched want beside: entries of lists and
// notices.
func (r *Run) Asides(res Result, rcpt mail.Address) (listings []mail.Listing, notices []mail.Notice) {
	for _, rule := range res.acting {
		for _, l := range rule.does.listing {
			for _, key := range r.listKeys(l) {
				listings = append(listings, mail.Listing{List: l.list.name, Key: key, For: l.span, Rule: rule.name})
			}
		}
		for _, to := range rule.does.notify {
			notices = append(notices, mail.Notice{To: to, Rule: rule.name, Where: rule.where, Rcpts: []mail.Address{rcpt}})
		}
	}
	return listings, notices
}

// maxKeys go on a list for one message.
const maxKeys = 20

// listKeys are what of the message goes on a list: never what belongs to our
// own, or to a friend.
func (r *Run) listKeys(l listing) []string {
	e := &r.env
	if e.Client.Ours {
		return nil
	}
	var values []string
	switch l.key {
	case "client":
		values = []string{e.Client.IP}
	case "sender":
		values = []string{e.Sender.Address}
	case "sender.domain":
		values = []string{e.Sender.Domain}
	case "urls":
		for _, u := range e.URLs {
			values = append(values, u.Host)
		}
	case "sha256":
		for _, p := range e.Parts {
			if !p.Inline {
				values = append(values, p.SHA256)
			}
		}
	}
	var keys []string
	for _, v := range values {
		if v != "" && len(keys) < maxKeys && !slices.Contains(keys, v) && !r.isFriend(l.list, v) {
			keys = append(keys, v)
		}
	}
	return keys
}

// isFriend asks the lists of friends for a value, and for who brought it.
func (r *Run) isFriend(of *list, value string) bool {
	for _, name := range of.dynamic.Never {
		l := r.set.lists[name]
		for _, v := range []string{value, r.env.Client.IP, r.env.Client.Name, r.env.Sender.Address, r.env.Sender.Domain} {
			if _, ok := l.find(v, r.now, func(int) {}); ok && v != "" {
				return true
			}
		}
	}
	return false
}
